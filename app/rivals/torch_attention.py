#!/usr/bin/env python3
"""PyTorch's scaled-dot-product attention over fp16 keys and values as a rival of `rotorquant bench --device cuda --ops attend`.

The protocol is that of lib/evaluation/bench/script_operation.hpp. The shape is the benchmark's own: heads of 32,768 tokens, one
token's queries, four query heads to a KV head; like the others it starts each run with a cache full of other data. PyTorch picks
the back end unless an argument (cudnn, flash, efficient, math) names one."""
import contextlib
import json
import os
import sys

setting = {name: os.environ[f"ROTORQUANT_BENCH_{name}"] for name in ("DIM", "VECTORS", "TYPE", "DEVICE")}
dim, vectors = int(setting["DIM"]), int(setting["VECTORS"])
TOKENS, QUERIES = 32768, 4


def skip(why):
    print(json.dumps({"skip": why}), flush=True)
    sys.exit(0)


if not setting["DEVICE"].startswith("cuda"):
    skip("it runs on a GPU")
if setting["TYPE"] != "fp16" or vectors % TOKENS != 0:
    skip(f"it takes fp16 rows, a multiple of {TOKENS}")
try:
    import torch
except ImportError as error:
    skip(str(error))
if not torch.cuda.is_available():
    skip("PyTorch sees no GPU")

from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402: after the checks

backends = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION,
            "efficient": SDPBackend.EFFICIENT_ATTENTION, "math": SDPBackend.MATH}
name = sys.argv[1] if len(sys.argv) > 1 else None
choice = sdpa_kernel(backends[name]) if name else contextlib.nullcontext()
heads = vectors // TOKENS
device = torch.device(setting["DEVICE"])
torch.manual_seed(1)
keys, values = (torch.randn(heads, 1, TOKENS, dim, device=device, dtype=torch.float16) for _ in range(2))
queries = torch.randn(heads, QUERIES, 1, dim, device=device, dtype=torch.float16)
other = torch.ones(4 * torch.cuda.get_device_properties(device).L2_cache_size, dtype=torch.uint8, device=device)


def attend():
    return torch.nn.functional.scaled_dot_product_attention(queries, keys, values, enable_gqa=True)


with choice:
    got = attend().float()
    scores = torch.einsum("hqd,hktd->hqt", queries[:, :, 0].float(), keys.float()) / dim**0.5
    want = torch.einsum("hqt,hktd->hqd", scores.softmax(-1), values.float())
    error = (got[:, :, 0] - want).norm() / want.norm()
    assert error < 5e-3, f"PyTorch's attention errs by {error}"
    del scores, want
    size = 2 * vectors * dim * 2
    print(json.dumps({"operation": "attend", "quantizer": f"torch {name or 'default'}", "bytes_read": size,
                      "bytes_written": got.numel() * 2}), flush=True)
    for line in sys.stdin:
        seconds = 0.0
        for _ in range(int(line)):
            other.sum()  # read, not written: writing back would fall to the run
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            attend()
            end.record()
            end.synchronize()
            seconds += 1e-3 * begin.elapsed_time(end)
        print(seconds, flush=True)

#!/usr/bin/env python3
"""FAISS's scalar quantizer for TurboQuant (QT_Nbit_tqmse behind a random rotation) as a rival of `rotorquant bench --rival`.

The protocol is that of lib/evaluation/bench/script_operation.hpp. FAISS takes float32 alone: its input is not rounded to 16 bits
and the bytes it is charged are those it reads."""
import json
import os
import sys
import time

setting = {name: os.environ[f"ROTORQUANT_BENCH_{name}"] for name in ("DIM", "BITS", "VECTORS", "THREADS", "DEVICE")}
dim, bits, vectors, threads = (int(setting[name]) for name in ("DIM", "BITS", "VECTORS", "THREADS"))


def skip(why):
    print(json.dumps({"skip": why}), flush=True)
    sys.exit(0)


if setting["DEVICE"] != "cpu":
    skip("it runs on the CPU")
try:
    import faiss
    import numpy
except ImportError as error:
    skip(str(error))
kind = getattr(faiss.ScalarQuantizer, f"QT_{bits}bit_tqmse", None)
if kind is None:
    skip(f"faiss {faiss.__version__} has no QT_{bits}bit_tqmse")

faiss.omp_set_num_threads(threads)
random = numpy.random.default_rng(1)
x = numpy.tile(random.standard_normal((min(vectors, 4096), dim), dtype=numpy.float32), (-(-vectors // 4096), 1))[:vectors]
x /= numpy.linalg.norm(x, axis=1, keepdims=True)  # the quantizer takes unit vectors; its user normalises
rotation = faiss.RandomRotationMatrix(dim, dim)
rotation.init(1)
index = faiss.IndexPreTransform(rotation, faiss.IndexScalarQuantizer(dim, kind, faiss.METRIC_L2))
index.train(x[:4096])
codes = index.sa_encode(x[:64])
error = ((index.sa_decode(codes) - x[:64]) ** 2).sum() / 64
assert error < 1, f"faiss decodes with error {error}"

print(json.dumps({"operation": "encode", "quantizer": f"faiss QT_{bits}bit_tqmse", "bytes_read": x.nbytes,
                  "bytes_written": vectors * index.sa_code_size()}), flush=True)
for line in sys.stdin:
    begin = time.perf_counter()
    for _ in range(int(line)):
        index.sa_encode(x)
    print(time.perf_counter() - begin, flush=True)

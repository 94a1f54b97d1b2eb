#!/usr/bin/env python3
"""Captures queries, keys and values of a Hugging Face causal model as attention sees them, in the dump format of README.md.

    python data/capture.py MODEL --text FILE -o DUMP.h5
    python data/capture.py model.gguf --token-ids OTHER.h5 --layers 0,5-9 --decode 64 -o DUMP.h5

A recording function takes the place of the model's attention function (transformers' AttentionInterface): what it is handed,
after RoPE and before grouped heads are repeated, goes to disk layer by layer, and attention itself is transformers' own
`sdpa`. The softmax scale is the one handed over; RoPE is measured on the model's own keys (rope.py). Attention that the
format cannot express (windows shorter than the text, soft caps, learned sinks or biases, prefixes that see each other) is
refused by name. Needs requirements.txt; files appear under their final name only when complete.
"""

import argparse
import contextlib
import inspect
import os
import pathlib

import h5py
import numpy
import torch
from tqdm import tqdm
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

import rope
from language_model import Failure, add_model_options, load_model, positive, read_token_ids, run

RECORDER = "rotorquant_recorder"
CHUNK_TOKENS = 512  # one chunk of a head is at most this long; at most as many decoded tokens of a layer wait in memory
DEFAULT_TOKENS = 512


class Recorder:
    """An attention function that hands each layer's new rows, query [B, H_q, n, d], key and value [B, H_kv, n, d], to `sink`."""

    def __init__(self):
        self.sink = None
        self.total_tokens = None  # of the whole text: attention windows must be as long
        self.softmax_scale = {}  # layer -> scale

    def __call__(self, module, query, key, value, attention_mask, scaling=None, **keywords):
        layer = module.layer_idx
        if self.sink is not None:
            self.check_expressible(layer, module, query, key, attention_mask, keywords)
            self.softmax_scale[layer] = query.shape[-1] ** -0.5 if scaling is None else float(scaling)
            new = query.shape[2]  # the cache holds earlier rows in front of those of this call
            self.sink(layer, query=query, key=key[:, :, -new:], value=value[:, :, -new:])
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **keywords)

    def check_expressible(self, layer, module, query, key, mask, keywords):
        where = f"layer {layer}: the dump format cannot express"
        window = keywords.get("sliding_window")
        if window is not None and window < self.total_tokens:
            raise Failure(f"{where} its attention window of {window} tokens, shorter than the text of {self.total_tokens}: "
                          f"capture at most {window}")
        for name, meaning in (("softcap", "capped attention scores"), ("s_aux", "learned attention sinks"),
                              ("position_bias", "a position bias")):
            if keywords.get(name) is not None:
                raise Failure(f"{where} {meaning}")
        new, all_keys = query.shape[2], key.shape[2]
        if mask is None:
            causal = new == 1 or keywords.get("is_causal") is not False and getattr(module, "is_causal", True)
        else:
            seen = mask if mask.dtype == torch.bool else mask == 0
            every = torch.ones(new, all_keys, dtype=torch.bool, device=seen.device).tril(all_keys - new)
            causal = bool((seen[..., -all_keys:] == every).all())
        if not causal:
            raise Failure(f"{where} attention that is not simply causal")


def register():
    """The recorder that models loaded with attention RECORDER call."""
    recorder = Recorder()
    AttentionInterface.register(RECORDER, recorder)
    AttentionMaskInterface.register(RECORDER, sdpa_mask)
    return recorder


class DumpFile:
    """A dump being written under a temporary name; `finish` gives it its own."""

    def __init__(self, path, dtype, num_tokens):
        self.path = pathlib.Path(path)
        self.temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
        self.dtype = dtype
        self.num_tokens = num_tokens
        self.waiting = {}  # dataset -> rows not yet written
        self.written = {}  # dataset -> tokens written
        self.file = h5py.File(self.temporary, "w")

    def append(self, name, rows):
        """Appends rows [H, n, d] to the dataset, by whole chunks or once its last token has come."""
        waiting = self.waiting.setdefault(name, [])
        waiting.append(rows.to("cpu", getattr(torch, self.dtype)))
        count = sum(part.shape[1] for part in waiting)
        start = self.written.get(name, 0)
        if count < CHUNK_TOKENS and start + count < self.num_tokens:
            return
        block = torch.cat(waiting, dim=1)
        if not torch.isfinite(block).all():
            raise Failure(f"{name}: a value is not finite in {self.dtype}; other types: --dtype float32 or bfloat16")
        self.dataset(name, block)[:, start : start + count] = (
            block.view(torch.uint16).numpy() if self.dtype == "bfloat16" else block.numpy())
        self.written[name] = start + count
        self.waiting[name] = []

    def dataset(self, name, block):
        if name not in self.file:
            heads, _, dim = block.shape
            data = self.file.create_dataset(
                name, (heads, self.num_tokens, dim), numpy.uint16 if self.dtype == "bfloat16" else self.dtype,
                chunks=(1, min(self.num_tokens, CHUNK_TOKENS), dim), compression="gzip", shuffle=True)
            if self.dtype == "bfloat16":
                data.attrs["dtype"] = "bfloat16"
        return self.file[name]

    def finish(self, attributes, datasets):
        for name, data in datasets.items():
            self.file[name] = data
        self.file.attrs.update(attributes)
        self.file.close()
        os.replace(self.temporary, self.path)

    def discard(self):
        """Leaves nothing behind unless `finish` has run."""
        self.file.close()
        self.temporary.unlink(missing_ok=True)


def parse_layers(text, num_layers):
    """Layer indices of '0,5-9', ascending; all of them for None."""
    if text is None:
        return list(range(num_layers))
    layers = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdecimal() or (last and not last.isdecimal()) or part.endswith("-"):
            raise Failure(f"--layers {text}: '{part}' is not a layer or a range such as 5-9")
        layers.update(range(int(first), int(last or first) + 1))
    if max(layers) >= num_layers:
        raise Failure(f"--layers {text}: the model has layers 0 to {num_layers - 1}")
    return sorted(layers)


def output_paths(output, batch):
    """One path for one passage, DUMP.000.h5, DUMP.001.h5, … for several."""
    path = pathlib.Path(output)
    return [path] if batch == 1 else [path.with_name(f"{path.stem}.{i:03}{path.suffix}") for i in range(batch)]


def passages(token_ids, tokens, batch, source):
    """int64 [batch, tokens]: consecutive passages from the beginning of the text."""
    if batch * tokens > len(token_ids):
        raise Failure(f"{source}: holds {len(token_ids)} tokens, fewer than the {batch} x {tokens} asked for")
    return torch.from_numpy(token_ids[: batch * tokens].reshape(batch, tokens))


@torch.inference_mode()
def probe_rope(model, recorder, layers, token, num_tokens):
    """What RoPE does to the keys of `layers`, measured on a text that repeats `token` (rope.py)."""
    keys = {}

    def keep(layer, query, key, value):
        if layer in layers:
            keys[layer] = key[0].float().cpu().numpy()

    recorder.sink, recorder.total_tokens = keep, 0
    length = num_tokens if rope.depends_on_length(model.config) else min(rope.PROBE_TOKENS, num_tokens)
    forward(model, torch.full((1, max(length, 2)), token, device=model.device), use_cache=False)
    recorder.sink = None
    if missing := sorted(set(layers) - set(keys)):
        raise Failure(f"{type(model).__name__}: layer {missing[0]} does not call transformers' attention interface")
    return rope.identify(model, keys)


def forward(model, token_ids, **keywords):
    """The model's outputs, with logits of the last token alone where the model can."""
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        keywords["logits_to_keep"] = 1
    return model(token_ids, **keywords)


@torch.inference_mode()
def read_and_decode(model, token_ids, decode):
    """Reads token_ids [B, T] at once, then continues by `decode` tokens one at a time, each the likeliest; [B, T + decode]."""
    output = forward(model, token_ids, use_cache=decode > 0)
    before = rope.frequencies(model)
    for _ in range(decode):
        new = output.logits[:, -1:].argmax(-1)
        token_ids = torch.cat([token_ids, new], dim=1)
        output = forward(model, new, past_key_values=output.past_key_values, use_cache=True)
    if any(not numpy.array_equal(values, before[name]) for name, values in rope.frequencies(model).items()):
        raise Failure("the model changed its RoPE frequencies while decoding: capture without --decode")
    return token_ids


def capture(model, recorder, arguments, token_ids, source, layers):
    """Runs the model over token_ids [B, T] and writes one dump for each passage."""
    batch, prompt = token_ids.shape
    num_tokens = prompt + arguments.decode
    measured = probe_rope(model, recorder, layers, int(token_ids[0, 0]), num_tokens)
    with contextlib.ExitStack() as stack:
        files = [DumpFile(path, arguments.dtype, num_tokens) for path in output_paths(arguments.output, batch)]
        for file in files:
            stack.callback(file.discard)
        bar = stack.enter_context(tqdm(total=len(layers) * num_tokens, unit=" tokens·layers", unit_scale=True,
                                       desc="capture", disable=arguments.quiet))
        shapes = {}

        def keep(layer, **tensors):
            if layer not in layers:
                return
            shapes[layer] = {name: (tensor.shape[1], tensor.shape[3]) for name, tensor in tensors.items()}
            for name, tensor in tensors.items():
                for file, rows in zip(files, tensor):
                    file.append(f"layers/{layer:03}/{name}", rows)
            bar.update(tensors["query"].shape[2])

        recorder.sink, recorder.total_tokens = keep, num_tokens
        token_ids = read_and_decode(model, token_ids.to(model.device), arguments.decode).cpu().numpy()
        recorder.sink = None
        attributes, datasets = describe(model, recorder, arguments.model, source, layers, measured, shapes)
        for file, ids in zip(files, token_ids):
            file.finish(attributes, datasets | {"token_ids": ids.astype("i4"),
                                                "positions": numpy.arange(num_tokens, dtype="i4")})


def describe(model, recorder, name, source, layers, measured, shapes):
    """Root attributes and datasets, each as the model used it."""
    for what, values in ("heads or channels", shapes), ("softmax scale", recorder.softmax_scale):
        for layer in layers:
            if values[layer] != values[layers[0]]:
                raise Failure(f"layers {layers[0]} and {layer} differ in {what}, and a dump has one for all: "
                              "choose layers that share them with --layers")
    first = shapes[layers[0]]
    attributes = {
        "format": "rotorquant-kv", "format_version": 1, "source": source,
        "model": pathlib.Path(name).name if os.path.exists(name) else name,
        "num_layers": model.config.get_text_config().num_hidden_layers, "num_query_heads": first["query"][0],
        "num_kv_heads": first["key"][0], "head_dim": first["key"][1], "causal": 1,
        "softmax_scale": recorder.softmax_scale[layers[0]], "rope_stage": measured.stage,
    }
    if measured.stage == "none":
        return attributes, {}
    inv_freq = rope.frequencies(model)[measured.buffer]
    if not numpy.array_equal(inv_freq, measured.inv_freq):
        raise Failure("the model's RoPE frequencies changed with the length of the text; the ones measured do not hold")
    attributes |= {"rope_theta": rope.theta(model.config, inv_freq), "rope_layout": measured.layout,
                   "rotary_dim": 2 * len(inv_freq)}
    return attributes, {"rope_inv_freq": inv_freq}


def main():
    parser = argparse.ArgumentParser(description="Captures queries, keys and values of a causal language model.")
    add_model_options(parser)
    parser.add_argument("-o", "--output", required=True, metavar="DUMP.h5")
    parser.add_argument("--layers", metavar="LIST", help="such as 0,5-9 (default: all)")
    parser.add_argument("--tokens", type=positive, metavar="N",
                        help=f"tokens to read (default: {DEFAULT_TOKENS} of a text, all of a dump)")
    parser.add_argument("--decode", type=int, default=0, metavar="N",
                        help="then generate N tokens one at a time, each the likeliest, and capture them too")
    parser.add_argument("--batch", type=positive, default=1, metavar="N",
                        help="read N consecutive passages at once, each into a dump of its own: DUMP.000.h5, DUMP.001.h5, …")
    parser.add_argument("--dtype", choices=["float16", "float32", "bfloat16"], default="float16",
                        help="type in the file (default float16)")
    arguments = parser.parse_args()
    if arguments.decode < 0:
        parser.error(f"--decode {arguments.decode}: 0 or more")
    for path in output_paths(arguments.output, arguments.batch):
        if not path.parent.is_dir():
            raise Failure(f"{path}: its folder does not exist")
        if arguments.token_ids and path.exists() and path.samefile(arguments.token_ids):
            raise Failure(f"{path}: is an input")

    recorder = register()
    token_ids, source = read_token_ids(arguments)
    tokens = arguments.tokens or (len(token_ids) // arguments.batch if arguments.token_ids else DEFAULT_TOKENS)
    token_ids = passages(token_ids, tokens, arguments.batch, arguments.text or arguments.token_ids)
    model = load_model(arguments, RECORDER)
    layers = parse_layers(arguments.layers, model.config.get_text_config().num_hidden_layers)
    capture(model, recorder, arguments, token_ids, source, layers)


if __name__ == "__main__":
    run(main)

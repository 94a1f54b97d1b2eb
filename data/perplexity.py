#!/usr/bin/env python3
"""Runs a language model with a quantized KV cache: does the tool's attention KL predict what the model then does?

    python data/perplexity.py MODEL --text FILE --quantizers turboquant,kivi,q4_0 --bits 2,3,4 -o OUT.json

1. Reads the text once with the exact cache, and captures queries, keys and values of all layers (capture.py).
2. `rotorquant sweep` measures every quantizer on that capture.
3. For each row of that report and each seed the model reads the text again. As soon as a layer has made its keys and values
   they go through `rotorquant reconstruct`, and its attention sees what comes back. So later layers quantize what
   earlier errors have changed, as in a real cache, by the very code that the sweep measured. Every query sees quantized keys only,
   its own among them, as in the tool's metrics.

It reports, over the tokens of the text: perplexity = exp(mean −log p̂(next token)); the mean KL(p‖p̂) of next-token
distributions in nats, p with the exact cache; how often both have the same likeliest token; beside the tool's attention KL
and output NMSE, with Spearman's rank correlation over the rows. Needs requirements.txt.
"""

import argparse
import json
import os
import pathlib
import subprocess
import tempfile
import types

import h5py
import numpy
import torch
from tqdm import tqdm
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

import capture
from language_model import Failure, add_model_options, load_model, positive, read_token_ids, run

QUANTIZED = "rotorquant_quantized_cache"
PREDICTORS = ("attention/kl", "output/nmse", "key/nmse", "value/nmse")
OUTCOMES = ("perplexity", "next_token_kl")
LOGIT_ROWS = 64  # rows of next-token distributions handled at once in float64


def run_tool(tool, *arguments):
    """Standard output of the command-line tool; its one line of error becomes ours."""
    try:
        process = subprocess.run([tool, *map(str, arguments)], capture_output=True, text=True, check=False)
    except OSError as error:
        raise Failure(f"{tool}: {error.strerror}; --tool names the rotorquant executable") from error
    if process.returncode:
        raise Failure(process.stderr.strip())
    return process.stdout


class QuantizedAttention:
    """Attention over keys and values as `rotorquant reconstruct` gives them back."""

    def __init__(self, tool, exact_dump, folder):
        self.tool = tool
        self.exact_dump = exact_dump  # whose attributes and RoPE frequencies describe the tensors
        self.folder = folder
        self.options = []  # of reconstruct: quantizers, bits, seed

    def __call__(self, module, query, key, value, attention_mask, **keywords):
        key, value = self.reconstruct(module.layer_idx, key, value)
        return sdpa_attention_forward(module, query, key, value, attention_mask, **keywords)

    def reconstruct(self, layer, key, value):
        """key, value [1, H_kv, T, d] after a round trip through the cache, in their own type and place."""
        before, after = self.folder / "layer.h5", self.folder / "reconstruction.h5"
        names = {f"layers/{layer:03}/key": key, f"layers/{layer:03}/value": value}
        with h5py.File(self.exact_dump) as exact, h5py.File(before, "w") as file:
            file.attrs.update(exact.attrs)
            for name in "positions", "rope_inv_freq":
                if name in exact:
                    exact.copy(name, file)
            for name, tensor in names.items():
                file[name] = tensor[0].float().cpu().numpy()
        run_tool(self.tool, "reconstruct", before, *self.options, "-o", after)
        with h5py.File(after) as file:
            return [torch.from_numpy(file[name][:]).to(tensor.device, tensor.dtype)[None] for name, tensor in names.items()]


@torch.inference_mode()
def next_token_logits(model, token_ids):
    """float32 [T − 1, vocabulary]: the scores of the token after each of token_ids [1, T] but the last."""
    return model(token_ids.to(model.device), use_cache=False).logits[0, :-1].float()


def compare(exact, logits, following):
    """Means over rows of: −log p̂ of the token that follows, KL(p‖p̂), agreement on the likeliest token."""
    loss = kl = same = 0.0
    for begin in range(0, len(following), LOGIT_ROWS):
        rows = slice(begin, begin + LOGIT_ROWS)
        log_p = torch.log_softmax(exact[rows].double(), -1)
        log_q = torch.log_softmax(logits[rows].double(), -1)
        loss -= log_q.gather(1, following[rows, None]).sum().item()
        kl += (log_p.exp() * (log_p - log_q)).sum().item()
        same += (log_p.argmax(-1) == log_q.argmax(-1)).sum().item()
    return loss / len(following), kl / len(following), same / len(following)


def ranks(values):
    """1 for the smallest; equal values share the mean of their ranks."""
    values = numpy.asarray(values, "f8")
    return numpy.array([(values < value).sum() + ((values == value).sum() + 1) / 2 for value in values])


def rank_correlation(first, second):
    """Spearman's; None where one side does not vary or there are fewer than three rows."""
    first, second = ranks(first), ranks(second)
    if len(first) < 3 or first.std() == 0 or second.std() == 0:
        return None
    return float(numpy.corrcoef(first, second)[0, 1])


def reconstruct_options(arguments, row, seed):
    options = ["--keys", row["keys"], "--values", row["values"], "--bits", row["bits"], "--seed", seed]
    options += ["--sinks", arguments.sinks]
    if arguments.transforms and "fit" in row:
        options += ["--transforms", arguments.transforms]
    return options


def sweep(arguments, dump, folder):
    """The tool's report on the captured tensors."""
    report = folder / "report.json"
    transforms = ["--transforms", arguments.transforms] if arguments.transforms else []
    run_tool(arguments.tool, "sweep", dump, "--quantizers", arguments.quantizers, "--bits", arguments.bits, "--seeds",
             arguments.seeds, "--sinks", arguments.sinks, *transforms, "--quiet", "-o", report)
    return json.loads(report.read_text())


def evaluate(model, arguments, token_ids, source, recorder, folder):
    """{"exact", "rows", "rank_correlation"} as `main` writes them, less the provenance."""
    dump = folder / "exact.h5"
    layers = range(model.config.get_text_config().num_hidden_layers)
    wanted = types.SimpleNamespace(model=arguments.model, output=dump, dtype="float32", decode=0, quiet=arguments.quiet)
    capture.capture(model, recorder, wanted, token_ids, source, list(layers))
    exact = next_token_logits(model, token_ids)
    following = token_ids[0, 1:].to(model.device)
    report = sweep(arguments, dump, folder)

    attention = QuantizedAttention(arguments.tool, dump, folder)
    AttentionInterface.register(QUANTIZED, attention)
    AttentionMaskInterface.register(QUANTIZED, sdpa_mask)
    model.set_attn_implementation(QUANTIZED)
    seeds = report["meta"]["seeds"]
    rows = []
    with tqdm(total=len(report["rows"]) * len(seeds), unit=" readings", desc="quantized", disable=arguments.quiet) as bar:
        for row in report["rows"]:
            outcomes = []
            for seed in seeds:
                attention.options = reconstruct_options(arguments, row, seed)
                outcomes.append(compare(exact, next_token_logits(model, token_ids), following))
                bar.update()
            loss, kl, same = numpy.mean(outcomes, axis=0)
            rows.append({"quantizer": row["quantizer"], "bits": row["bits"], "bits_per_value": row["bits_per_value"],
                         "side_bits_per_value": row["side_bits_per_value"], "perplexity": float(numpy.exp(loss)),
                         "next_token_kl": float(kl), "next_token_top1": float(same)}
                        | {tag: row["metrics"][tag]["mean"] for tag in PREDICTORS})
    loss, _, _ = compare(exact, exact, following)
    correlation = {outcome: {tag: rank_correlation([row[tag] for row in rows], [row[outcome] for row in rows])
                             for tag in PREDICTORS} for outcome in OUTCOMES}
    return {"exact": {"perplexity": float(numpy.exp(loss)), "tokens": len(following)}, "rows": rows,
            "rank_correlation": correlation, "seeds": seeds, "tool": report["meta"]["version"]}


def markdown(result):
    lines = [f"Exact cache: perplexity {result['exact']['perplexity']:.3f} over {result['exact']['tokens']} tokens.", "",
             "| quantizer | bits | bits/value | perplexity | next-token KL (nats) | same top token | attention KL (nats) | "
             "output NMSE |", "|:---|---:|---:|---:|---:|---:|---:|---:|"]
    for row in sorted(result["rows"], key=lambda row: row["next_token_kl"]):
        lines.append(f"| {row['quantizer']} | {row['bits']} | {row['bits_per_value']:.4g} | {row['perplexity']:.3f} | "
                     f"{row['next_token_kl']:.4f} | {row['next_token_top1']:.3f} | {row['attention/kl']:.4f} | "
                     f"{row['output/nmse']:.4f} |")
    lines.append("")
    for outcome, by_tag in result["rank_correlation"].items():
        shown = ", ".join(f"{tag} {'–' if value is None else f'{value:.3f}'}" for tag, value in by_tag.items())
        lines.append(f"Spearman's rank correlation with {outcome.replace('_', ' ')}: {shown}.")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description="Perplexity of a language model with a quantized KV cache.")
    add_model_options(parser)
    parser.add_argument("--tokens", type=positive, metavar="N", help="tokens to read (default: 512 of a text, all of a dump)")
    parser.add_argument("--quantizers", required=True, help="as `rotorquant sweep` takes them, such as turboquant,kivi")
    parser.add_argument("--bits", default="2,3,4", help="bit widths, such as 2-4 (default 2,3,4)")
    parser.add_argument("--seeds", default="0", help="seeds, such as 0-2 (default 0)")
    parser.add_argument("--sinks", default="0", metavar="N", help="keep the first N tokens in 16 bits")
    parser.add_argument("--transforms", metavar="T.h5", help="of `rotorquant calibrate`, for all layers of the model")
    parser.add_argument("--tool", default="rotorquant", help="the rotorquant executable")
    parser.add_argument("-o", "--output", metavar="OUT.json", help="the numbers in full")
    arguments = parser.parse_args()

    recorder = capture.register()
    token_ids, source = read_token_ids(arguments)
    tokens = arguments.tokens or (len(token_ids) if arguments.token_ids else capture.DEFAULT_TOKENS)
    token_ids = capture.passages(token_ids, tokens, 1, arguments.text or arguments.token_ids)
    model = load_model(arguments, capture.RECORDER)
    with tempfile.TemporaryDirectory() as folder:
        result = evaluate(model, arguments, token_ids, source, recorder, pathlib.Path(folder))
    result = {"model": arguments.model, "source": source} | result
    print(markdown(result))
    if arguments.output:
        partial = pathlib.Path(f"{arguments.output}.partial")
        partial.write_text(json.dumps(result, indent=2) + "\n")
        os.replace(partial, arguments.output)


if __name__ == "__main__":
    run(main)

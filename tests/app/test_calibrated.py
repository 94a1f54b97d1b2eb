"""rotorquant-calibrated: fitted on one capture, it beats TurboQuant by far on another, and says what it was fitted to."""

import shutil
import signal
import subprocess
import time
import unittest

import h5py
import numpy

from tool import PYTHON, SMALL, TOOL, ToolTest, load, transforms

FAILED = 1
USAGE = 2

# Both sides keep the sinks apart, and only queries with some context count.
SETTING = ["--sinks", "4", "--min-context", "64", "--seeds", "0-1"]


class Calibrated(ToolTest):
    def test_held_out_keys_beat_turboquant_by_more_than_a_bit(self):
        output = self.folder / "r.json"
        self.succeed("sweep", PYTHON, "--transforms", transforms(), "--quantizers", "rotorquant-calibrated,turboquant",
                     "--bits", "2,3", *SETTING, "-o", output, "--quiet")
        rows = {(row["quantizer"], row["bits"]): row for row in load(output)["rows"]}
        kl = {key: row["metrics"]["attention/kl"]["mean"] for key, row in rows.items()}
        for bits in (2, 3):
            ours, theirs = rows[("rotorquant-calibrated", bits)], rows[("turboquant", bits)]
            self.assertLess(kl[("rotorquant-calibrated", bits)], 0.2 * kl[("turboquant", bits)])
            self.assertEqual(ours["bits_per_value"], theirs["bits_per_value"])
            self.assertEqual(ours["bits_per_value"], bits + 16 / 64)
            # Both are charged their sinks; the calibrated one its shift and scales too.
            self.assertGreater(theirs["side_bits_per_value"], 0)
            self.assertGreater(ours["side_bits_per_value"], theirs["side_bits_per_value"])
            self.assertFalse(ours["fit"]["in_sample"])
            self.assertEqual([source["name"] for source in ours["fit"]["sources"]], [SMALL.name])
            self.assertNotIn("fit", theirs)
        self.assertLess(kl[("rotorquant-calibrated", 2)], kl[("turboquant", 3)])

    def test_evaluation_on_the_fits_own_dump_is_marked(self):
        output = self.folder / "r.json"
        process = self.succeed("sweep", SMALL, PYTHON, "--transforms", transforms(), "--quantizers",
                               "rotorquant-calibrated,turboquant", "--bits", "3", "--layers", "5", "-o", output)
        report = load(output)
        marks = {
            report["datasets"][row["dataset"]]["path"]: row["fit"]["in_sample"]
            for row in report["rows"] if "fit" in row
        }
        self.assertEqual(marks, {str(SMALL): True, str(PYTHON): False})
        sha256 = {dataset["path"]: dataset["sha256"] for dataset in report["datasets"]}[str(SMALL)]
        for row in report["rows"]:
            for source in row.get("fit", {}).get("sources", []):
                self.assertEqual(source["sha256"], sha256)
        mark = "rotorquant-calibrated (fitted on this dump)"
        self.assertEqual(process.stdout.count(mark), 1)
        for format in ("text", "markdown", "csv", "latex"):
            with self.subTest(format=format):
                table = self.succeed("tables", output, "--format", format).stdout
                self.assertEqual(table.count("(fitted on this dump)"), 1)

    def test_a_fit_does_not_depend_on_threads(self):
        for threads in (1, 2):
            self.succeed("calibrate", SMALL, "-o", self.folder / f"{threads}.h5", "--bits", "2,4", "--threads", threads,
                         "--quiet")
        self.assertEqual((self.folder / "1.h5").read_bytes(), (self.folder / "2.h5").read_bytes())

    def test_a_file_says_what_it_was_fitted_to(self):
        with h5py.File(transforms()) as file:
            source = file["sources/000"].attrs
            self.assertEqual(source["name"], SMALL.name.encode())
            self.assertEqual(source["tokens"], 512)
            self.assertEqual(list(file["bits"]), [2, 3, 4])
            for layer in ("005", "017", "029"):
                for bits in (2, 3, 4):
                    fit = file[f"layers/{layer}/bits_{bits}"]
                    before, start, after, bound = numpy.array(fit["objective"]).T
                    self.assertTrue((start < before).all())
                    self.assertTrue((after < start).all())
                    self.assertTrue((bound < after).all())

    def test_dumps_are_pooled(self):
        pooled = self.folder / "pooled.h5"
        self.succeed("calibrate", SMALL, PYTHON, "--layers", "17", "--bits", "3", "-o", pooled, "--quiet")
        output = self.folder / "r.json"
        self.succeed("sweep", SMALL, PYTHON, "--transforms", pooled, "--layers", "17", "--quantizers",
                     "rotorquant-calibrated", "--bits", "3", "-o", output, "--quiet")
        rows = load(output)["rows"]
        self.assertEqual([row["fit"]["in_sample"] for row in rows], [True, True])
        self.assertEqual([source["name"] for source in rows[0]["fit"]["sources"]], [SMALL.name, PYTHON.name])

    def test_keys_without_rope_work_as_they_are(self):
        dumps = [self.folder / "fit.h5", self.folder / "test.h5"]
        for seed, dump in enumerate(dumps):
            self.succeed("synth", dump, "--profile", "anisotropic", "--layers", "1", "--kv-heads", "1", "--query-heads",
                         "2", "--tokens", "512", "--head-dim", "20", "--seed", seed, "--quiet")
        fitted = self.folder / "t.h5"
        self.succeed("calibrate", dumps[0], "--bits", "3", "-o", fitted, "--quiet")
        output = self.folder / "r.json"
        self.succeed("sweep", dumps[1], "--transforms", fitted, "--quantizers", "rotorquant-calibrated,turboquant",
                     "--bits", "3", *SETTING, "-o", output, "--quiet")
        ours, theirs = (row["metrics"]["key/nmse"]["mean"] for row in load(output)["rows"])
        self.assertLess(ours, theirs)


class CalibratedErrors(ToolTest):
    def sweep_fails(self, code, dump, *arguments, names, bits="3"):
        before = sorted(self.folder.iterdir())
        self.fail_with(code, "sweep", dump, "--quantizers", "rotorquant-calibrated", "--bits", bits, *arguments, "-o",
                       self.folder / "r.json", "--quiet", names=names)
        self.assertEqual(sorted(self.folder.iterdir()), before)

    def calibrate_fails(self, code, *arguments, names):
        """The command fails and leaves an output that was there before as it was, with nothing beside it."""
        output = self.folder / "t.h5"
        for content in (None, b"an older file"):
            if content is not None:
                output.write_bytes(content)
            before = sorted(self.folder.iterdir())
            self.fail_with(code, "calibrate", *arguments, "-o", output, "--quiet", names=names)
            self.assertEqual(sorted(self.folder.iterdir()), before)
        self.assertEqual(output.read_bytes(), b"an older file")
        output.unlink()

    def copy_of(self, source, name="copy.h5"):
        path = self.folder / name
        shutil.copy(source, path)
        path.chmod(0o644)
        return path

    def test_transforms_that_cannot_be_read(self):
        self.sweep_fails(USAGE, PYTHON, names=["rotorquant-calibrated", "--transforms"])
        text = self.folder / "text.h5"
        text.write_text("not HDF5")
        cut = self.folder / "cut.h5"
        cut.write_bytes(transforms().read_bytes()[:50_000])
        for path, reason in ((text, "not an HDF5 file"), (cut, "truncated"), (self.folder / "none.h5", "no such file"),
                             (SMALL, "rotorquant-transforms")):
            with self.subTest(path=path):
                self.sweep_fails(FAILED, PYTHON, "--transforms", path, names=[str(path), reason])

    def test_damaged_transforms(self):
        def wrong_shape(file):
            del file["layers/005/centroids"]
            file["layers/005/centroids"] = numpy.zeros((2, 32, 64), "f4")

        def not_finite(file):
            file["layers/017/bits_3/blocks"][0, 0, 0, 0, 0] = numpy.nan

        def repeated_coordinate(file):
            file["layers/017/bits_3/triples"][0, 0, 0] = [1, 1, 2]

        def newer(file):
            file.attrs["format_version"] = 3

        def nameless(file):
            del file["layers/029/bits_3/delta"]

        for spoil, names in ((wrong_shape, ["layers/005", "[3, -1, 64]"]), (not_finite, ["layers/017"]),
                             (repeated_coordinate, ["layers/017"]), (newer, ["format_version", "3"]),
                             (nameless, ["layers/029/bits_3/delta", "missing"])):
            with self.subTest(spoil=spoil.__name__):
                path = self.copy_of(transforms())
                with h5py.File(path, "r+") as file:
                    spoil(file)
                self.sweep_fails(FAILED, PYTHON, "--transforms", path, names=[str(path), *names])

    def test_transforms_of_something_else(self):
        some = self.folder / "some.h5"
        self.succeed("calibrate", SMALL, "--layers", "5", "--bits", "3", "-o", some, "--quiet")
        self.sweep_fails(FAILED, PYTHON, "--transforms", some, names=[str(some), "layer 17", "present: layers 5"])
        self.sweep_fails(FAILED, PYTHON, "--transforms", some, "--layers", "5", bits="2",
                         names=[str(some), "2 bits", "present: 3"])
        for dim, reason in ((32, "head_dim"), (64, "rope_inv_freq")):
            dump = self.folder / f"d{dim}.h5"
            self.succeed("synth", dump, "--layers", "6", "--kv-heads", "3", "--query-heads", "9", "--tokens", "64",
                         "--head-dim", dim, "--quiet")
            self.sweep_fails(FAILED, dump, "--transforms", some, "--layers", "5", names=[str(some), reason])

    def test_dumps_without_what_calibration_needs(self):
        without_rope = self.copy_of(SMALL, "without_rope.h5")
        without_queries = self.copy_of(SMALL, "without_queries.h5")
        with h5py.File(without_rope, "r+") as file:
            del file["rope_inv_freq"]
        with h5py.File(without_queries, "r+") as file:
            for layer in file["layers"].values():
                del layer["query"]
        self.calibrate_fails(FAILED, without_rope, names=[str(without_rope), "rope_inv_freq"])
        self.calibrate_fails(FAILED, without_queries, names=[str(without_queries), "queries"])
        self.calibrate_fails(FAILED, SMALL, "--max-tokens", "16", names=["12 tokens", "at least 128", "layer 5"])
        self.calibrate_fails(FAILED, self.folder / "none.h5", names=["none.h5"])
        self.sweep_fails(FAILED, without_rope, "--transforms", transforms(), names=[str(without_rope), "rope_inv_freq"])

    def test_a_value_that_is_not_finite_is_named(self):
        for tensor in ("key", "query"):
            with self.subTest(tensor=tensor):
                path = self.copy_of(SMALL, f"{tensor}.h5")
                with h5py.File(path, "r+") as file:
                    file[f"layers/017/{tensor}"][2, 11, 7] = numpy.nan
                self.calibrate_fails(FAILED, path, names=[f"layers/017/{tensor}", "NaN", "token 11", "channel 7", "head 2"])

    def test_usage(self):
        cases = [
            (["--blocks", "rotors"], ["rotors", "rotor, general"]),
            (["--metric", "attn"], ["attn", "attention, uniform, identity"]),
            (["--bits", "9"], ["bits", "9", "1 to 8"]),
            (["--bits", "3-2"], ["bits", "3-2"]),
            (["--cascade-layers", "65"], ["cascade-layers", "65"]),
            (["--centroid-bits", "9"], ["centroid-bits", "9"]),
            (["--iterations", "-1"], ["iterations", "-1"]),
            (["--layers", "x"], ["layers", "x"]),
        ]
        for arguments, names in cases:
            with self.subTest(arguments=arguments):
                self.calibrate_fails(USAGE, SMALL, *arguments, names=names)
        self.fail_with(USAGE, "calibrate", SMALL, names=["--output"])
        self.fail_with(FAILED, "calibrate", SMALL, "--bits", "2", "--layers", "5", "--quiet", "-o",
                       self.folder / "no" / "t.h5", names=[str(self.folder / "no" / "t.h5")])
        sweep = ["sweep", PYTHON, "--transforms", transforms(), "--bits", "3", "--quantizers"]
        for quantizer, names in (("rotorquant-calibrated:search=ful", ["search", "full|nearest"]),
                                 ("rotorquant-calibrated:adap=none", ["adap", "did you mean 'adapt'"]),
                                 ("rotorquant-calibrated:center=online", ["center", "no meaning"])):
            with self.subTest(quantizer=quantizer):
                self.fail_with(USAGE, *sweep, quantizer, names=names)
        self.fail_with(USAGE, "sweep", PYTHON, "--transforms", transforms(), "--keys", "turboquant", "--values",
                       "rotorquant-calibrated", names=["codes keys"])

    def test_a_killed_calibration_leaves_nothing(self):
        output = self.folder / "t.h5"
        process = subprocess.Popen([TOOL, "calibrate", SMALL, "-o", output, "--iterations", "100000", "--quiet"],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.3)
        self.assertIsNone(process.poll(), "the calibration ended before it could be killed")
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.assertEqual(list(self.folder.iterdir()), [])



class CalibratedRivals(ToolTest):
    """kvtc and block-gtq: fitted by the same command to the same dump as ours."""

    def rows(self, *arguments):
        report = self.folder / "r.json"
        self.succeed("sweep", PYTHON, *arguments, "-o", report, "--quiet")
        return {(row["quantizer"], row["bits"]): row for row in load(report)["rows"]}

    def test_they_are_measured_and_charged_beside_ours(self):
        names = ["rotorquant-calibrated", "kvtc", "block-gtq", "turboquant"]
        rows = self.rows("--quantizers", ",".join(names), "--bits", "2,3", "--sinks", "4", "--min-context", "64",
                         "--seeds", "0,1", "--transforms", transforms())
        for bits in (2, 3):
            kl = {name: rows[name, bits]["metrics"]["attention/kl"]["mean"] for name in names}
            # Each is far better than what needs no data, and worse than ours.
            self.assertLess(kl["kvtc"], 0.7 * kl["turboquant"])
            self.assertLess(kl["block-gtq"], 0.7 * kl["turboquant"])
            self.assertLess(kl["rotorquant-calibrated"], 0.7 * kl["kvtc"])
            self.assertLess(kl["rotorquant-calibrated"], 0.7 * kl["block-gtq"])
            stored = {name: rows[name, bits]["stored"]["keys"] for name in names}
            self.assertEqual(stored["kvtc"]["bits_per_vector"], stored["turboquant"]["bits_per_vector"])
            self.assertEqual(stored["block-gtq"]["fields"]["index"], bits * 64)
            self.assertGreaterEqual(stored["block-gtq"]["fields"]["scale"], 2 * 16)
            for name in ("kvtc", "block-gtq"):
                self.assertFalse(rows[name, bits]["fit"]["in_sample"])
                self.assertGreater(stored[name]["model_floats"], 0)
        # KVTC has no random part; Block-GTQ has rotations.
        self.assertEqual(rows["kvtc", 2]["metrics"]["key/nmse"]["std"], 0.0)
        self.assertGreater(rows["block-gtq", 2]["metrics"]["key/nmse"]["std"], 0.0)

    def test_they_need_transforms(self):
        for name in ("kvtc", "block-gtq"):
            self.fail_with(2, "sweep", PYTHON, "--quantizers", name, names=[name, "--transforms FILE"])


if __name__ == "__main__":
    unittest.main()

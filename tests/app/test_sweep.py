"""The main job: sweeps and comparisons of the bundled captures give the results that the captures imply."""

import unittest

from tool import PYTHON, ROOT, SMALL, ToolTest, load, transforms


def rows_by_label(report, bits=None):
    return {row["quantizer"]: row for row in report["rows"] if bits in (None, row["bits"])}


def needs_transforms(config):
    named = [*config.get("quantizers", []), *config.get("keys", [])]
    return any(quantizer.startswith(("rotorquant-calibrated", "rotorquant-max", "kvtc", "block-gtq")) for quantizer in named)


class Sweep(ToolTest):
    def test_single_rotors_lose_to_dense_and_hadamard_on_real_keys(self):
        output = self.folder / "r.json"
        process = self.succeed("compare", SMALL, "--candidate", "rotorquant,turboquant:rotation=hadamard", "--bits", "3",
                               "-o", output)
        report = load(output)
        verdicts = {(c["candidate"], c["metric"]): c["verdict"] for c in report["comparisons"]}
        self.assertEqual(verdicts[("rotorquant", "attention/kl")], "baseline_better")
        self.assertEqual(verdicts[("rotorquant", "output/nmse")], "baseline_better")
        self.assertNotEqual(verdicts[("turboquant:rotation=hadamard", "attention/kl")], "no_ranking")
        rows = rows_by_label(report)
        kl = {label: row["metrics"]["attention/kl"]["mean"] for label, row in rows.items()}
        self.assertGreater(kl["rotorquant"], 2 * kl["turboquant"])
        self.assertIn("turboquant is better", process.stdout)

    def test_exact_metrics_change_no_printed_digit_that_matters(self):
        means = []
        for flags in ([], ["--exact-metrics"]):
            output = self.folder / f"r{len(flags)}.json"
            self.succeed("sweep", PYTHON, "--quantizers", "rotorquant,turboquant:window=16,q8_0", "--bits", "3", "--seeds",
                         "0,1", "-o", output, "--quiet", *flags)
            report = load(output)
            self.assertEqual(report["meta"]["config"]["exact_metrics"], bool(flags))
            means.append({(row["quantizer"], tag): summary["mean"] for row in report["rows"]
                          for tag, summary in row["metrics"].items() if not tag.startswith(("time/", "throughput/", "ip/bias", "attention/top"))})
        fast, exact = means
        self.assertEqual(fast.keys(), exact.keys())
        for key, value in exact.items():
            self.assertLessEqual(abs(fast[key] - value), 3e-4 * abs(value), key)
        self.assertNotEqual(fast, exact)  # else the flag does nothing

    def test_isotropic_data_cannot_rank_rotations(self):
        dump = self.folder / "isotropic.h5"
        self.succeed("synth", dump, "--profile", "isotropic", "--layers", "2", "--kv-heads", "2", "--query-heads", "4",
                     "--tokens", "256", "--head-dim", "64")
        output = self.folder / "r.json"
        process = self.succeed("compare", dump, "--candidate", "rotorquant", "--bits", "2,3", "-o", output)
        report = load(output)
        self.assertTrue(report["comparisons"])
        self.assertEqual({c["verdict"] for c in report["comparisons"]}, {"no_ranking"})
        self.assertIn("no ranking", process.stdout.lower())

    def test_stored_bits_are_equal_to_the_bytes_of_the_layout(self):
        output = self.folder / "r.json"
        self.succeed("sweep", PYTHON, "--quantizers", "rotorquant,rotorquant:tail=pad,turboquant-prod", "--bits", "3",
                     "-o", output, "--quiet")
        rows = rows_by_label(load(output))
        # 64 coordinates at 3 bits and a 16-bit norm; padded to 66 coordinates in 9-byte planes; two stages.
        self.assertEqual(rows["rotorquant"]["bits_per_value"], (3 * 64 + 16) / 64)
        self.assertEqual(rows["rotorquant:tail=pad"]["bits_per_value"], (3 * 72 + 16) / 64)
        self.assertEqual(rows["turboquant-prod"]["bits_per_value"], ((2 * 64 + 64 + 32) + (3 * 64 + 16)) / 128)

    def test_keys_and_values_apart(self):
        output = self.folder / "r.json"
        self.succeed("sweep", PYTHON, "--keys", "turboquant-prod:bits=4", "--values", "turboquant:bits=2", "--seeds", "0",
                     "-o", output, "--quiet")
        (row,) = load(output)["rows"]
        self.assertEqual(row["bits_per_value"], ((3 * 64 + 64 + 32) + (2 * 64 + 16)) / 128)

    def test_every_config_runs(self):
        for config in sorted((ROOT / "configs").glob("*.json")):
            if config.name.endswith(".schema.json"):
                continue
            with self.subTest(config=config.name):
                output = self.folder / config.name
                fitted = ["--transforms", transforms()] if needs_transforms(load(config)) else []
                self.succeed("sweep", PYTHON, "--config", config, *fitted, "--seeds", "0-1", "--layers", "5", "--heads",
                             "0", "--max-tokens", "96", "-o", output, "--quiet")
                report = load(output)
                self.assertTrue(report["rows"])
                self.assertEqual(any("fit" in row for row in report["rows"]), bool(fitted))


if __name__ == "__main__":
    unittest.main()

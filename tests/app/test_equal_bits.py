"""Tables of sizes, of methods at equal stored bits and of rank correlations, against the numbers of the report they are made from."""

import csv
import io
import math
import pathlib
import tempfile
import unittest

from tool import PYTHON, SMALL, ToolTest, load

QUANTIZERS = "turboquant,turboquant:center=online,rotorquant,turboquant-prod,kivi:window=32,q4_0"


def total(row):
    return row["bits_per_value"] + row["side_bits_per_value"]


def ranks(values):
    ordered = sorted(values)
    return [ordered.index(value) + (ordered.count(value) + 1) / 2 for value in values]


def spearman(x, y):
    x, y = ranks(x), ranks(y)
    middle = (len(x) + 1) / 2
    product = sum((a - middle) * (b - middle) for a, b in zip(x, y))
    return product / math.sqrt(sum((a - middle) ** 2 for a in x) * sum((b - middle) ** 2 for b in y))


class EqualBits(ToolTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.shared = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.shared.cleanup)
        cls.report = pathlib.Path(cls.shared.name) / "r.json"
        cls().succeed("sweep", PYTHON, SMALL, "--quantizers", QUANTIZERS, "--bits", "2-5", "--seeds", "0,1", "--sinks", "4",
                      "--max-tokens", "256", "--baseline", "turboquant", "-o", cls.report, "--quiet")

    def table(self, layout, *arguments):
        text = self.succeed("tables", self.report, "--layout", layout, "--format", "csv", *arguments).stdout
        return list(csv.DictReader(io.StringIO(text)))

    def rows(self):
        report = load(self.report)
        return [(report["datasets"][row["dataset"]]["path"], row) for row in report["rows"]]

    def test_numbers_at_equal_bits_are_interpolated(self):
        lines = self.table("equal-bits", "--at-bits", "3.6,4.4", "--metrics", "attention/kl,attention/top1")
        self.assertEqual(len(lines), 2 * 2 * 6)
        for line in lines:
            higher = line["metric"] == "attention/top1"
            curve = []
            for path, row in self.rows():
                if path == line["dataset"] and row["quantizer"] == line["quantizer"]:
                    mean = row["metrics"][line["metric"]]["mean"]
                    curve.append((total(row), 1 - mean if higher else mean))
            for size in (3.6, 4.4):
                below = max((p for p in curve if p[0] <= size), default=None)
                above = min((p for p in curve if p[0] >= size), default=None)
                shown = line[f"{size} bits/value"]
                if below is None or above is None:
                    self.assertEqual(shown, "", line)
                    continue
                share = (size - below[0]) / (above[0] - below[0])
                loss = math.exp((1 - share) * math.log(below[1]) + share * math.log(above[1]))
                self.assertAlmostEqual(float(shown), 1 - loss if higher else loss, delta=1e-9)

    def test_the_front_is_what_nothing_beats(self):
        lines = self.table("equal-bits", "--metrics", "attention/kl")
        for line in lines:
            points = [(total(row), row["metrics"]["attention/kl"]["mean"], row["quantizer"], row["bits"])
                      for path, row in self.rows() if path == line["dataset"]]
            expected = [str(bits) for size, kl, name, bits in points if name == line["quantizer"]
                        and not any(s <= size and k <= kl and (s, k) != (size, kl) for s, k, _, _ in points)]
            self.assertEqual([part for part in line["on the front at"].split(", ") if part], expected)
        self.assertTrue(any(line["on the front at"] for line in lines))

    def test_sizes_add_up(self):
        for line, (_, row) in zip(self.table("stored"), sorted(self.rows(), key=lambda r: (r[0] != str(PYTHON), r[1]["bits"]))):
            numbers = {key: float(value) for key, value in line.items()
                       if value and key not in ("dataset", "sha256", "quantizer", "bits")}
            overall, codes = numbers.pop("total"), numbers.pop("bits/value")
            sides = sum(numbers.pop(name, 0.0) for name in ("sinks", "window", "centre"))
            self.assertAlmostEqual(sum(numbers.values()), codes, delta=1e-9)
            self.assertAlmostEqual(codes + sides, overall, delta=1e-9)
            self.assertEqual(line["quantizer"], row["quantizer"])
            self.assertAlmostEqual(overall, total(row), delta=1e-9)

    def test_comparisons_say_what_equal_bits_would(self):
        report = load(self.report)
        by_name = {(row["dataset"], row["quantizer"], row["bits"]): row for row in report["rows"]}
        found = [c for c in report["comparisons"] if c["metric"] == "attention/kl" and c["candidate"].startswith("kivi")]
        reached = [c for c in found if c["at_equal_bits"]]
        self.assertTrue(reached)
        for comparison in reached:
            equal = comparison["at_equal_bits"]
            row = by_name[comparison["dataset"], comparison["candidate"], comparison["bits"]]
            self.assertAlmostEqual(equal["bits_per_value"], total(row))
            self.assertAlmostEqual(equal["ratio"], row["metrics"]["attention/kl"]["mean"] / equal["baseline_mean"])
            self.assertIn("at equal stored bits", comparison["sentence"])
        # Where both store the same there is nothing to interpolate.
        for comparison in report["comparisons"]:
            if comparison["candidate"] == "rotorquant":
                self.assertIsNone(comparison["at_equal_bits"])

    def test_rank_correlations_are_spearmans(self):
        report = load(self.report)
        self.assertTrue(report["correlations"])
        for entry in report["correlations"]:
            better = report["meta"]["metrics"][entry["metric"]]["better"]
            rows = [row for row in report["rows"] if row["dataset"] == entry["dataset"]]
            loss = {"lower": lambda v: v, "higher": lambda v: 1 - v, "zero": abs, "one": lambda v: abs(v - 1)}[better]
            x = [loss(row["metrics"][entry["metric"]]["mean"]) for row in rows]
            y = [row["metrics"][entry["target"]]["mean"] for row in rows]
            self.assertEqual(entry["rows"], len(rows))
            self.assertAlmostEqual(entry["overall"], spearman(x, y), delta=1e-12)
        lines = self.table("correlations")
        overall = {(entry["dataset"], entry["metric"], entry["target"]): entry["overall"] for entry in report["correlations"]}
        paths = [dataset["path"] for dataset in report["datasets"]]
        for line in lines:
            expected = overall.get((paths.index(line["dataset"]), line["metric"], "output/nmse"))
            self.assertAlmostEqual(float(line["rank correlation with output/nmse"]), expected, delta=1e-9)

    def test_mistakes_are_named(self):
        self.fail_with(2, "tables", self.report, "--at-bits", "3", names=["--at-bits", "equal-bits"])
        self.fail_with(1, "tables", self.report, "--layout", "equal-bits", "--at-bits", "12", names=["12", "valid"])


if __name__ == "__main__":
    unittest.main()

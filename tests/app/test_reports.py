"""Real reports follow the schema, and tables can be made of them in every format."""

import csv
import io
import subprocess
import sys
import unittest

from tool import PYTHON, ROOT, SMALL, ToolTest, load


class Reports(ToolTest):
    def test_real_reports_follow_the_schema(self):
        report = self.folder / "sweep.json"
        comparison = self.folder / "compare.json"
        synthetic = self.folder / "synthetic.h5"
        without_queries = self.folder / "synthetic.json"
        self.succeed("synth", synthetic, "--profile", "outliers", "--layers", "1", "--kv-heads", "1", "--query-heads",
                     "2", "--tokens", "64", "--head-dim", "5")
        self.succeed("sweep", SMALL, PYTHON, "--quantizers", "rotorquant,turboquant-prod,rotorquant-trivector", "--bits",
                     "1-3", "--seeds", "0-1", "--layers", "5", "-o", report, "--quiet")
        self.succeed("compare", PYTHON, "--candidate", "rotorquant:rotation=cascade", "--bits", "2", "--seeds", "3",
                     "-o", comparison, "--quiet")
        self.succeed("sweep", synthetic, "--quantizers", "identity,isoquant,planarquant", "--bits", "8", "-o",
                     without_queries, "--quiet")
        process = subprocess.run(
            [sys.executable, ROOT / "tests" / "app" / "validate_report.py", report, comparison, without_queries],
            capture_output=True, text=True)
        self.assertEqual(process.returncode, 0, process.stdout + process.stderr)
        # At 1 bit a two-stage quantizer has nothing left for its first stage: said, not silently left out.
        self.assertIn("turboquant-prod at 1 bits", [entry["what"] for entry in load(report)["skipped"]])

    def test_tables_trace_their_numbers(self):
        report = self.folder / "r.json"
        self.succeed("compare", PYTHON, "--candidate", "rotorquant", "--bits", "2,3", "--seeds", "0-2", "-o", report,
                     "--quiet")
        rows = load(report)["rows"]
        table = self.succeed("tables", report, "--format", "csv", "--metrics", "attention/kl").stdout
        lines = list(csv.DictReader(io.StringIO(table)))
        self.assertEqual(len(lines), len(rows))
        for line in lines:
            row = rows[int(line["row"])]
            self.assertEqual(line["quantizer"], row["quantizer"])
            self.assertEqual(float(line["attention/kl"]), row["metrics"]["attention/kl"]["mean"])
        latex = self.succeed("tables", report, "--format", "latex", "--bold-best").stdout
        for command in (r"\toprule", r"\midrule", r"\bottomrule", r"\mathbf"):
            self.assertIn(command, latex)
        markdown = self.succeed("tables", report, "--compare").stdout
        self.assertIn("baseline better", markdown)
        output = self.folder / "table.md"
        self.succeed("tables", report, "-o", output)
        self.assertEqual(output.read_text(), self.succeed("tables", report).stdout)

    def test_broken_reports_are_refused(self):
        cases = {"empty.json": "", "text.json": "no JSON", "list.json": "[]", "schema.json": '{"schema": "other/1"}'}
        for name, text in cases.items():
            with self.subTest(name=name):
                path = self.folder / name
                path.write_text(text)
                self.fail_with(1, "tables", path, names=[name])
        self.fail_with(1, "tables", self.folder / "none.json", names=["none.json"])


if __name__ == "__main__":
    unittest.main()

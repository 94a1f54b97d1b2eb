"""The benchmark's reports follow their schema, become tables, and take rivals from other programs."""

import csv
import io
import json
import sys
import unittest

import jsonschema
from tool import ROOT, SMALL, ToolTest, load

SCHEMA = ROOT / "configs" / "bench.schema.json"
QUICK = ("--sizes", "64", "--rounds", "3", "--sample-seconds", "0")

RIVAL = '''
import json, os, sys
vectors = int(os.environ["ROTORQUANT_BENCH_VECTORS"])
print(json.dumps({"operation": "encode", "quantizer": "slow", "bytes_read": 2 * vectors, "bytes_written": 1}), flush=True)
for line in sys.stdin:
    print(1000.0 * int(line), flush=True)
'''


class Bench(ToolTest):
    def test_reports_follow_the_schema_and_become_tables(self):
        path = self.folder / "bench.json"
        self.succeed("bench", *QUICK, "--dims", "16,80", "--bits", "2-3", "--type", "fp16,fp32", "--threads", "1,2",
                     "--quantizers", "rotorquant,rotorquant-prod,dense-gemm,uncompressed", "-o", path, "--quiet")
        report = load(path)
        schema = json.loads(SCHEMA.read_text())
        jsonschema.Draft202012Validator.check_schema(schema)
        jsonschema.validate(report, schema, jsonschema.Draft202012Validator)
        shapes = {(row["dim"], row["bits"], row["type"], row["threads"]) for row in report["rows"]}
        self.assertEqual(len(shapes), 16)
        encode = next(row for row in report["rows"] if row["operation"] == "encode" and row["quantizer"] == "rotorquant")
        self.assertEqual(set(encode["throughput/over"]), {"rotorquant-prod", "dense-gemm"})
        lines = list(csv.DictReader(io.StringIO(self.succeed("tables", path, "--format", "csv").stdout)))
        self.assertEqual(len(lines), len(report["rows"]))
        for line in lines:
            row = report["rows"][int(line["row"])]
            self.assertEqual(line["operation"], row["operation"])
            self.assertAlmostEqual(float(line["time/seconds"]),
                                   1e9 * row["time/seconds"]["median"] / row["vectors"], delta=0.01)
        self.assertIn("| encode", self.succeed("tables", path).stdout)

    def test_a_report_and_its_table_on_standard_output(self):
        printed = self.succeed("bench", *QUICK, "--json", "--quiet").stdout
        self.assertEqual(json.loads(printed)["schema"], "rotorquant-bench/1")
        self.assertIn("rotorquant", self.succeed("bench", *QUICK).stdout)

    def test_latency_is_a_table_over_numbers_of_vectors(self):
        path = self.folder / "latency.json"
        printed = self.succeed("bench", "--latency", "--rounds", "1", "--sample-seconds", "0", "--dims", "16", "--ops",
                               "encode,decode", "--quantizers", "rotorquant", "-o", path).stdout
        rows = [row for row in load(path)["rows"] if row["operation"] == "encode"]
        self.assertEqual([row["vectors"] for row in rows], [2**i for i in range(14)])
        line = next(line for line in printed.splitlines() if line.startswith("encode"))
        cells = [float(cell) for cell in line.split()[2:]]
        self.assertEqual(len(cells), 14)
        for cell, row in zip(cells, rows):
            self.assertAlmostEqual(cell, 1e6 * row["time/seconds"]["median"], delta=0.06)
        self.fail_with(2, "bench", "--latency", "--sizes", "64", names=["--latency", "--sizes"])

    def test_fitted_quantizers_are_timed_by_given_transforms_or_by_a_fit_to_the_vectors(self):
        def rows(*more):
            report = json.loads(self.succeed("bench", "--sizes", "256", "--rounds", "3", "--sample-seconds", "0", "--ops", "encode,decode",
                                             "--quantizers", "rotorquant,rotorquant-calibrated:search=nearest,kvtc",
                                             "--json", "--quiet", *more).stdout)
            return [(row["operation"], row["quantizer"]) for row in report["rows"] if row["quantizer"]]
        expected = [(operation, quantizer) for operation in ("encode", "decode")
                    for quantizer in ("rotorquant", "rotorquant-calibrated:search=nearest", "kvtc")]
        self.assertEqual(rows("--dims", "16"), expected)
        self.assertEqual(rows("--dims", "16", "--blocks", "rotor", "--cascade-layers", "1", "--centroid-bits", "0"), expected)
        transforms = self.folder / "transforms.h5"
        self.succeed("calibrate", SMALL, "--bits", "3", "--layers", "5", "--max-tokens", "256", "--iterations", "2", "-o", transforms,
                     "--quiet")
        self.assertEqual(rows("--dims", "64", "--transforms", transforms), expected)
        self.fail_with(2, "bench", "--blocks", "rotor", "--transforms", transforms, names=["--blocks", "--transforms"])
        self.fail_with(1, "bench", *QUICK, "--dims", "16", "--quantizers", "rotorquant-calibrated", "--transforms", transforms,
                       names=["64", "--dims"])

    def test_rivals_are_timed_in_the_same_rounds(self):
        script = self.folder / "rival.py"
        script.write_text(RIVAL)
        report = json.loads(self.succeed("bench", *QUICK, "--ops", "encode", "--json", "--quiet", "--rival",
                                         f"{sys.executable} {script}").stdout)
        rows = {(row["operation"], row["quantizer"]): row for row in report["rows"]}
        self.assertEqual(rows["encode", "slow"]["bytes_read"], 128)
        self.assertEqual(rows["encode", "slow"]["time/seconds"]["median"], 1000.0)
        self.assertGreater(rows["encode", "rotorquant"]["throughput/over"]["slow"], 1000)
        skipping = json.loads(self.succeed("bench", *QUICK, "--json", "--quiet", "--rival",
                                           "echo '{\"skip\": \"not today\"}'").stdout)
        self.assertEqual(skipping["skipped"][0]["why"], "not today")
        for command in ("false", "echo nonsense", "echo '{\"operation\": 3}'"):
            self.fail_with(1, "bench", *QUICK, "--quiet", "--rival", command, names=[command])

    def test_wrong_requests_are_refused(self):
        self.fail_with(2, "bench", "--ops", "encod", names=["encod", "encode"])
        self.fail_with(2, "bench", "--quantizers", "rotorqant", names=["rotorqant", "rotorquant"])
        self.fail_with(2, "bench", "--type", "fp8", names=["fp8", "bf16"])
        self.fail_with(2, "bench", "--sizes", "l9", names=["l9", "dram"])
        path = self.folder / "bench.json"
        sweep = self.folder / "sweep.json"
        self.succeed("bench", *QUICK, "-o", path, "--quiet")
        self.succeed("sweep", SMALL, "--quantizers", "identity", "--bits", "2", "--layers", "5", "-o", sweep, "--quiet")
        self.fail_with(2, "tables", path, sweep, names=["one kind"])
        self.fail_with(2, "tables", path, "--compare", names=["--compare"])


if __name__ == "__main__":
    unittest.main()

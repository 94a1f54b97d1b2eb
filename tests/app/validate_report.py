#!/usr/bin/env python3
"""Validates reports against configs/report.schema.json and checks what a schema cannot say: that references point at something,
that the bits of the fields add up, and that means lie between minimum and maximum.

Usage: validate_report.py REPORT...
Exit codes: 0 all valid, 1 some are not (each problem on its own line: file, place, reason), 2 wrong usage.
Needs the package jsonschema."""
import json
import pathlib
import sys

import jsonschema

SCHEMA = pathlib.Path(__file__).resolve().parents[2] / "configs" / "report.schema.json"
# A mean of n equal numbers may round past them by a few units in the last place.
ROUNDING = 1e-12


def no_constants(name):
    raise ValueError(f"{name} is not JSON")


def schema_problems(report, validator):
    for error in sorted(validator.iter_errors(report), key=lambda error: [str(part) for part in error.absolute_path]):
        yield "/" + "/".join(str(part) for part in error.absolute_path), error.message


def reference_problems(report):
    for section in ("rows", "cells", "comparisons"):
        for index, entry in enumerate(report.get(section, [])):
            if entry["dataset"] >= len(report["datasets"]):
                yield f"/{section}/{index}/dataset", f"no dataset {entry['dataset']}"
    seen = {}
    for index, row in enumerate(report["rows"]):
        key = (row["dataset"], row["quantizer"], row["bits"], row["device"])
        if key in seen:
            yield f"/rows/{index}", f"repeats row {seen[key]}"
        seen.setdefault(key, index)
    for section in ("cells", "comparisons"):
        for index, entry in enumerate(report.get(section, [])):
            for side in ("quantizer", "candidate", "baseline"):
                if side in entry and not any(key[:3] == (entry["dataset"], entry[side], entry["bits"]) for key in seen):
                    yield f"/{section}/{index}/{side}", f"no row of '{entry[side]}' at {entry['bits']} bits"


def number_problems(report):
    for index, row in enumerate(report["rows"]):
        place = f"/rows/{index}"
        dataset = report["datasets"][row["dataset"]]
        dims = {"keys": dataset["head_dim"], "values": dataset["value_dim"]}
        total = 0
        for side, dim in dims.items():
            stored = row["stored"][side]
            total += stored["bits_per_vector"]
            if sum(stored["fields"].values()) != stored["bits_per_vector"]:
                yield f"{place}/stored/{side}", "the bits of the fields do not add up to bits_per_vector"
            if abs(stored["bits_per_value"] * dim - stored["bits_per_vector"]) > ROUNDING * stored["bits_per_vector"]:
                yield f"{place}/stored/{side}", f"bits_per_value is not bits_per_vector / {dim}"
        if abs(row["bits_per_value"] * sum(dims.values()) - total) > ROUNDING * total:
            yield f"{place}/bits_per_value", "is not the stored bits of a key and a value over their coordinates"
        for tag, summary in row["metrics"].items():
            slack = ROUNDING * max(abs(summary["min"]), abs(summary["max"]))
            if not summary["min"] - slack <= summary["mean"] <= summary["max"] + slack:
                yield f"{place}/metrics/{tag}", "the mean is not between min and max"
            if tag not in report["meta"]["metrics"]:
                yield f"{place}/metrics/{tag}", "meta.metrics does not explain this tag"
            if "worst" in summary and summary["worst"]["layer"] not in dataset["layers"]:
                yield f"{place}/metrics/{tag}/worst", f"layer {summary['worst']['layer']} was not evaluated"


def problems_of(path, validator):
    try:
        report = json.loads(pathlib.Path(path).read_text(encoding="utf-8"), parse_constant=no_constants)
    except (OSError, ValueError) as error:
        return [("", str(error))]
    problems = list(schema_problems(report, validator))
    # The other checks rely on the shape that the schema guarantees.
    if not problems:
        problems = list(reference_problems(report))
    if not problems:
        problems = list(number_problems(report))
    return problems


def main(paths):
    if not paths:
        print("usage: validate_report.py REPORT...", file=sys.stderr)
        return 2
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    failed = False
    for path in paths:
        problems = problems_of(path, validator)
        for place, reason in problems:
            print(f"{path}: {place + ': ' if place else ''}{reason}", file=sys.stderr)
        failed = failed or bool(problems)
        if not problems:
            print(f"{path}: valid")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

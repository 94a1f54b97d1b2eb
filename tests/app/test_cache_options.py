"""KIVI's keys and the options of a sequence, from the tool's own output: decoded tensors against formulas, and what is charged."""

import json
import unittest

import h5py
import numpy

from tool import PYTHON, ToolTest, load

TOKENS, DIM = 512, 64


def group_quantize(x, axis, group, bits):
    """KIVI's asymmetric quantization of x in groups along `axis`, with fp16 scales and zeros, in float32."""
    x = numpy.moveaxis(x, axis, -1)
    groups = x.reshape(*x.shape[:-1], -1, group)
    zero = groups.min(-1, keepdims=True)
    top = numpy.float32((1 << bits) - 1)
    scale = ((groups.max(-1, keepdims=True) - zero) / top).astype("f2").astype("f4")
    zero = zero.astype("f2").astype("f4")
    index = numpy.rint(numpy.clip((groups - zero) / scale, 0, top))
    return numpy.moveaxis((index * scale + zero).reshape(x.shape), -1, axis)


class CacheOptions(ToolTest):
    def reconstruct(self, quantizer, bits):
        output = self.folder / "reconstruction.h5"
        self.succeed("reconstruct", PYTHON, "--quantizer", quantizer, "--bits", bits, "-o", output)
        return output

    def rows(self, *arguments):
        report = self.folder / "r.json"
        self.succeed("sweep", PYTHON, *arguments, "-o", report, "--quiet")
        return {(row["quantizer"], row["bits"]): row for row in load(report)["rows"]}

    def test_kivi_is_the_papers_formula(self):
        window = 96  # 512 tokens: five blocks of 96 are coded, 32 keys wait; of values the last 96 are kept
        output = self.reconstruct(f"kivi:window={window}", 2)
        with h5py.File(PYTHON) as source, h5py.File(output) as copy:
            for layer in (5, 17, 29):
                keys, values = (source[f"layers/{layer:03}/{name}"][:].astype("f4") for name in ("key", "value"))
                expected = keys.copy()
                expected[:, :480] = group_quantize(keys[:, :480], 1, 32, 2)
                numpy.testing.assert_allclose(copy[f"layers/{layer:03}/key"][:], expected, rtol=1e-6, atol=1e-6)
                expected = values.copy()
                expected[:, :-window] = group_quantize(values[:, :-window], 2, 32, 2)
                numpy.testing.assert_allclose(copy[f"layers/{layer:03}/value"][:], expected, rtol=1e-6, atol=1e-6)

    def test_everything_stored_is_charged_by_name(self):
        rows = self.rows("--bits", "2", "--quantizers",
                         "kivi:window=96,turboquant:window=32:sinks=4:center=online,turboquant:edge_layers=1:edge_bits=4,"
                         "turboquant:outliers=16,fp8-e4m3:scale=head,identity16", "--metrics", "attention/kl")
        values = 2 * TOKENS * DIM  # of a key and a value sequence

        kivi = rows["kivi:window=96", 2]
        self.assertEqual(kivi["bits_per_value"], 3.0)
        self.assertAlmostEqual(kivi["side"]["window"], (32 + 96) * DIM * (16 - 3) / values)

        window = rows["turboquant:window=32:sinks=4:center=online", 2]
        self.assertAlmostEqual(window["side"]["window"], 2 * 32 * DIM * (16 - 2.25) / values)
        self.assertAlmostEqual(window["side"]["sinks"], 2 * 4 * DIM * (16 - 2.25) / values)
        self.assertAlmostEqual(window["side"]["centre"], 16 * DIM / values)  # keys alone are centred
        self.assertAlmostEqual(window["side_bits_per_value"], sum(window["side"].values()))

        # One of the capture's three layers, 29, is the last of the model's 30.
        self.assertAlmostEqual(rows["turboquant:edge_layers=1:edge_bits=4", 2]["side"]["other widths"], 2 / 3)
        outliers = rows["turboquant:outliers=16", 2]
        self.assertEqual(outliers["bits_per_value"], (16 * 3 + 48 * 2 + 2 * 16) / DIM)
        self.assertAlmostEqual(outliers["side"]["outlier channels"], 2 * DIM / values)
        self.assertAlmostEqual(rows["fp8-e4m3:scale=head", 8]["side"]["scale"], 2 * 32 / values)
        self.assertEqual(rows["identity16", 16]["side"], {})
        self.assertEqual(rows["identity16", 16]["metrics"]["attention/kl"]["mean"], 0.0)

    def test_a_window_helps_and_edge_layers_change_their_own_heads_alone(self):
        rows = self.rows("--bits", "3", "--quantizers", "turboquant,turboquant:window=64")
        kl = {name: row["metrics"]["attention/kl"]["mean"] for (name, _), row in rows.items()}
        self.assertLess(kl["turboquant:window=64"], 0.9 * kl["turboquant"])
        plain, edge = (self.cells(name) for name in ("turboquant", "turboquant:edge_layers=1:edge_bits=5"))
        for place, value in plain.items():
            if place[0] == 29:
                self.assertLess(edge[place], 0.3 * value)
            else:
                self.assertEqual(edge[place], value)

    def cells(self, quantizer):
        path = self.folder / "with_cells.json"
        self.succeed("sweep", PYTHON, "--bits", "3", "--quantizers", quantizer, "--cells", self.folder / "cells.jsonl", "-o", path,
                     "--quiet")
        lines = map(json.loads, (self.folder / "cells.jsonl").read_text().splitlines())
        return {(line["layer"], line["head"]): line["metrics"]["key/nmse"] for line in lines}


if __name__ == "__main__":
    unittest.main()

"""Figures and HTML reports of real sweeps, drawn by gnuplot."""

import base64
import html.parser
import os
import re
import shutil
import subprocess
import unittest

from tool import PYTHON, ToolTest, load

FIGURES = ["pareto", "spread", "layers", "positions", "ladder"]
MAGIC = {"pdf": b"%PDF-", "png": b"\x89PNG\r\n", "svg": b"<?xml"}


class Page(html.parser.HTMLParser):
    """Headings, pictures and references of a page; elements must nest."""

    VOID = {"meta", "img", "wbr", "br", "link"}

    def __init__(self, text):
        super().__init__()
        self.open, self.texts, self.pictures, self.values, self.references = [], [], [], [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "img":
            self.pictures.append(attributes["src"])
        if "data-value" in attributes:
            self.values.append(float(attributes["data-value"]))
        self.references += [attributes[name] for name in ("src", "href") if name in attributes]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(data)


class Figures(ToolTest):
    def report(self):
        path = self.folder / "r.json"
        self.succeed("compare", PYTHON, "--candidate", "identity,rotorquant", "--bits", "2,3", "--seeds", "0-2", "--max-tokens",
                     "128", "-o", path, "--quiet")
        return path

    def test_pictures_with_their_data_and_scripts(self):
        report = self.report()
        folder = self.folder / "figures"
        listed = self.succeed("figures", report, "-o", folder).stdout.split()
        self.assertEqual(listed, [str(folder / f"{name}.{format}") for name in FIGURES for format in ("pdf", "svg", "png")])
        self.assertEqual(sorted(path.name for path in folder.iterdir()), sorted(
            f"{name}.{kind}" for name in FIGURES for kind in ("dat", "gp", "pdf", "svg", "png")))
        for name in FIGURES:
            for format, magic in MAGIC.items():
                self.assertTrue((folder / f"{name}.{format}").read_bytes().startswith(magic), f"{name}.{format}")
        # The script that is kept draws the picture that was given.
        drawn = (folder / "pareto.svg").read_bytes()
        (folder / "pareto.svg").unlink()
        subprocess.run(["gnuplot", "-e", "format='svg'", "pareto.gp"], cwd=folder, check=True)
        self.assertEqual((folder / "pareto.svg").read_bytes(), drawn)

    def test_points_can_be_traced_to_rows(self):
        report = self.report()
        self.succeed("figures", report, "--formats", "svg", "--bits", "2", "-o", self.folder)
        rows = load(report)["rows"]
        shown = 0
        for line in (self.folder / "pareto.dat").read_text().splitlines():
            point = re.fullmatch(r"(\S+) (\S+) \S+ \S+ # .*rows\[(\d+)\]", line)
            if point is None:
                self.assertTrue(line == "" or line.startswith("# "), line)
                continue
            row = rows[int(point[3])]
            self.assertEqual(float(point[1]), row["bits_per_value"] + row["side_bits_per_value"])
            self.assertEqual(float(point[2]), row["metrics"]["attention/kl"]["mean"])
            shown += 1
        self.assertGreaterEqual(shown, len(rows))
        layers = [line for line in (self.folder / "layers.dat").read_text().splitlines() if line and line[0] != "#"]
        self.assertEqual([float(line.split()[0]) for line in layers], 3 * [5.0, 17.0, 29.0])
        for line in layers:
            self.assertEqual(rows[int(re.search(r"rows\[(\d+)\]", line)[1])]["bits"], 2)

    def test_eighths_average_to_the_whole(self):
        row = load(self.report())["rows"][0]
        eighths = [row["metrics"][f"attention/kl_eighth{i}"]["mean"] for i in range(1, 9)]
        # 128 queries: each eighth has as many.
        self.assertAlmostEqual(sum(eighths) / 8, row["metrics"]["attention/kl"]["mean"], places=12)
        layers = row["by_layer"]["attention/kl"]
        self.assertAlmostEqual(sum(layers) / 3, row["metrics"]["attention/kl"]["mean"], places=12)

    def test_an_html_report_is_whole(self):
        report = self.report()
        path = self.folder / "report.html"
        self.succeed("tables", report, "--format", "html", "--bold-best", "-o", path)
        page = Page(path.read_text())
        text = " ".join(page.texts)
        self.assertLess(text.index("is worse than turboquant"), text.index("Measurements"))
        self.assertLess(text.index("Measurements"), text.index("Figures"))
        self.assertLess(text.index("Figures"), text.index("Where the numbers come from"))
        self.assertIn(load(report)["datasets"][0]["sha256"], text)
        self.assertEqual(len(page.pictures), len(FIGURES))
        for picture in page.pictures:
            kind, data = picture.split(",")
            self.assertEqual(kind, "data:image/svg+xml;base64")
            self.assertTrue(base64.b64decode(data, validate=True).startswith(MAGIC["svg"]))
        self.assertEqual(page.references, page.pictures)
        for row in load(report)["rows"]:
            self.assertIn(row["metrics"]["attention/kl"]["mean"], page.values)

    def test_without_gnuplot(self):
        report = self.report()
        tool_path = self.folder / "bin"
        tool_path.mkdir()
        environment = os.environ | {"PATH": str(tool_path)}
        before = sorted(path.name for path in self.folder.iterdir())
        for arguments in (["figures", report, "-o", self.folder / "out"],
                          ["tables", report, "--format", "html", "-o", self.folder / "r.html"]):
            self.fail_with(1, *arguments, names=["gnuplot", "not installed", "--no-figures"], env=environment)
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), before)
        page = self.succeed("tables", report, "--format", "html", "--no-figures", env=environment).stdout
        self.assertEqual(Page(page).pictures, [])
        # A gnuplot that fails says why.
        broken = tool_path / "gnuplot"
        broken.write_text("#!/bin/sh\necho 'unknown terminal' >&2\nexit 3\n")
        broken.chmod(0o755)
        self.fail_with(1, "figures", report, "-o", self.folder / "out", names=["gnuplot failed", "unknown terminal"],
                       env=environment | {"PATH": f"{tool_path}:{os.path.dirname(shutil.which('sh'))}"})

    def test_bad_arguments(self):
        report = self.report()
        self.fail_with(2, "figures", report, "--formats", "gif", "-o", self.folder / "out", names=["gif", "pdf, svg, png"])
        self.fail_with(1, "figures", report, "--bits", "7", "-o", self.folder / "out", names=["7 bits", "present: 2, 3"])
        self.fail_with(1, "figures", report, "-o", report, names=[str(report)])
        self.assertFalse((self.folder / "out").exists())

    def test_the_roofline_of_a_benchmark(self):
        report = self.folder / "bench.json"
        self.succeed("bench", "--quantizers", "rotorquant,turboquant", "--ops", "encode,decode", "--dims", "64", "--sizes",
                     "4096", "--rounds", "3", "--sample-seconds", "0.0005", "--quiet", "-o", report)
        self.succeed("figures", report, "--formats", "svg", "-o", self.folder)
        data = (self.folder / "roofline.dat").read_text()
        for series in ("# roof: a copy", "# encode", "# decode"):
            self.assertIn(series, data)
        page = Page(self.succeed("tables", report, "--format", "html").stdout)
        self.assertGreaterEqual(len(page.pictures), 1)


if __name__ == "__main__":
    unittest.main()

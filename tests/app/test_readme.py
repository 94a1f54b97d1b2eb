"""README, --help, configurations and the tool agree: the commands run, the names exist, the numbers come out."""

import json
import os
import re
import shlex
import unittest

from tool import ROOT, ToolTest, load, run

README = (ROOT / "README.md").read_text()


def commands():
    """Command lines of the README's shell blocks that call the tool."""
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL):
        for line in block.splitlines():
            if line.startswith("rotorquant "):
                yield shlex.split(line)[1:]


class Readme(ToolTest):
    def setUp(self):
        super().setUp()
        for name in ("data", "configs"):
            os.symlink(ROOT / name, self.folder / name)
        (self.folder / "build").mkdir()

    def test_commands_run_and_print_the_table(self):
        found = list(commands())
        self.assertGreaterEqual(len(found), 3)
        for arguments in found:
            with self.subTest(arguments=arguments):
                self.succeed(*arguments, cwd=self.folder)
        report = load(self.folder / "build" / "headline.json")
        rows = {(row["quantizer"], row["bits"]): row["metrics"]["attention/kl"]["mean"] for row in report["rows"]}
        printed = re.findall(r"^\| \**(rotorquant-max|rotorquant-calibrated|turboquant)\** \| (\d) \| [\d.]+ \| \**([\d.]+)", README, re.M)
        self.assertEqual(len(printed), 9)
        for quantizer, bits, value in printed:
            digits = len(value.split(".")[1])
            self.assertAlmostEqual(float(value), rows[quantizer, int(bits)], delta=max(0.6 * 10.0**-digits, 0.03 * float(value)))

    def test_every_command_is_described(self):
        help_text = self.succeed("--help").stdout
        listed = re.findall(r"^  (\w+) {2,}\S", help_text.split("Subcommands:")[1], re.M)
        self.assertTrue(listed)
        for name in listed:
            self.assertIn(f"| `rotorquant {name}", README)
            self.assertEqual(run(name, "--help").returncode, 0)

    def test_every_quantizer_is_described(self):
        described = self.folder / "q.json"
        described.write_text(self.succeed("list", "quantizers", "--json").stdout)
        schemes = self.folder / "s.json"
        schemes.write_text(self.succeed("list", "schemes", "--json").stdout)
        for quantizer in load(described)["quantizers"] + load(schemes)["schemes"]:
            name = quantizer["name"].removesuffix("-prod")
            self.assertIn(f"`{name}`", README)

    def test_links_lead_somewhere(self):
        for path in (ROOT / "README.md", ROOT / "configs" / "README.md", ROOT / "data" / "README.md"):
            for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
                self.assertTrue((path.parent / target).exists(), f"{path.name}: {target}")

    def test_every_config_is_described(self):
        text = (ROOT / "configs" / "README.md").read_text()
        for config in (ROOT / "configs").glob("*.json"):
            self.assertIn(config.name, text)
            json.loads(config.read_text())


if __name__ == "__main__":
    unittest.main()

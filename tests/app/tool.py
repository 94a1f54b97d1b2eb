"""What the tests of the command-line tool share: where it is, how to run it, and data to run it on."""

import atexit
import functools
import json
import os
import shutil
import pathlib
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = os.environ["ROTORQUANT_TOOL"]
SMALL = ROOT / "data" / "smollm2-jargon-small.h5"
PYTHON = ROOT / "data" / "smollm2-python-small.h5"


def run(*arguments, cwd=None, env=None, stdout=None):
    """Runs the tool and returns the finished process with its output as text, or with its output in the file `stdout`."""
    if stdout is not None:
        with open(stdout, "w") as file:
            return subprocess.run([TOOL, *map(str, arguments)], cwd=cwd, env=env, stdout=file, stderr=subprocess.PIPE,
                                  text=True, timeout=600)
    return subprocess.run([TOOL, *map(str, arguments)], cwd=cwd, env=env, capture_output=True, text=True, timeout=600)


@functools.cache
def transforms():
    """Transforms fitted to SMALL at 2, 3 and 4 bits; made once, for all tests of a file."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    path = pathlib.Path(folder) / "transforms.h5"
    process = run("calibrate", SMALL, "-o", path, "--quiet")
    assert process.returncode == 0, process.stderr
    return path


def load(path):
    return json.loads(pathlib.Path(path).read_text())


def without_time(value):
    """A report without its time fields: `time`, `time/...` and `throughput/...` (see report.hpp)."""
    if isinstance(value, dict):
        return {
            key: without_time(inner)
            for key, inner in value.items()
            if key != "time" and not key.startswith(("time/", "throughput/"))
        }
    if isinstance(value, list):
        return [without_time(inner) for inner in value]
    return value


class ToolTest(unittest.TestCase):
    """A test with a folder of its own."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def succeed(self, *arguments, **keywords):
        process = run(*arguments, **keywords)
        self.assertEqual(process.returncode, 0, process.stderr)
        return process

    def fail_with(self, code, *arguments, names=(), **keywords):
        """The tool must exit with `code` and one line on standard error that holds every one of `names`."""
        process = run(*arguments, **keywords)
        context = f"{arguments}: {process.stderr!r}"
        self.assertEqual(process.returncode, code, context)
        self.assertEqual(process.stderr.count("\n"), 1, context)
        self.assertTrue(process.stderr.startswith("rotorquant: "), context)
        for name in names:
            self.assertIn(name, process.stderr, context)
        return process

"""Reports differ in their time fields alone: between runs, between thread counts, and across kills and resumes."""

import signal
import subprocess
import time
import unittest

from tool import PYTHON, SMALL, TOOL, ToolTest, load, run, without_time

EXPERIMENT = ["--quantizers", "rotorquant,turboquant-prod,turboquant", "--bits", "2,3", "--seeds", "0-3",
              "--baseline", "turboquant", "--cells", "cells.jsonl", "--quiet"]


class Determinism(ToolTest):
    def sweep(self, name, *more):
        (self.folder / name).mkdir()
        self.succeed("sweep", SMALL, PYTHON, *EXPERIMENT, "-o", "report.json", *more, cwd=self.folder / name)
        return without_time(load(self.folder / name / "report.json"))

    def test_runs_and_thread_counts_agree(self):
        first = self.sweep("first", "--threads", "2")
        self.assertEqual(first, self.sweep("second", "--threads", "2"))
        self.assertEqual(first, self.sweep("single", "--threads", "1"))
        # Of 18 heads: all prepared at once while some threads wait, and one by one on all threads.
        self.assertEqual(first, self.sweep("waiting", "--threads", "24"))
        self.assertEqual(first, self.sweep("shared", "--threads", "64"))
        self.assertFalse((self.folder / "first" / "report.json.journal").exists())

    def test_a_sweep_killed_five_times_ends_with_the_same_report(self):
        whole = self.sweep("whole")
        folder = self.folder / "killed"
        folder.mkdir()
        command = [TOOL, "sweep", str(SMALL), str(PYTHON), *EXPERIMENT, "-o", "report.json", "--resume"]
        journal = folder / "report.json.journal"
        kept = 0
        for _ in range(5):
            process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            # Killed as soon as this run has finished some cells of its own.
            deadline = time.monotonic() + 120
            while process.poll() is None and time.monotonic() < deadline:
                if journal.exists() and journal.read_bytes().count(b"\n") > kept + 20:
                    break
                time.sleep(0.002)
            self.assertIsNone(process.poll(), "the sweep ended before it could be killed")
            process.send_signal(signal.SIGKILL)
            process.wait()
            self.assertFalse((folder / "report.json").exists())
            finished = journal.read_bytes().count(b"\n")
            self.assertGreater(finished, kept, "cells were lost")
            kept = finished
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        self.assertEqual(whole, without_time(load(folder / "report.json")))
        self.assertFalse(journal.exists())

    def test_an_interrupted_sweep_says_how_to_go_on(self):
        process = subprocess.Popen([TOOL, "sweep", str(SMALL), *EXPERIMENT, "-o", "report.json"], cwd=self.folder,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        journal = self.folder / "report.json.journal"
        while process.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") > 5):
            time.sleep(0.002)
        process.send_signal(signal.SIGINT)
        _, message = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 1)
        self.assertIn("--resume", message)
        again = run("sweep", SMALL, *EXPERIMENT, "-o", "report.json", cwd=self.folder)
        self.assertEqual(again.returncode, 1)
        self.assertIn("--resume", again.stderr)
        other = run("sweep", SMALL, "--quantizers", "rotorquant", "-o", "report.json", "--resume", cwd=self.folder)
        self.assertEqual(other.returncode, 1)
        self.assertIn("other data, settings or version", other.stderr)


if __name__ == "__main__":
    unittest.main()

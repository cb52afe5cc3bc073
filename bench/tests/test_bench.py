"""What the harness computes from numbers that are known, and each case once, small. No time is asserted."""

import os
import subprocess
import sys
import tempfile
import unittest
import xml.dom.minidom

from bench import cases, clock, page, plot, rows, store, world


class Figures(unittest.TestCase):
    def test_quantiles_are_measured_numbers(self):
        numbers = list(range(1, 101))
        self.assertEqual(clock.figures(numbers), {"count": 100, "min": 1, "median": 50.5, "p99": 99, "max": 100})
        self.assertEqual(clock.figures([7.0])["p99"], 7.0)
        self.assertEqual(clock.quantile([3, 1, 2], 0.99), 3)

    def test_steal_is_a_share(self):
        with tempfile.NamedTemporaryFile("w") as f:
            f.write("cpu 100 0 100 700 0 0 0 100 0 0\n")
            f.flush()
            steal = clock.Steal(f.name)
            f.seek(0)
            f.write("cpu 150 0 100 740 0 0 0 110 0 0\n")
            f.flush()
            self.assertEqual(steal.since(), {"steal": 0.1, "idle": 0.4})


def launched(launch, bare):
    facts = {"started ahead": 1, "of": 1, "per second back to back": 1.0, "back to back": 3, "of these started ahead": 2}
    return {"samples": {"launch": [launch], "bare": [bare]}, "facts": facts, "steal": 0.01}


class Rows(unittest.TestCase):
    def test_a_goal_is_reached_or_not(self):
        for launch, reached in ((3.0, "yes"), (3.1, "no")):
            (row,) = rows.goals([cases.find("launch/python")], {"launch/python": launched(launch, 10.0)})
            self.assertEqual((row.reached, row.goal, row.steal), (reached, "≤ 0.3", "1.0 %"))

    def test_what_was_not_measured_says_why(self):
        case = cases.find("launch/scala")
        for result, why in (
            (None, "not run"),
            ({"missing": "no scala"}, "not measured: no scala"),
            ({"failed": "1\nE: x"}, "FAILED: E: x"),
        ):
            (row,) = rows.goals([case], {case.name: result} if result else {})
            self.assertEqual((row.figure, row.reached, row.note), ("", "", why))

    def test_every_case_of_ours_has_a_goal(self):
        ours = {c.name for c in cases.table() if not c.name.startswith("peer/")}
        self.assertEqual(ours, set(rows.GOALS))

    def test_peers_are_in_order_and_the_missing_ones_last(self):
        results = {
            "launch/python": launched(5.0, 10.0),
            "peer/spawn/python": launched(4.0, 10.0),
            "peer/runc/python": {"missing": "no runc"},
        }
        found = rows.peers([cases.find(n) for n in ("launch/python", "peer/runc/python", "peer/spawn/python")], results)
        self.assertEqual([r.what for r in found], ["multiprocessing, spawn", "Muster", "runc"])
        self.assertEqual(found[1].ratio, 0.5)
        drawn = plot.svg(found)
        xml.dom.minidom.parseString(drawn)
        self.assertEqual(drawn.count("<rect"), 1 + 3 + 2)


class Names(unittest.TestCase):
    def test_cases_are_chosen_by_name_beginning_and_pattern(self):
        self.assertEqual([c.name for c in cases.chosen(["crowd"])], ["crowd"])
        self.assertEqual(len(cases.chosen(["launch"])), 4)
        self.assertTrue(all("ray" in c.name for c in cases.chosen(["peer/ray*"])))
        with self.assertRaises(SystemExit):
            cases.chosen(["nothing"])


class Documents(unittest.TestCase):
    def test_page_and_plot_are_what_the_kept_numbers_make(self):
        for path, text in page.made(store.read(store.KEPT)).items():
            self.assertTrue(
                world.read(path) == text, "%s is stale; run: python3 -m bench.page --from docs/benchmarks.json" % path
            )

    def test_numbers_survive_the_file(self):
        report = {"results": {"x": {"samples": {"launch": [1.23456, 2.0, 3e-05]}, "facts": {"n": [], "s": "a [1,\n 2 ]"}}}}
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "new", "bench.json")
            store.write(path, report)
            read = store.read(path)
        self.assertEqual(read["results"]["x"]["samples"]["launch"], [1.2346, 2.0, 0.0])
        self.assertEqual(read["results"]["x"]["facts"], report["results"]["x"]["facts"])


class EveryCase(unittest.TestCase):
    def test_each_runs_once(self):
        with tempfile.TemporaryDirectory() as folder:
            out = os.path.join(folder, "bench.json")
            done = subprocess.run(
                [sys.executable, "-m", "bench", "--tiny", "--json", out],
                cwd=world.REPOSITORY,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            self.assertTrue(os.path.exists(out), done.stdout)
            results = store.read(out)["results"]
        self.assertEqual(done.returncode, 0, done.stdout)
        for case in cases.table():
            if not case.tiny:
                continue
            result = results[case.name]
            if "missing" in result:
                print("bench: skipped: %s: %s" % (case.name, result["missing"]))
                continue
            self.assertTrue(all(result["samples"].values()), "%s: %s" % (case.name, result))
            if "left" in result["facts"]:
                self.assertEqual(set(result["facts"]["left"].values()), {0}, result["facts"])
                self.assertEqual(result["facts"]["processes after stop"], 0)
            self.assertFalse(result["facts"].get("broken promises"))


if __name__ == "__main__":
    unittest.main()

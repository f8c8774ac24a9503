# SPDX-License-Identifier: MIT-0
"""The benchmark's arithmetic and its picture. Nothing is measured here."""

from __future__ import annotations

import sys
import unittest
from pathlib import Path
from xml.etree import ElementTree as ET

TOOLS = Path(__file__).resolve().parents[1] / "tools"
sys.path.insert(0, str(TOOLS))
from bench_report import Report, Row, draw  # noqa: E402

SVG = "{http://www.w3.org/2000/svg}"


def row(ours: list[float], other: list[float], name: str = "a row") -> Row:
    return Row("warm", name, "another", "ms", ours, other)


class Figures(unittest.TestCase):
    def test_a_ratio_is_of_runs_that_took_turns(self) -> None:
        """The second turn was slow for both, the third went wrong for the other. Medians alone would say 4 to 2."""
        turns = row([1, 10, 4], [2, 20, 2])
        self.assertEqual(turns.ratio, 0.5)
        self.assertEqual(turns.spread, (0.5, 1.25))

    def test_a_single_run_has_no_spread(self) -> None:
        self.assertEqual(row([3], [4]).spread, (0.75, 0.75))

    def test_saved_and_read_again(self) -> None:
        report = Report("a Python", "make bench", [row([12.34, 2000.0], [0.001234, 4.0])])
        self.assertEqual(Report.from_json(report.to_json()), report)


class Picture(unittest.TestCase):
    def test_it_shows_the_figures_that_are_saved_beside_it(self) -> None:
        saved = Report.from_json((TOOLS / "bench.json").read_text("utf-8"))
        self.assertEqual((TOOLS / "bench.svg").read_text("utf-8"), draw(saved), "make bench draws it anew")

    def test_what_is_in_it(self) -> None:
        names = ["<half> & less", "a thousand times", "a thousandth"]
        rows = [row([ours], [1.0], name) for ours, name in zip((0.5, 1000.0, 0.001), names)]
        image = ET.fromstring(draw(Report("a Python", "make bench", rows)))
        texts = [text.text for text in image.iter(f"{SVG}text")]
        for text in (*names, "0.50 ms", "a Python", "Measured by: make bench"):
            self.assertIn(text, texts)
        card, *bars = image.iter(f"{SVG}rect")
        self.assertEqual([bar.get("class") for bar in bars], ["less", "more", "less"])
        for bar in bars:
            right = float(bar.get("x", "")) + float(bar.get("width", ""))
            self.assertLess(right, float(card.get("width", "")))


if __name__ == "__main__":
    unittest.main()

# SPDX-License-Identifier: MIT-0
"""What `make bench` found: rows of figures, as a table, as JSON and as a picture.

python3 tests/tools/bench_report.py [FILE.json]     prints the picture of figures that were saved earlier (SVG)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from math import log2
from statistics import median, quantiles
from xml.etree import ElementTree as ET


@dataclass(frozen=True)
class Row:
    """One comparison. The n-th figures of `ours` and `other` were measured one right after the other.

    Every figure is a cost (time, memory): less is better, and a ratio below 1 is in our favour.
    """

    part: str
    name: str
    against: str  # what `other` are the figures of
    unit: str
    ours: Sequence[float]
    other: Sequence[float]
    goal: float | None = None  # what the ratio should be at most
    drawn: bool = True  # in the picture, which has less room than the table

    @property
    def ratios(self) -> list[float]:
        return [our / other for our, other in zip(self.ours, self.other)]

    @property
    def ratio(self) -> float:
        return median(self.ratios)

    @property
    def spread(self) -> tuple[float, float]:
        """Where the middle half of the ratios lies."""
        if len(self.ratios) < 2:
            return self.ratio, self.ratio
        low, _, high = quantiles(self.ratios, n=4, method="inclusive")
        return low, high

    def text(self, figures: Sequence[float]) -> str:
        value = median(figures)
        return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f} {self.unit}"

    def cells(self) -> list[str]:
        goal = f"≤ {self.goal:.2f}" if self.goal else ""
        met = "" if not self.goal else "yes" if self.ratio <= self.goal else "no"
        spread = "–".join(map(ratio_text, self.spread))
        return [
            self.name, self.against, self.text(self.ours), self.text(self.other),
            ratio_text(self.ratio), spread, goal, met,
        ]  # fmt: skip


def ratio_text(ratio: float) -> str:
    return f"{ratio:.{2 if ratio >= 0.1 else 3}f}"


@dataclass(frozen=True)
class Report:
    setting: str  # Python, machine
    command: str  # what measured this
    rows: Sequence[Row]

    def table(self) -> str:
        """Markdown that is also legible as it is."""
        head = ["", "against", "runtime.py", "the other", "ratio", "its middle half", "goal", "met"]
        lines = [head, *(row.cells() for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines)]
        lines.insert(1, [("-" * (width - 1) + (":" if index > 1 else "-")) for index, width in enumerate(widths)])
        text = []
        for line in lines:
            padded = (
                cell.rjust(width) if index > 1 else cell.ljust(width)
                for index, (cell, width) in enumerate(zip(line, widths))
            )
            text.append(f"| {' | '.join(padded)} |")
        return "\n".join(text)

    def to_json(self) -> str:
        """The figures of all runs, a row to a line."""
        rows = ",\n".join("  " + json.dumps(rounded(asdict(row)), ensure_ascii=False) for row in self.rows)
        head = json.dumps({"setting": self.setting, "command": self.command}, indent=1, ensure_ascii=False)
        return f'{head[:-2]},\n "rows": [\n{rows}\n ]\n}}\n'

    @classmethod
    def from_json(cls, text: str) -> Report:
        saved = json.loads(text)
        return cls(saved["setting"], saved["command"], [Row(**row) for row in saved["rows"]])


def rounded(row: dict[str, object]) -> dict[str, object]:
    """Four digits are more than any of these figures is good for."""
    return {
        key: [float(f"{figure:.4g}") for figure in value] if isinstance(value, list) else value
        for key, value in row.items()
    }


# ──── the picture: a table whose last column are bars ───────────────────────────────────────────────────────────────

HEADINGS = {
    "warm": "Time per invocation",
    "cold": "Cold start: from exec to the first GET next",
    "packed": "Cold start of what make layer and make zip make",
    "memory": "Memory, and many at once",
    "logs": "Output",
    "stream": "Streamed response",
}
WIDTH, ROW, HEADING, MARGIN = 920, 22, 34, 20
NAME, AGAINST, OURS, OTHER, RATIO = MARGIN, 264, 576, 658, 708  # where columns begin, and those of figures end
BARS = (722, WIDTH - MARGIN)
MOST = 2.5  # powers of two, on both sides of 1: what is further away is cut off there

# The picture brings its own background: where it is shown, dark may be the page's choice and light the system's.
STYLE = """
    text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; fill: #1f2328 }
    .title { font-size: 17px; font-weight: 600 }
    .heading { font-weight: 600 }
    .small, .muted { fill: #59636e }
    .small { font-size: 11px }
    .figure { text-anchor: end; font-variant-numeric: tabular-nums }
    .middle { text-anchor: middle }
    .card { fill: #ffffff; stroke: #d1d9e0 }
    .rule { stroke: #d1d9e0 }
    .one { stroke: #59636e }
    .less { fill: #2da44e }
    .more { fill: #d4762c }
    .spread { stroke: #1f2328; stroke-width: 1.5 }
    @media (prefers-color-scheme: dark) {
        text { fill: #e6edf3 }
        .small, .muted { fill: #9198a1 }
        .card { fill: #0d1117; stroke: #3d444d }
        .rule { stroke: #3d444d }
        .one { stroke: #9198a1 }
        .less { fill: #2f9e4f }
        .more { fill: #d9822b }
        .spread { stroke: #e6edf3 }
    }
"""


def draw(report: Report) -> str:
    svg = ET.Element("svg", xmlns="http://www.w3.org/2000/svg", role="img")
    shape(svg, "title").text = "runtime.py, compared in time and memory"
    shape(svg, "style").text = STYLE
    card = shape(svg, "rect", "card", x=0.5, y=0.5, width=WIDTH - 1, rx=6)

    y = MARGIN + 16
    write(svg, NAME, y, "What runtime.py costs, compared", "title")
    y += 22
    explanation = "Less is better. A bar to the left: runtime.py needs less; to the right: more. "
    write(svg, NAME, y, explanation + "The line across its end: the middle half of the runs.", "small")
    y += 32
    for x, text, kind in (
        (AGAINST, "compared with", "small"), (OURS, "runtime.py", "small figure"),
        (OTHER, "the other", "small figure"), (RATIO, "ratio", "small figure"),
    ):  # fmt: skip
        write(svg, x, y, text, kind)
    grid = []
    for at, text in ((0.25, "¼"), (0.5, "½"), (1, "1"), (2, "2"), (4, "4")):
        write(svg, place(at), y, text, "small middle")
        grid.append((place(at), shape(svg, "path", "one" if at == 1 else "rule")))
    top = y + 8

    for part, rows in groupby((row for row in report.rows if row.drawn), key=lambda row: row.part):
        y += HEADING
        write(svg, NAME, y, HEADINGS[part], "heading")
        for row in rows:
            y += ROW
            draw_row(svg, row, y)
    for at, line in grid:
        line.set("d", f"M{at:.1f} {top}V{y + 6}")

    y += 34
    write(svg, NAME, y, report.setting, "small")
    y += 16
    write(svg, NAME, y, f"Measured by: {report.command}", "small")
    height = y + MARGIN
    card.set("height", f"{height - 1}")
    svg.set("viewBox", f"0 0 {WIDTH} {height}")
    svg.set("width", f"{WIDTH}")
    svg.set("height", f"{height}")
    ET.indent(svg)
    return ET.tostring(svg, encoding="unicode") + "\n"


def draw_row(svg: ET.Element, row: Row, y: float) -> None:
    write(svg, NAME, y, row.name)
    write(svg, AGAINST, y, row.against, "muted")
    write(svg, OURS, y, row.text(row.ours), "figure")
    write(svg, OTHER, y, row.text(row.other), "figure muted")
    write(svg, RATIO, y, ratio_text(row.ratio), "figure")
    left, right = sorted((place(1), place(row.ratio)))
    kind = "less" if row.ratio < 1 else "more"
    shape(svg, "rect", kind, x=left, y=y - 11, width=right - left, height=13)
    low, high = map(place, row.spread)
    shape(svg, "path", "spread", d=f"M{low:.1f} {y - 4.5}H{max(high, low + 1):.1f}")


def place(ratio: float) -> float:
    """Where a ratio lies: half and double are equally far from 1."""
    left, right = BARS
    power = max(-MOST, min(MOST, log2(ratio)))
    return left + (right - left) * (power + MOST) / (2 * MOST)


def shape(parent: ET.Element, tag: str, kind: str = "", **attributes: object) -> ET.Element:
    texts = {key: f"{value:.4g}" if isinstance(value, float) else str(value) for key, value in attributes.items()}
    return ET.SubElement(parent, tag, {"class": kind, **texts} if kind else texts)


def write(parent: ET.Element, x: float, y: float, text: str, kind: str = "") -> None:
    shape(parent, "text", kind, x=x, y=y).text = text

# SPDX-License-Identifier: MIT-0
"""What `make bench` found: rows of figures, as a table, as JSON and as a picture.

python3 tests/tools/bench_report.py [FILE.json]     prints the picture of figures that were saved earlier (SVG)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles

SAVED = Path(__file__).with_name("bench.json")


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
        return f"{value:,.{1 if value < 100 else 0}f} {self.unit}"

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

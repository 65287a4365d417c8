"""What comes out: rows of one table."""

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Row:
    """One figure, what it is compared with in the same run, and the ratio with its goal."""

    what: str
    measured: str
    beside: str = ""
    verdict: str = ""


def median(values: Iterable[float]) -> float:
    """The middle one; not a number if any is none."""
    found = list(values)
    return math.nan if any(math.isnan(value) for value in found) else statistics.median(found)


def at_most(value: float, goal: float, unit: str = " x") -> str:
    """A figure that should not be above its goal."""
    return f"{value:.2f}{unit} (goal <= {goal:g}{unit}{_mark(value <= goal)})"


def at_least(value: float, goal: float, unit: str = " x") -> str:
    """A figure that should not be below its goal."""
    return f"{value:.2f}{unit} (goal >= {goal:g}{unit}{_mark(value >= goal)})"


def _mark(is_met: bool) -> str:
    return "" if is_met else ", MISSED"


def table(rows: list[Row], title: str) -> None:
    """Print them."""
    made = Table("what", "measured", "compared with, in the same rounds", "ratio or goal", title=title)
    for row in rows:
        made.add_row(row.what, row.measured, row.beside, row.verdict)
    Console(width=150).print(made)

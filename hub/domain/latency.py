"""How long things took, as counts within fixed bounds: few numbers, which add up, and tell p50 and p95."""

from collections.abc import Sequence
from typing import Final

BOUNDS: Final = (0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Seconds. What took less than the first is in the first place; what took the last or more, in the last of one more."""
PLACES: Final = len(BOUNDS) + 1


def percentile(counts: Sequence[int], share: float) -> float | None:
    """The seconds within which this share of all was done, taken as spread evenly between two bounds; the last bound
    where it was longer than that. None: there was nothing.
    """
    total = sum(counts)
    if not total:
        return None
    wanted, below = share * total, 0
    for place, count in enumerate(counts[: len(BOUNDS)]):
        if count and below + count >= wanted:
            low = BOUNDS[place - 1] if place else 0.0
            return low + (BOUNDS[place] - low) * (wanted - below) / count
        below += count
    return BOUNDS[-1]

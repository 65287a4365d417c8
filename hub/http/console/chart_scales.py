"""Axes of charts: round values and real times, and numbers as people say them."""

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

_STEPS: Final = (1, 2, 2.5, 5, 10)
_MOST_VALUES: Final = 4
_MOST_TIMES: Final = 7
_TIME_STEPS: Final = (
    *(timedelta(minutes=n) for n in (1, 2, 5, 10, 15, 30)),
    *(timedelta(hours=n) for n in (1, 2, 3, 6, 12)),
    *(timedelta(days=n) for n in (1, 2, 7, 14, 30, 90, 365)),
)
_EPOCH: Final = datetime(2024, 1, 1, tzinfo=UTC)
"""A Monday: steps of weeks begin on one."""
_DAY: Final = timedelta(days=1)


def clean(value: float | None) -> float | None:
    """A value as it can be drawn: nothing where there is none or no finite one, and never below zero."""
    if value is None or not math.isfinite(value):
        return None
    return max(0.0, float(value))


def value_ticks(highest: float) -> list[float]:
    """Round values from zero to the first one that nothing is above: two at least, five at most; whole ones where the
    highest is 1 or more.
    """
    if highest <= 0:
        return [0.0, 1.0]
    rough = highest / _MOST_VALUES
    unit = 10.0 ** math.floor(math.log10(rough))
    whole = highest >= 1
    steps = (factor * unit for factor in _STEPS if not whole or ((factor * unit) >= 1 and (factor * unit) % 1 == 0))
    step = next((step for step in steps if step * _MOST_VALUES >= highest * (1 - 1e-12)), 1.0)
    count = max(1, math.ceil(highest / step - 1e-9))
    return [n * step for n in range(count + 1)]


def time_ticks(first: datetime, last: datetime) -> list[datetime]:
    """Round times within a span, few enough to be read."""
    span = last - first
    step = next((step for step in _TIME_STEPS if span / step <= _MOST_TIMES), _TIME_STEPS[-1])
    at = _EPOCH + math.ceil((first - _EPOCH) / step) * step
    ticks = []
    while at <= last:
        ticks.append(at)
        at += step
    return ticks


def tick_text(at: datetime, ticks: Sequence[datetime]) -> str:
    """A time on the axis: the hour, and at midnight the day."""
    utc = at.astimezone(UTC)
    is_daily = len(ticks) > 1 and ticks[1] - ticks[0] >= _DAY
    if is_daily or (utc.hour == utc.minute == 0):
        return f"{utc.day} {utc:%b}"
    return f"{utc:%H:%M}"


def time_text(at: datetime) -> str:
    """A time in full."""
    utc = at.astimezone(UTC)
    return f"{utc.day} {utc:%b %H:%M} UTC"


def number_text(value: float) -> str:
    """A number with thin gaps between thousands; below ten with what matters of its fraction."""
    if value == int(value) or value >= 100:
        return f"{round(value):,}".replace(",", "\u202f")
    return f"{value:.{1 if value >= 10 else 2}f}".rstrip("0").rstrip(".")


_SHORT: Final = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def short_text(value: float) -> str:
    """A number in few characters, for an axis: `1.5k`, `20M`."""
    if value >= 1e15:
        return f"{value:.0e}".replace("e+", "e")
    for size, letter in _SHORT:
        if value >= size:
            return f"{value / size:.2f}".rstrip("0").rstrip(".") + letter
    return number_text(value)


_DURATIONS: Final = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def duration_text(seconds: float) -> str:
    """So many seconds in the unit that suits: `120 ms`, `1.5 s`, `3 min`."""
    for size, name in _DURATIONS:
        if seconds >= size:
            return f"{number_text(round(seconds / size, 1))} {name}"
    return "0" if seconds == 0 else f"{number_text(float(f'{seconds * 1000:.2g}'))} ms"


_ROUND_SECONDS: Final = (
    *(n / 1000 for n in (1, 2, 5, 10, 20, 50, 100, 200, 500)),
    *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400),
)


def duration_ticks(highest: float) -> list[float]:
    """Round lengths of time from zero to the first that nothing is above, in seconds."""
    if highest <= 0:
        return [0.0, 1.0]
    step = next((step for step in _ROUND_SECONDS if step * _MOST_VALUES >= highest), None)
    if step is None:
        return [tick * 86_400 for tick in value_ticks(highest / 86_400)]
    return [n * step for n in range(max(1, math.ceil(highest / step - 1e-9)) + 1)]


def highest_of(rows: Iterable[Iterable[float | None]]) -> float:
    """The highest value there is; 0 without any."""
    return max((value for row in rows for value in row if value is not None), default=0.0)

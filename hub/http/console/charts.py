"""Charts as SVG, drawn on the server: classes and attributes only, so that no style is inline; colours are the style
sheet's (`charts.css`), light and dark. Each says in words what it shows, and has its numbers as a table.

A plot is as wide as its place and its words keep their size: positions across are in percent, and lines lie in a
picture of their own that is stretched while their strokes are not.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from markupsafe import Markup

from hub.http.console.chart_frames import figure, key_of, nothing, table
from hub.http.console.chart_scales import (
    clean,
    duration_text,
    duration_ticks,
    highest_of,
    number_text,
    short_text,
    tick_text,
    time_text,
    time_ticks,
    value_ticks,
)

__all__ = ["Series", "bar_chart", "funnel", "line_chart", "sparkline"]

Unit = Literal["messages", "events", "seconds", "clicks", "people", ""]
"""What is counted. Seconds are written as lengths of time, whatever their size."""

HEIGHT: Final = 180
"""Pixels of a plot."""
_WIDE: Final = 1000
_TONES: Final = 6
_LONG_LABEL: Final = 44


@dataclass(frozen=True, slots=True)
class Series:
    """One line: a value for each time, None where nothing is known. `tone` is its colour and dash, from 1 to 6; by
    default its place.
    """

    name: str
    points: Sequence[tuple[datetime, float | None]]
    tone: int | None = None


@dataclass(frozen=True, slots=True)
class _Line:
    name: str
    tone: int
    values: Sequence[float | None]


def line_chart(title: str, series: Sequence[Series], unit: Unit = "", *, key: str | None = None) -> Markup:
    """Values over time. `key` names the figure within its page; by default one is made of the title."""
    times = sorted({at for one in series for at, _ in one.points})
    lines = [
        _Line(one.name, one.tone or place % _TONES + 1, _on(times, one.points)) for place, one in enumerate(series)
    ]
    if not times or all(value is None for line in lines for value in line.values):
        return figure(key or key_of(title), title, nothing(title), Markup(), Markup())
    say = _sayer(unit)
    svg = Markup(
        '<svg class="chart-picture chart-axes" role="img" width="100%" height="{}"><title>{}</title><desc>{}</desc>'
        '<svg class="chart-plot" y="10" width="100%" height="{}" overflow="visible">{}</svg></svg>'
    ).format(HEIGHT + 36, title, _describe(times, lines, say), HEIGHT, _plot(times, lines, unit, say))
    heads = ["Time", *(line.name for line in lines)]
    rows = [
        [time_text(at), *("" if line.values[n] is None else say(line.values[n] or 0) for line in lines)]
        for n, at in enumerate(times)
    ]
    return figure(key or key_of(title), title, svg, _legend(lines, say, unit), table(title, heads, rows))


def bar_chart(
    title: str, bars: Sequence[tuple[str, float | None]], unit: Unit = "", *, key: str | None = None
) -> Markup:
    """Values by name, as bars below each other; those without a value are said to be unknown."""
    say = _sayer(unit)
    rows = [(name, clean(value), None) for name, value in bars]
    return _bars(key or key_of(title), title, rows, say, "chart-bar tone-1")


def funnel(title: str, steps: Sequence[tuple[str, float | None]], *, key: str | None = None) -> Markup:
    """How many are left from step to step, each with its share of the first and of the one before."""
    rows: list[tuple[str, float | None, str | None]] = []
    first = before = None
    for name, value in steps:
        count = clean(value)
        rows.append((name, count, _shares(count, first, before)))
        if count is not None:
            first, before = (count if first is None else first), count
    return _bars(key or key_of(title), title, rows, number_text, "chart-bar tone-1")


def sparkline(values: Sequence[float | None], label: str = "") -> Markup:
    """A small line without axes, to stand beside a number; `label` says what it is of."""
    cleaned = [clean(value) for value in values]
    known = [value for value in cleaned if value is not None]
    top = max(known, default=0.0) or 1.0
    said = f"{label}: " if label else ""
    words = f"{said}last {number_text(known[-1])}, highest {number_text(max(known))}" if known else f"{said}nothing yet"
    return Markup(
        '<svg class="sparkline" role="img" viewBox="0 -2 100 28" preserveAspectRatio="none"><title>{}</title>{}</svg>'
    ).format(words, _line(cleaned, len(cleaned), top, 100, 24, 1))


# Values over time ---------------------------------------------------------------------------------------------------


def _on(times: Sequence[datetime], points: Iterable[tuple[datetime, float | None]]) -> list[float | None]:
    known = dict(points)
    return [clean(known.get(at)) for at in times]


def _sayer(unit: Unit) -> Callable[[float], str]:
    return duration_text if unit == "seconds" else number_text


def _plot(times: Sequence[datetime], lines: Sequence[_Line], unit: Unit, say: Callable[[float], str]) -> Markup:
    highest = highest_of(line.values for line in lines)
    ticks = duration_ticks(highest) if unit == "seconds" else value_ticks(highest)
    shortly = duration_text if unit == "seconds" else short_text
    grid = Markup().join(
        Markup(
            '<line class="chart-grid" x1="0" x2="100%" y1="{y}" y2="{y}"/>'
            '<text class="chart-tick" x="-8" y="{y}" dy="0.32em" text-anchor="end">{text}</text>'
        ).format(y=_number(HEIGHT * (1 - tick / ticks[-1])), text=shortly(tick))
        for tick in ticks
    )
    drawn = Markup().join(_line(line.values, len(times), ticks[-1], _WIDE, HEIGHT, line.tone) for line in lines)
    picture = Markup(
        '<svg class="chart-lines" viewBox="0 0 {} {}" preserveAspectRatio="none" width="100%" height="{}"'
        ' overflow="visible">{}</svg>'
    ).format(_WIDE, HEIGHT, HEIGHT, drawn)
    return grid + _time_axis(times) + picture + _spots(times, lines, say)


def _time_axis(times: Sequence[datetime]) -> Markup:
    first, last = times[0], times[-1]
    if first == last:
        return _time_label("50%", time_text(first))
    ticks = time_ticks(first, last)
    return Markup().join(
        Markup('<line class="chart-notch" x1="{x}" x2="{x}" y1="{low}" y2="{end}"/>{label}').format(
            x=place, low=HEIGHT, end=HEIGHT + 4, label=_time_label(place, tick_text(at, ticks), is_extra=n % 2 == 1)
        )
        for n, at in enumerate(ticks)
        for place in [_percent((at - first) / (last - first))]
    )


def _time_label(place: str, text: str, *, is_extra: bool = False) -> Markup:
    """`is_extra`: left out where there is little room."""
    kind = "chart-tick chart-extra" if is_extra else "chart-tick"
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="middle">{}</text>').format(
        kind, place, HEIGHT + 18, text
    )


def _spots(times: Sequence[datetime], lines: Sequence[_Line], say: Callable[[float], str]) -> Markup:
    """What one reads where one points: a strip for each time."""
    gaps = max(1, len(times) - 1)
    return Markup().join(
        Markup('<rect class="chart-spot" x="{}" y="0" width="{}" height="{}"><title>{}</title></rect>').format(
            _percent(max(0.0, (n - 0.5) / gaps)), _percent((1 if 0 < n < gaps else 0.5) / gaps), HEIGHT,
            " · ".join([time_text(at), *(f"{line.name} {say(line.values[n] or 0)}" for line in lines
                                         if line.values[n] is not None)]),
        )
        for n, at in enumerate(times)
    )  # fmt: skip


def _line(values: Sequence[float | None], count: int, top: float, wide: float, high: float, tone: int) -> Markup:
    """Lines from value to value; a gap where there is none, and a dot where both neighbours are none."""
    strokes, dots, is_down = "", "", False
    for n, value in enumerate(values):
        if value is None:
            is_down = False
            continue
        place = f"{_number(wide * n / (count - 1) if count > 1 else wide / 2)} {_number(high * (1 - value / top))}"
        if not is_down and (n + 1 == len(values) or values[n + 1] is None):
            dots += f"M{place}h0"
        else:
            strokes += f"{'L' if is_down else 'M'}{place}"
        is_down = True
    return Markup().join(
        Markup('<path class="chart-{} tone-{}" vector-effect="non-scaling-stroke" d="{}"/>').format(kind, tone, path)
        for kind, path in (("line", strokes), ("line chart-dot", dots))
        if path
    )


def _describe(times: Sequence[datetime], lines: Sequence[_Line], say: Callable[[float], str]) -> str:
    said = [f"From {time_text(times[0])} to {time_text(times[-1])}."]
    for line in lines:
        known = [(value, at) for value, at in zip(line.values, times, strict=True) if value is not None]
        if not known:
            said.append(f"{line.name}: nothing known.")
            continue
        value, at = max(known, key=lambda pair: pair[0])
        said.append(f"{line.name}: last {say(known[-1][0])}, highest {say(value)} at {time_text(at)}.")
    return " ".join(said)


def _legend(lines: Sequence[_Line], say: Callable[[float], str], unit: Unit) -> Markup:
    """Each line's stroke and name, and what is most wanted of it: all of it together, or where it stands now."""
    items = []
    for line in lines:
        known = [value for value in line.values if value is not None]
        gist = f"highest {say(max(known))}" if unit == "seconds" and known else say(sum(known))
        items.append(
            Markup(
                '<li><svg class="chart-key" width="26" height="10" aria-hidden="true"><path class="chart-line tone-{}"'
                ' d="M2 5H24"/></svg>{} <span class="chart-gist">{}</span></li>'
            ).format(line.tone, line.name, gist)
        )
    return Markup('<ul class="chart-legend">{}</ul>').format(Markup().join(items))


# Values by name -----------------------------------------------------------------------------------------------------

_Row = tuple[str, float | None, str | None]
_ROW: Final = 44


def _bars(key: str, title: str, rows: Sequence[_Row], say: Callable[[float], str], kind: str) -> Markup:
    if not rows:
        return figure(key, title, nothing(title), Markup(), Markup())
    top = highest_of([value for _, value, _ in rows] for _ in (0,)) or 1.0
    drawn = Markup().join(_bar(n * _ROW, row, top, say, kind) for n, row in enumerate(rows))
    said = " ".join(f"{name}: {_value(value, say)}{f' ({note})' if note else ''}." for name, value, note in rows)
    svg = Markup(
        '<svg class="chart-picture" role="img" width="100%" height="{}"><title>{}</title><desc>{}</desc>{}</svg>'
    ).format(len(rows) * _ROW, title, said, drawn)
    has_notes = any(note for _, _, note in rows)
    cells = [[name, _value(value, say), *([note or ""] if has_notes else [])] for name, value, note in rows]
    return figure(
        key, title, svg, Markup(), table(title, ["What", "How many", *(["Share"] if has_notes else [])], cells)
    )


def _value(value: float | None, say: Callable[[float], str]) -> str:
    return "not known" if value is None else say(value)


def _bar(y: float, row: _Row, top: float, say: Callable[[float], str], kind: str) -> Markup:
    name, value, note = row
    label = name if len(name) <= _LONG_LABEL else name[: _LONG_LABEL - 1] + "…"
    return Markup(
        '<g><title>{full}</title><text class="chart-label" x="0" y="{text}">{label}</text>'
        '<text class="chart-value" x="100%" y="{text}" text-anchor="end">{value}{note}</text>'
        '<rect class="chart-track" x="0" y="{bar}" width="100%" height="14" rx="3"/>'
        '<rect class="{kind}" x="0" y="{bar}" width="{width}" height="14" rx="3"/></g>'
    ).format(
        full=f"{name}: {_value(value, say)}{f', {note}' if note else ''}",
        label=label,
        text=_number(y + 14),
        value=_value(value, say),
        note=Markup('<tspan class="chart-note"> · {}</tspan>').format(note) if note else "",
        bar=_number(y + 21),
        kind=kind,
        width=_percent((value or 0) / top),
    )


def _shares(count: float | None, first: float | None, before: float | None) -> str | None:
    if count is None or not first:
        return None
    whole = f"{_share(count, first)} of all"
    return whole if not before or before == first else f"{_share(count, before)} of the step before, {whole}"


def _share(part: float, whole: float) -> str:
    share = 100 * part / whole
    return "<1 %" if 0 < share < 1 else f"{round(share)} %"


def _number(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


def _percent(share: float) -> str:
    return f"{_number(100 * share)}%"

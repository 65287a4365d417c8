"""Charts: whatever the numbers are, the picture is well-formed, its axes are round, it says what it shows."""

import math
import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest
from markupsafe import Markup

from hub.http.console.chart_scales import (
    duration_text,
    duration_ticks,
    number_text,
    short_text,
    tick_text,
    time_ticks,
    value_ticks,
)
from hub.http.console.charts import Series, bar_chart, funnel, line_chart, sparkline

AT = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
HOSTILE = "<script>alert(1)</script>\"'&"
Values = list[float | None]


def over_time(values: Values, step: timedelta = timedelta(minutes=1)) -> list[tuple[datetime, float | None]]:
    return [(AT + n * step, value) for n, value in enumerate(values)]


def parsed(chart: Markup) -> ET.Element:
    """The chart as XML: well-formed, without scripts, styles or handlers."""
    text = re.sub(r"<(br|hr|input)([^>]*)>", r"<\1\2/>", str(chart))
    root = ET.fromstring(f"<body>{text}</body>")
    for one in root.iter():
        assert one.tag != "script"  # nothing runs
        assert not [name for name in one.attrib if name == "style" or name.startswith("on")]
    return root


def lines_of(chart: Markup) -> list[str]:
    return [one.attrib["d"] for one in parsed(chart).iter("path") if "vector-effect" in one.attrib]


@pytest.mark.parametrize(
    ("highest", "ticks"),
    [
        (0, [0, 1]),
        (0.3, [0, 0.1, 0.2, 0.3]),
        (1, [0, 1]),
        (3, [0, 1, 2, 3]),
        (7, [0, 2, 4, 6, 8]),
        (11, [0, 5, 10, 15]),
        (100, [0, 25, 50, 75, 100]),
        (1234, [0, 500, 1000, 1500]),
        (5e6, [0, 2e6, 4e6, 6e6]),
        (1e18, [0, 2.5e17, 5e17, 7.5e17, 1e18]),
    ],
)
def test_values_of_an_axis_are_round_and_reach_the_highest(highest: float, ticks: list[float]) -> None:
    assert value_ticks(highest) == pytest.approx(ticks)


@pytest.mark.parametrize("exponent", range(-6, 20))
@pytest.mark.parametrize("factor", [1, 1.01, 1.99, 3.7, 9.999])
def test_no_value_is_above_its_axis_and_no_axis_is_crowded(exponent: int, factor: float) -> None:
    for ticks in (value_ticks(factor * 10.0**exponent), duration_ticks(factor * 10.0**exponent)):
        assert ticks[0] == 0
        assert ticks[-1] >= factor * 10.0**exponent * (1 - 1e-9)
        assert 2 <= len(ticks) <= 6


@pytest.mark.parametrize(
    ("length", "said"),
    [
        (timedelta(minutes=59), "09:30 09:40 09:50 10:00 10:10 10:20"),
        (timedelta(hours=24), "12:00 18:00 2 Mar 06:00"),
        (timedelta(days=7), "2 Mar 3 Mar 4 Mar 5 Mar 6 Mar 7 Mar 8 Mar"),
        (timedelta(days=400), "21 Mar 19 Jun 17 Sep 16 Dec 16 Mar"),
        (timedelta(seconds=30), "09:30"),
    ],
    ids=["an hour", "a day", "a week", "over a year", "half a minute"],
)
def test_times_of_an_axis_are_round_and_midnight_is_its_day(length: timedelta, said: str) -> None:
    ticks = time_ticks(AT, AT + length)
    assert " ".join(tick_text(tick, ticks) for tick in ticks) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "0"),
        (1, "1"),
        (1.5, "1.5"),
        (0.25, "0.25"),
        (999, "999"),
        (12345, "12\u202f345"),
        (1e9, "1\u202f000\u202f000\u202f000"),
    ],
)
def test_numbers_are_said(value: float, said: str) -> None:
    assert number_text(value) == said


@pytest.mark.parametrize(
    ("value", "said"), [(0, "0"), (950, "950"), (1500, "1.5k"), (2e6, "2M"), (3e9, "3G"), (1e12, "1T"), (1e18, "1e18")]
)
def test_axes_are_short(value: float, said: str) -> None:
    assert short_text(value) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0"),
        (0.0004, "0.4 ms"),
        (0.12, "120 ms"),
        (1, "1 s"),
        (9.63, "9.6 s"),
        (90, "1.5 min"),
        (7200, "2 h"),
        (172_800, "2 d"),
    ],
)
def test_lengths_of_time_are_said(seconds: float, said: str) -> None:
    assert duration_text(seconds) == said


# Line charts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "series", [[], [Series("a", [])], [Series("a", over_time([None, None]))], [Series("a", over_time([math.nan]))]],
    ids=["no series", "no points", "only gaps", "not a number"],
)  # fmt: skip
def test_nothing_to_draw_says_so(series: list[Series]) -> None:
    root = parsed(line_chart("Traffic", series))
    assert root.find(".//svg") is None
    assert "Nothing to draw yet" in "".join(root.itertext())


CASES: list[tuple[str, Values, list[str]]] = [
    ("one value", [5], ["M500 30h0"]),
    ("all zero", [0, 0, 0], ["M0 180L500 180L1000 180"]),
    ("a gap", [1, None, 1, 1], ["M666.7 0L1000 0", "M0 0h0"]),
    ("gaps at both ends", [None, 4, None], ["M500 0h0"]),
    ("never below zero", [-5, 1], ["M0 180L1000 0"]),
    ("endless is a gap", [1, math.inf, 1], ["M0 0h0M1000 0h0"]),
    ("huge", [1e18, 0], ["M0 0L1000 180"]),
]


@pytest.mark.parametrize(("values", "paths"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_lines_are_where_their_values_are(values: Values, paths: list[str]) -> None:
    chart = line_chart("Traffic", [Series("received", over_time(values))])
    assert lines_of(chart) == paths
    parsed(chart)


def test_a_chart_says_in_words_and_as_a_table_what_it_shows() -> None:
    chart = line_chart(
        "Lag", [Series("helpdesk", over_time([0.1, 2.5])), Series("crm", over_time([None, 90]))], "seconds"
    )
    root = parsed(chart)
    svg = root.find(".//svg[@role='img']")
    assert svg is not None
    assert svg.findtext("title") == "Lag"
    described = svg.findtext("desc") or ""
    assert "helpdesk: last 2.5 s, highest 2.5 s at 1 Mar 09:31 UTC." in described
    cells = [[cell.text or "" for cell in row] for row in root.iter("tr")]
    assert cells == [
        ["Time", "helpdesk", "crm"],
        ["1 Mar 09:30 UTC", "100 ms", ""],
        ["1 Mar 09:31 UTC", "2.5 s", "1.5 min"],
    ]
    strokes = [one.attrib["class"] for one in svg.iter("path")]
    assert len(set(strokes)) == 2  # told apart by more than their place
    assert "2.5 s" in "".join(spot.findtext("title") or "" for spot in svg.iter("rect"))


def test_series_of_different_times_share_an_axis() -> None:
    late = [(AT + timedelta(minutes=2), 1.0)]
    chart = line_chart("Two", [Series("a", over_time([1, 1])), Series("b", late)])
    assert lines_of(chart) == ["M0 0L500 0", "M1000 0h0"]


def test_times_of_any_zone_are_said_in_utc() -> None:
    berlin = datetime.fromisoformat("2026-03-01T10:30:00+01:00")
    assert "1 Mar 09:30 UTC" in line_chart("Zone", [Series("a", [(berlin, 1)])])


# Bars and small ones -----------------------------------------------------------------------------------------------


def widths(chart: Markup) -> list[str]:
    return [one.attrib["width"] for one in parsed(chart).iter("rect") if "chart-bar" in one.attrib["class"]]


def test_bars_are_as_wide_as_their_values() -> None:
    chart = bar_chart("Clicks", [("people", 8), ("previews", 2), ("nobody", 0), ("unknown", None)], "clicks")
    assert widths(chart) == ["100%", "25%", "0%", "0%"]
    assert "unknown: not known" in chart
    assert widths(bar_chart("Zero", [("a", 0)])) == ["0%"]
    assert "Nothing to draw yet" in bar_chart("None", [])


@pytest.mark.parametrize(
    ("steps", "shares"),
    [
        ([("sent", 200), ("read", 50), ("clicked", 1)], ["", "25 % of all", "2 % of the step before, <1 % of all"]),
        ([("sent", 4), ("read", None), ("clicked", 2)], ["", "", "50 % of all"]),
        ([("sent", 0), ("read", 0)], ["", ""]),
        ([("clicked", 2), ("visited", 3)], ["", "150 % of all"]),
    ],
    ids=["falls", "a step unknown", "none at all", "more than before"],
)
def test_a_funnel_says_what_is_left(steps: list[tuple[str, float | None]], shares: list[str]) -> None:
    chart = funnel("From message to person", steps)
    cells = [[cell.text or "" for cell in row] for row in parsed(chart).iter("tr")][1:]
    assert [row[2] if len(row) > 2 else "" for row in cells] == shares


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([], "nothing yet"),
        ([None], "nothing yet"),
        ([0, 0], "last 0, highest 0"),
        ([3, None, 1], "last 1, highest 3"),
        ([-4], "last 0, highest 0"),
    ],
    ids=["none", "a gap", "zero", "with a gap", "never below zero"],
)  # fmt: skip
def test_a_small_line_says_where_it_stands(values: Values, words: str) -> None:
    root = parsed(sparkline(values, "Received"))
    assert root.findtext(".//title") == f"Received: {words}"


@pytest.mark.parametrize(
    "chart",
    [
        line_chart(HOSTILE, [Series(HOSTILE, over_time([1, 2]))], key="k"),
        bar_chart(HOSTILE, [(HOSTILE, 1)]),
        funnel(HOSTILE, [(HOSTILE, 2), (HOSTILE * 9, 1)]),
        sparkline([1], HOSTILE),
        line_chart(HOSTILE, []),
    ],
    ids=["line", "bar", "funnel", "sparkline", "empty"],
)
def test_whatever_a_name_holds_it_is_only_text(chart: Markup) -> None:
    root = parsed(chart)
    assert HOSTILE in "".join(root.itertext())
    assert "<script" not in chart

"""Several conversations read as one: places in all of them as one word, and the order of what is said (rule C3)."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from hub.domain.errors import Invalid
from hub.domain.timeline import CLICKS, THE_END, VISITS, decode, encode, mark, merged, unmark

FIRST, SECOND = UUID(int=1), UUID(int=2**127)
PLACES = [{}, {FIRST: 0}, {FIRST: 7, SECOND: 2**62}, {UUID(int=n): n for n in range(200)}, {FIRST: -12}]


@pytest.mark.parametrize("places", PLACES, ids=["none", "one", "two", "many", "history"])
def test_places_are_read_back(places: dict[UUID, int]) -> None:
    assert decode(encode(places)) == places


def test_another_word_is_refused() -> None:
    good = encode({FIRST: 7, SECOND: 9})
    wrong = [
        "",
        "0",
        "x",
        "é",
        good[:-1],
        good + "A",
        good[:-4] + "AAAA",
        good.swapcase(),
        good * 500,
        good + "=",
        encode({VISITS: 2**192 - 1}),
    ]
    for text in wrong:
        with pytest.raises(Invalid) as refusal:
            decode(text)
        assert refusal.value.code == "invalid_cursor", text


def test_the_order_within_a_conversation_is_kept() -> None:
    """Two were stored by clocks that differ: their places count, not their times."""
    one, other = [(3, "a"), (2, "b"), (9, "c")], [(4, "d"), (5, "e")]

    def at(row: tuple[int, str]) -> int:
        return row[0]

    assert [name for _, name in merged([one, other], at, 9, is_forward=True)] == ["a", "b", "d", "e", "c"]
    back = merged([one[::-1], other[::-1]], at, 9, is_forward=False)
    assert [name for _, name in back] == ["c", "e", "d", "b", "a"]
    assert merged([one, other], at, 2, is_forward=True) == one[:2]


WEB = [
    {VISITS: 0, CLICKS: 0},
    {VISITS: THE_END, CLICKS: mark(datetime(2026, 3, 1, tzinfo=UTC), SECOND)},
    {FIRST: 7, VISITS: 2**192 - 2, CLICKS: 1, SECOND: 3},
]


@pytest.mark.parametrize("places", WEB, ids=["begin", "end", "with conversations"])
def test_places_on_the_web_are_read_back(places: dict[UUID, int]) -> None:
    assert decode(encode(places)) == places


def test_a_place_without_the_web_is_written_as_it_always_was() -> None:
    assert encode({FIRST: 7}) == "AQAAAAAAAAAAAAAAAAAAAAEAAAAAAAAAB8VbH2E"


@pytest.mark.parametrize(
    ("at", "name"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0)),
        (datetime(2026, 3, 1, 12, 30, 5, 123456, tzinfo=UTC), SECOND),
        (datetime(2026, 3, 1, 12, 30, 5, 123456, tzinfo=UTC), UUID(int=2**128 - 1)),
    ],
    ids=["epoch", "some", "last of its moment"],
)
def test_a_time_and_id_are_a_place_like_a_number(at: datetime, name: UUID) -> None:
    assert unmark(mark(at, name)) == (at, name)
    assert mark(at, name) < mark(at + timedelta(microseconds=1), UUID(int=0)) < THE_END
    assert unmark(mark(at, name) + 1) > (at, name)


def test_a_place_beyond_all_time_is_the_end_of_it() -> None:
    assert unmark(THE_END)[0] == unmark(2**192 - 1)[0] == datetime.max.replace(tzinfo=UTC)

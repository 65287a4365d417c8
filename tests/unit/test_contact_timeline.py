"""Several conversations read as one: places in all of them as one word, and the order of what is said (rule C3)."""

from uuid import UUID

import pytest

from hub.domain.errors import Invalid
from hub.domain.timeline import decode, encode, merged

FIRST, SECOND = UUID(int=1), UUID(int=2**127)
PLACES = [{}, {FIRST: 0}, {FIRST: 7, SECOND: 2**62}, {UUID(int=n): n for n in range(200)}]


@pytest.mark.parametrize("places", PLACES, ids=["none", "one", "two", "many"])
def test_places_are_read_back(places: dict[UUID, int]) -> None:
    assert decode(encode(places)) == places


def test_another_word_is_refused() -> None:
    good = encode({FIRST: 7, SECOND: 9})
    wrong = ["", "0", "x", "é", good[:-1], good + "A", good[:-4] + "AAAA", good.swapcase(), good * 500, good + "="]
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

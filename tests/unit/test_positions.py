"""The cursor of a reader: every place in the log survives the way out and back, and nothing else is taken for one."""

import base64
import zlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.domain.errors import Invalid
from hub.domain.positions import SHARDS, Positions, decode

ids = st.integers(0, 2**63 - 1)
times = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
HERE = Positions(tuple(range(1_000_000, 1_000_000 + SHARDS)))


def vectors(position: st.SearchStrategy[int]) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(position, min_size=SHARDS, max_size=SHARDS).map(tuple)


places = st.builds(Positions, st.one_of(vectors(ids), ids.map(lambda top: (top,) * SHARDS)), st.none() | times)


@given(places)
def test_g4_a_cursor_is_read_back_as_it_was(place: Positions) -> None:
    word = place.encode()
    assert decode(word) == place
    assert word.isascii()
    assert word.replace("-", "").replace("_", "").isalnum()  # needs no escaping in a URL or a header
    assert len(word) <= 1000


@given(vectors(st.integers(10**9 - 8000, 10**9)))
def test_g4_a_cursor_of_a_reader_that_keeps_up_is_short(at: tuple[int, ...]) -> None:
    """Two bytes a shard: it goes into a URL, and with every page of a stream."""
    assert len(Positions(at).encode()) <= 190


@given(st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("=")))
def test_nothing_else_is_a_cursor(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        decode(text)
    assert refused.value.code == "invalid_cursor"


@given(places, st.data())
def test_a_cursor_that_was_damaged_is_told(place: Positions, data: st.DataObject) -> None:
    word = place.encode()
    at = data.draw(st.integers(0, len(word) - 1))
    letter = data.draw(st.sampled_from("ABCXYZabcxyz019-_=. "))
    for damaged in (word[:at], word[:at] + letter + word[at + 1 :], word[:at] + letter + word[at:], word + letter):
        if damaged != word:
            with pytest.raises(Invalid):
                decode(damaged)


def forged(content: bytes) -> str:
    """A word whose check sum is right."""
    return base64.urlsafe_b64encode(content + zlib.crc32(content).to_bytes(4, "big")).rstrip(b"=").decode()


SAME = b"\x00" * SHARDS


def test_a_cursor_is_well_formed_or_none() -> None:
    assert decode(forged(b"\x01\x00\x05" + SAME)) == Positions((5,) * SHARDS)
    for content in (
        b"",
        b"\x02\x00\x05" + SAME,  # of another version
        b"\x01\x00\x05" + SAME[1:],  # a shard too few
        b"\x01\x00\x05" + SAME + b"\x00",  # and one too many
        b"\x01\x00\x05" + SAME[1:] + b"\x06",  # below nothing
        b"\x01\x00\x05" + b"\x01" * SHARDS,  # higher than its highest
        b"\x01\x00\x85\x00" + SAME,  # longer than need be
        b"\x01\x00\x05" + SAME + b"\x80",  # cut in the middle of a number
        b"\x01\x00" + b"\xff" * 9 + b"\x7f" + SAME,  # no id
        b"\x01" + b"\xff" * 9 + b"\x7f\x05" + SAME,  # no time
    ):
        with pytest.raises(Invalid):
            decode(forged(content))


def test_the_highest_position_is_that_of_all_shards() -> None:
    assert HERE.highest == 1_000_063

"""Visitor handles: opaque, good for ten minutes, for one visitor, and only with a key of the hub."""

import base64
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from hub.domain.errors import Invalid
from hub.domain.handles import LENGTH, LIFE, Handles

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MIA = UUID("0197a200-1234-7567-89ab-0123456789ab")
HANDLES = Handles(["new", "old"])
GOOD = HANDLES.make(MIA, NOW)


def raw(handle: str) -> bytes:
    return base64.urlsafe_b64decode(handle + "==")


def test_a_handle_is_read_back_until_it_is_too_old() -> None:
    assert HANDLES.read(GOOD, NOW)[0] == MIA
    assert HANDLES.read(GOOD, NOW + LIFE - timedelta(seconds=1))[0] == MIA
    with pytest.raises(Invalid) as refused:
        HANDLES.read(GOOD, NOW + LIFE)
    assert refused.value.code == "invalid_handle"


def test_it_tells_nothing_of_the_visitor_and_is_another_each_time() -> None:
    handles = [HANDLES.make(MIA, NOW) for _ in range(50)]
    assert len({*handles}) == len({HANDLES.read(handle, NOW)[1] for handle in handles}) == 50
    assert {len(handle) for handle in handles} == {LENGTH}
    for handle in handles:
        assert MIA.bytes[:4] not in raw(handle)
        assert MIA.hex[:6] not in handle


def test_it_has_one_hash_however_it_is_spelt() -> None:
    """Four bits of the last character mean nothing."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    place = alphabet.index(GOOD[-1]) // 16 * 16
    spelt = [GOOD[:-1] + alphabet[place + step] for step in range(16)]
    assert {HANDLES.read(text, NOW) for text in spelt} == {HANDLES.read(GOOD, NOW)}


def test_keys_can_be_rotated() -> None:
    made = Handles(["old"]).make(MIA, NOW)
    assert HANDLES.read(made, NOW)[0] == MIA
    with pytest.raises(Invalid):
        Handles(["new"]).read(made, NOW)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        GOOD[:-1],
        GOOD + "A",
        GOOD + "=",
        "A" * LENGTH,
        "!" * LENGTH,
        "ü" * LENGTH,
        "\ud800" * LENGTH,
        GOOD[:20] + ("A" if GOOD[20] != "A" else "B") + GOOD[21:],
        GOOD.swapcase(),
        "A" * 100_000,
    ],
    ids=range(12),
)
def test_what_is_no_handle_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        HANDLES.read(text, NOW)
    assert refused.value.code == "invalid_handle"

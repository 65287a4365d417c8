"""Identifiers: opaque, typed, sortable by age."""

import time
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hub.domain.errors import NotFound
from hub.domain.ids import event_id, new_id, parse_id, public_id, shard_of

PREFIXES = ["chn", "cnv", "con", "evt", "msg", "sub", "svc"]


def test_a_new_id_is_a_uuid_of_version_7_with_the_time_in_front() -> None:
    before = time.time_ns() // 1_000_000
    made = new_id()
    after = time.time_ns() // 1_000_000
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert before <= made.int >> 80 <= after


def test_text_order_is_order_of_age(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 1_700_000_000_000_000_000
    made = []
    for step in range(50):
        monkeypatch.setattr(time, "time_ns", lambda now=clock + step * 1_000_000: now)
        made.append(public_id("msg", new_id()))
    assert made == sorted(made)


def test_ids_do_not_repeat() -> None:
    assert len({new_id() for _ in range(20_000)}) == 20_000


def test_ids_spread_over_all_shards() -> None:
    assert {shard_of(new_id()) for _ in range(5_000)} == set(range(64))


@given(st.uuids(), st.sampled_from(PREFIXES))
def test_what_is_written_is_read_back(value: UUID, prefix: str) -> None:
    assert parse_id(prefix, public_id(prefix, value)) == value


@pytest.mark.parametrize("other", [prefix for prefix in PREFIXES if prefix != "msg"])
def test_an_id_of_another_kind_names_nothing(other: str) -> None:
    with pytest.raises(NotFound):
        parse_id("msg", public_id(other, new_id()))


HEX = "0197" + "a" * 28


@given(st.text(max_size=40) | st.text(min_size=32, max_size=32).map(lambda text: f"msg_{text}"))
@example("msg_" + HEX.upper())
@example("msg_" + "0x" + HEX[2:])
@example("msg_" + HEX[:15] + "_" + HEX[16:])
@example("msg_" + " " + HEX[1:])
@example("msg_" + "+" + HEX[1:])
@example("msg_" + "١" * 32)
@example("msg_" + HEX + "\n")
@example("msg_{" + HEX[2:] + "}")
@example("msg_" + HEX[:8] + "-" + HEX[9:])
@example("msg_")
@example("msg")
@example("")
def test_one_thing_has_one_id(text: str) -> None:
    try:
        value = parse_id("msg", text)
    except NotFound:
        return
    assert public_id("msg", value) == text


@given(st.lists(st.integers(0, 2**62), min_size=2, max_size=2))
def test_event_ids_sort_as_their_numbers(numbers: list[int]) -> None:
    one, other = numbers
    assert (event_id(one) < event_id(other)) is (one < other)


def test_ids_made_here_go_up_even_within_one_millisecond() -> None:
    made = [new_id() for _ in range(20_000)]
    assert made == sorted(set(made))
    assert {value.version for value in made} == {7}

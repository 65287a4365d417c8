"""Who is parent next (rules A2, A5, A6)."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.domain.parenthood import Member, check_heir, next_parent


def member(number: int, rank: int, *, is_parent: bool = False) -> Member:
    return Member(UUID(int=number), UUID(int=1000 + number), rank, is_parent)


def test_a5_the_longest_connected_inherits() -> None:
    members = [member(3, 30), member(1, 10, is_parent=True), member(2, 20)]
    assert next_parent(members, UUID(int=1)) == members[2]


def test_a5_the_longest_connected_inherits_also_where_the_parent_came_late() -> None:
    members = [member(1, 10), member(2, 20), member(3, 30, is_parent=True)]
    assert next_parent(members, UUID(int=3)) == members[0]


def test_a5_a_leaver_never_inherits() -> None:
    assert next_parent([member(1, 10, is_parent=True)], UUID(int=1)) is None
    assert next_parent([], UUID(int=1)) is None


@given(st.permutations(range(1, 9)), st.integers(1, 8))
def test_a5_the_heir_does_not_depend_on_the_order_of_rows(order: list[int], leaving: int) -> None:
    heir = next_parent([member(number, number * 7) for number in order], UUID(int=leaving))
    assert heir is not None
    assert heir.rank == (14 if leaving == 1 else 7)


@pytest.mark.parametrize(
    ("kind", "code"), [("shared", None), ("standalone", "standalone_channel"), (None, "not_connected")]
)
def test_a6_only_a_member_of_the_shared_channel_can_be_handed_it(kind: str | None, code: str | None) -> None:
    refusal = check_heir(kind)
    assert (refusal.code if refusal else None) == code
    if refusal:
        assert refusal.status == 409
        assert "(rule" in refusal.detail

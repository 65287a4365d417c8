"""Who is parent next (rules A2, A5)."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from hub.domain.parenthood import Member, next_parent


def member(number: int, rank: int, *, is_parent: bool = False) -> Member:
    return Member(UUID(int=number), UUID(int=1000 + number), rank, is_parent)


def test_a5_the_longest_connected_inherits() -> None:
    members = [member(3, 30), member(1, 10, is_parent=True), member(2, 20)]
    assert next_parent(members, UUID(int=1)) == members[2]


def test_a5_a_leaver_never_inherits() -> None:
    assert next_parent([member(1, 10, is_parent=True)], UUID(int=1)) is None
    assert next_parent([], UUID(int=1)) is None


@given(st.permutations(range(1, 9)), st.integers(1, 8))
def test_a5_the_heir_does_not_depend_on_the_order_of_rows(order: list[int], leaving: int) -> None:
    heir = next_parent([member(number, number * 7) for number in order], UUID(int=leaving))
    assert heir is not None
    assert heir.rank == (14 if leaving == 1 else 7)

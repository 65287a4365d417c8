"""Who is parent next (rules A2, A5)."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Member:
    """A current subscription of a channel; `rank` is the order of connecting, the lowest the longest connected."""

    subscription_id: UUID
    service_id: UUID
    rank: int
    is_parent: bool


def next_parent(members: Iterable[Member], leaving: UUID) -> Member | None:
    """The longest-connected member besides the one that leaves; None where nobody is left.

    A paused or failing member keeps its rank (A5), so nothing about its health is asked here.
    """
    return min((m for m in members if m.subscription_id != leaving), key=lambda m: m.rank, default=None)

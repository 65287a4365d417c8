"""Who is parent next (rules A2, A5, A6)."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from hub.domain.errors import Conflict, Refusal


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


def check_heir(channel_kind: str | None) -> Refusal | None:
    """What stands against handing a number over to a service that is on a channel of this kind; None: on none (A6).

    Nor is its health asked here: it is for the operator to know why.
    """
    if channel_kind is None:
        return Conflict(
            "This service is not connected to this number, so it cannot be its parent (rule A6): connect it first, or"
            " name one of the subscribers.",
            code="not_connected",
        )
    if channel_kind == "standalone":
        return Conflict(
            "This service has a channel of its own on this number, and only a member of the shared channel can be its"
            " parent (rules A3, A6): make it eligible and have it disconnect and connect again, or name one of the"
            " subscribers.",
            code="standalone_channel",
        )
    return None

"""How the status of an outbound message moves: forward only, the same end for every order (rules E7, E8)."""

from dataclasses import dataclass
from typing import Final

ORDER: Final = {"queued": 0, "sending": 1, "unknown": 2, "sent": 3, "failed": 4, "delivered": 5, "read": 6}
"""How far each status is. `cancelled` is not on the way: it is reached from `queued` only, and is final."""

_PROVIDER: Final = frozenset({"sent", "delivered", "read", "failed"})
_RECEIVED: Final = frozenset({"delivered", "read"})


@dataclass(frozen=True, slots=True)
class Move:
    """What a report does: the status afterwards, and whether the reports contradict each other."""

    status: str
    conflict: bool
    is_change: bool


def advance(current: str, reported: str, *, is_conflict: bool = False, is_known: bool = False) -> Move:
    """The status after `reported` arrives at a message that is `current`.

    Delivered or read beats failed in either order, flagged as a conflict. Any status of the provider replaces
    unknown: once the message `is_known` to the provider (its id was given by this report or an earlier one), it is not
    unknown what became of it, but `sending` at least, whenever our own word of that comes. A provider's `cancelled` is
    taken from any state that is not yet sent for certain.
    """
    status = _later(_settled(current), _settled(reported)) if is_known else _later(current, reported)
    clash = is_conflict or _is_clash(current, reported)
    return Move(status, clash, status != current or clash != is_conflict)


def _settled(status: str) -> str:
    return "sending" if status == "unknown" else status


def _later(current: str, reported: str) -> str:
    if current == "cancelled":
        return reported if reported in _PROVIDER else current
    if reported == "cancelled":
        return reported if current in {"queued", "sending", "unknown"} else current
    if reported not in ORDER:
        return current
    return reported if ORDER[reported] > ORDER[current] else current


def _is_clash(current: str, reported: str) -> bool:
    return (current == "failed" and reported in _RECEIVED) or (reported == "failed" and current in _RECEIVED)

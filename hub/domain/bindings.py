"""Bindings: when a visitor was which contact. What clicks (`stitching`) and declarations (`identity`) do to them.

A visitor is one cookie of one browser. Its intervals never overlap, and events are never rewritten: whose a visit was
follows from the binding that holds at its time.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Final, Literal
from uuid import UUID

from hub.domain.addresses import Address

REACH: Final = timedelta(days=30)
"""How far back the visits of a browser count once it is known whose it is (K3)."""
WEEK: Final = timedelta(days=7)
VISITORS_PER_CONTACT: Final = 5
"""A week."""
CONTACTS_PER_VISITOR: Final = 3


class Trust(IntEnum):
    """How a binding is known: by a click, by what somebody typed or a backend says, or by proof."""

    CLICK = 1
    DECLARED = 2
    VERIFIED = 3


@dataclass(frozen=True, slots=True)
class Binding:
    """A visitor was this contact from `start` up to before `until`; None: still is. `bound_at`: when that was decided.

    One made by a click tells the `destination` of the link: the address the link was sent to. Retracted and undone
    bindings are none.
    """

    id: UUID
    visitor_id: UUID
    contact_id: UUID
    start: datetime
    until: datetime | None
    trust: Trust
    bound_at: datetime
    destination: Address | None = None


# Changes ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Claim:
    """This visitor's browser is the first to have landed on the link."""

    link_id: UUID
    visitor_id: UUID
    reason: str = "first_claimant"


@dataclass(frozen=True, slots=True)
class Bind:
    """A new binding, as `Binding` has it."""

    visitor_id: UUID
    contact_id: UUID
    start: datetime
    until: datetime | None
    trust: Trust
    bound_at: datetime
    reason: str
    destination: Address | None = None
    link_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class End:
    """An open binding holds only up to before `at`."""

    binding: Binding
    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Retract:
    """A binding never held: it was somebody else."""

    binding: Binding
    reason: str


@dataclass(frozen=True, slots=True)
class Raise:
    """A binding is better known than it was (`binding.trust` is what it was)."""

    binding: Binding
    trust: Trust
    reason: str


@dataclass(frozen=True, slots=True)
class Flag:
    """Over a limit, for people to look at; a flagged link is suspect from then on."""

    subject: Literal["contact", "link", "visitor"]
    id: UUID
    reason: str = "too_many"


BindingChange = Claim | Bind | End | Retract | Raise | Flag

# Intervals and limits -----------------------------------------------------------------------------------------------


def open_binding(bindings: Iterable[Binding]) -> Binding | None:
    """Who the visitor is now; there is at most one."""
    return next((binding for binding in bindings if binding.until is None), None)


def last_end(bindings: Iterable[Binding]) -> datetime | None:
    """Up to when the visitor is taken by bindings that have ended; None: nothing has."""
    return max((binding.until for binding in bindings if binding.until is not None), default=None)


def over_limits(visitor_id: UUID, contact_id: UUID, contacts: Collection[UUID], others: int) -> tuple[Flag, ...]:
    """What binding this visitor to this contact would have too many of: the visitor `contacts` (this one counted), the
    contact visitors in a week (`others` without this one).
    """
    over_contacts = (Flag("visitor", visitor_id),) if len(contacts) > CONTACTS_PER_VISITOR else ()
    over_visitors = (Flag("contact", contact_id),) if others >= VISITORS_PER_CONTACT else ()
    return over_contacts + over_visitors


def survivor(contact_id: UUID, merged_into: Mapping[UUID, UUID]) -> UUID:
    """The contact that this one goes on as, through every merge."""
    while contact_id in merged_into:
        contact_id = merged_into[contact_id]
    return contact_id


def contact_at(bindings: Iterable[Binding], at: datetime) -> UUID | None:
    """Who a visitor was at a time, as it was bound; None: nobody known."""
    holding = (b for b in bindings if b.start <= at and (b.until is None or at < b.until))
    return next((binding.contact_id for binding in holding), None)

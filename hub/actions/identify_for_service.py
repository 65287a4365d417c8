"""Verb: a service says who its customer is, and what it knows of them (rules I1 to I7, H5)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from hub.actions.identify import Declared, declare
from hub.actions.identity_events import candidate_view, person
from hub.actions.identity_facts import Naming
from hub.actions.use_handle import use_handle
from hub.actions.view_contact import find_person
from hub.domain.addresses import Address
from hub.domain.declared import read_declared
from hub.domain.errors import Fault, Invalid
from hub.domain.events import Event
from hub.domain.handles import Handles
from hub.domain.ids import public_id
from hub.domain.profiles import Declaration
from hub.domain.tracking import ConsentMode
from hub.store import candidates, contact_views, event_log, identities, profiles
from hub.store.pool import Connection

MAX_TRAITS: Final = 100
"""That one service may say of one profile."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a service says. `traits`: JSON by name, None where one is taken back. `is_proved`: the customer has just
    shown, by a code, that the addresses are theirs.
    """

    email: str | None = None
    phone: str | None = None
    external_id: str | None = None
    contact_id: UUID | None = None
    handle: str | None = None
    name: str | None = None
    traits: Mapping[str, str | None] = field(default_factory=dict)
    consents: Sequence[str] = ()
    is_proved: bool = False

    @property
    def is_named(self) -> bool:
        """Whether it says in another way than by an address whom it is about."""
        return self.external_id is not None or self.contact_id is not None


@dataclass(frozen=True, slots=True)
class Identified:
    """The answer, and the events that it makes."""

    view: dict[str, Any]
    rule: str
    events: Sequence[Event]


async def identify_for_service(
    conn: Connection, service_id: UUID, said: Said, region: str | None, handles: Handles, now: datetime, *,
    mode: ConsentMode, auto_merge: bool,
) -> Identified:  # fmt: skip
    """Decide who it is, and write what was said. Raises `Invalid` (`invalid_email`, `invalid_phone` and the like as
    faults; `invalid_handle`, `handle_used`), `NotFound` (the contact), `Conflict` (`external_id_taken`,
    `verified_identities`), `TryAgain`.
    """
    email, phone = _read(said, region)
    if said.contact_id:
        await find_person(conn, said.contact_id, service_id)
    visitor_id = await use_handle(conn, handles, said.handle, now) if said.handle else None
    declaration = Declaration("service", now, email, phone, tuple(dict.fromkeys(said.consents)), said.is_proved)
    naming = Naming(service_id, said.contact_id, said.external_id, said.is_proved)

    async def also(conn: Connection, contact_id: UUID) -> list[str]:
        return await _write(conn, service_id, contact_id, said)

    declared = await declare(
        conn, declaration, visitor_id, mode=mode, service_id=service_id, naming=naming, also=also,
        auto_merge=auto_merge,
    )  # fmt: skip
    view = await _view(conn, service_id, declared, visitor_id)
    return Identified(view, declared.rule, await event_log.append(conn, declared.drafts))


def _read(said: Said, region: str | None) -> tuple[Address | None, Address | None]:
    email, phone = read_declared(said.email, said.phone, region, said.consents, is_named=said.is_named)
    if said.is_proved and not (email or phone):
        raise Invalid(
            "A code proves an address (rules I): give the email or the phone it was sent to.",
            errors=[Fault("/proof", "no_address", "there is no address here that it proves")],
        )
    return email, phone


async def _write(conn: Connection, service_id: UUID, contact_id: UUID, said: Said) -> list[str]:
    """What the service says besides addresses; gives what changed."""
    parts = await profiles.list_parts(conn, (await profiles.read_roots(conn, [contact_id]))[contact_id])
    changed = []
    if said.external_id and await _call_it(conn, service_id, said.external_id, contact_id, parts, said.is_proved):
        changed.append("external_ids")
    if said.name and await identities.name(conn, contact_id, parts, said.name):
        changed.append("name")
    if said.traits and await identities.put_traits(conn, contact_id, parts, service_id, said.traits):
        changed.append("traits")
    if said.traits and await identities.count_traits(conn, parts, service_id) > MAX_TRAITS:
        raise Invalid(
            f"A service says at most {MAX_TRAITS} traits of one profile (rules I): take some back by setting them to"
            " null.",
            errors=[Fault("/traits", "too_many_traits", f"would be more than {MAX_TRAITS} for this contact")],
        )
    return changed


async def _call_it(
    conn: Connection, service_id: UUID, external_id: str, contact_id: UUID, parts: Sequence[UUID], is_verified: bool
) -> bool:  # fmt: skip
    """The service's id leads to this profile; one that leads to a part of it stays there."""
    known = await identities.find(conn, service_id, external_id)
    if known and known["contact_id"] in parts and (known["is_verified"] or not is_verified):
        return False
    owner = known["contact_id"] if known and known["contact_id"] in parts else contact_id
    await identities.put(conn, service_id, external_id, owner, is_verified=is_verified)
    return True


async def _view(conn: Connection, service_id: UUID, declared: Declared, visitor_id: UUID | None) -> dict[str, Any]:
    view = {
        "contact": await person(conn, declared.contact_id),
        "created": declared.is_new,
        "rule": declared.rule,
        "notes": list(declared.notes),
        "operation_id": public_id("op", declared.op_id) if declared.op_id else None,
        "candidates": await _candidates(conn, service_id, declared),
    }
    return view | ({"visitor_id": public_id("vis", visitor_id)} if visitor_id else {})


async def _candidates(conn: Connection, service_id: UUID, declared: Declared) -> list[dict[str, Any]]:
    """Those this call suggests whose contacts the service may know both of (H5)."""
    shown = []
    for row in await candidates.list_of_op(conn, declared.op_id) if declared.op_id else ():
        both = [row["contact_id"], row["other_contact_id"]]
        people = [[r["id"] for r in await contact_views.list_person(conn, contact_id)] for contact_id in both]
        if all([await contact_views.may_see(conn, service_id, ids) for ids in people]):
            shown.append(candidate_view(row))
    return shown

"""Verb: a page says who its visitor is: on the browser's own word, or signed by the site's backend.

Nothing that comes of it is told to the browser: what is refused for the profile's sake is as quiet as what was done.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import structlog

from hub.actions.identify import declare
from hub.actions.use_handle import use_handle
from hub.domain.declared import read_declared
from hub.domain.errors import Invalid
from hub.domain.events import Event
from hub.domain.handles import Handles
from hub.domain.profiles import Declaration
from hub.domain.site_signature import SignedIdentify, verify
from hub.domain.tracking import ConsentMode
from hub.store import event_log, used_tokens
from hub.store.pool import Connection

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Trusted:
    """What declarations of sites are read and checked with: the configuration's part in it."""

    handles: Handles
    site_secrets: Sequence[str]
    phone_region: str | None
    auto_merge: bool
    mode: ConsentMode


@dataclass(frozen=True, slots=True)
class Said:
    """What a page says of its visitor. `signed`: what its backend signed, of the same fields."""

    email: str | None = None
    phone: str | None = None
    consents: Sequence[str] = ()
    signed: SignedIdentify | None = None


async def declare_from_site(
    conn: Connection, said: Said, visitor_id: UUID | None, trusted: Trusted, now: datetime
) -> list[Event]:
    """Take a declaration, and log the events. A browser that has no visitor has not agreed to be known: what it says is
    checked, and nothing is kept.

    Raises `Invalid` for what cannot be read (as `read_declared`) or is not signed properly (`invalid_signature`,
    `signature_expired`, `signature_used`, `invalid_handle`, `handle_used`).
    """
    email, phone = read_declared(said.email, said.phone, trusted.phone_region, said.consents)
    if said.signed:
        verify(trusted.site_secrets, said.signed, now)
    if visitor_id is None:
        return []
    if said.signed:
        await _use_up(conn, said.signed, visitor_id, trusted.handles, now)
    by: Final = "signature" if said.signed else "browser"
    declared = await declare(
        conn,
        Declaration(by, now, email, phone, tuple(dict.fromkeys(said.consents))),
        visitor_id,
        mode=trusted.mode,
        auto_merge=trusted.auto_merge,
    )
    log.info("visitor.declared", by=by, rule=declared.rule)
    return await event_log.append(conn, declared.drafts)


async def _use_up(conn: Connection, signed: SignedIdentify, visitor_id: UUID, handles: Handles, now: datetime) -> None:
    """The handle must be this visitor's, and neither it nor the nonce used before."""
    if await use_handle(conn, handles, signed.handle, now) != visitor_id:
        raise Invalid(
            "The signed handle is another visitor's (rule I): ask hub.handle() on the page that sends it.",
            code="invalid_handle",
        )
    if not await used_tokens.use(conn, signed.nonce_hash, signed.expires_at):
        raise Invalid("The signature was used already, and is good once (rule I): sign anew.", code="signature_used")

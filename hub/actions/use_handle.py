"""Verb: take a visitor handle, which is good once."""

from datetime import datetime
from uuid import UUID

from hub.domain.errors import Invalid
from hub.domain.handles import LIFE, Handles
from hub.store import used_tokens
from hub.store.pool import Connection


async def use_handle(conn: Connection, handles: Handles, text: str, now: datetime) -> UUID:
    """The visitor that a handle names; the handle is used up if the transaction commits.

    Raises `Invalid`: `invalid_handle`, `handle_used`.
    """
    visitor_id, token_hash = handles.read(text, now)
    if not await used_tokens.use(conn, token_hash, now + LIFE):
        raise Invalid(
            "This visitor handle was used already, and is good once (rule I): ask hub.handle() for another.",
            code="handle_used",
        )
    return visitor_id

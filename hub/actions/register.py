"""Verbs of the operator: register a service or a number."""

from collections.abc import Sequence
from uuid import UUID

import orjson

from hub.domain.errors import Conflict
from hub.domain.ids import new_id
from hub.store import audit, numbers, services
from hub.store.numbers import SenderDraft
from hub.store.pool import BadData, Connection, Record, savepoint
from hub.store.sealing import hash_api_key, new_api_key
from hub.store.services import ServiceDraft

OPERATOR = "operator"


async def register_service(
    conn: Connection,
    *,
    name: str,
    plan: str,
    product: str | None,
    upgraded_from_standalone: bool,
    scopes: Sequence[str],
) -> tuple[Record, str]:
    """Register a service; gives it and its API key, which is not kept (H3)."""
    draft = ServiceDraft(new_id(), name, plan, product, upgraded_from_standalone, sorted(set(scopes)))
    await services.add_service(conn, draft)
    _, key = await give_key(conn, draft.id)
    await audit.add_audit(conn, OPERATOR, "service.registered", subject=name)
    made = await services.find_service(conn, draft.id)
    assert made is not None
    return made, key


async def give_key(conn: Connection, service_id: UUID) -> tuple[UUID, str]:
    """A new API key for a service: its id and its text, of which only the hash and the last letters are kept (H3)."""
    key_id, key = new_id(), new_api_key()
    await services.add_key(conn, key_id, service_id, hash_api_key(key), key[-4:])
    return key_id, key


async def register_number(conn: Connection, e164: str, senders: Sequence[SenderDraft]) -> UUID:
    """Register a number and open its shared channel, without a parent, at epoch 0 (A7). Raises `Conflict`."""
    number_id = await numbers.add_number(conn, e164)
    if number_id is None:
        raise Conflict(
            "This number is registered already (rule A1): add senders to it, or change what it is set to.",
            code="number_exists",
        )
    try:
        async with savepoint(conn):
            await numbers.add_senders(conn, number_id, senders)
    except BadData:
        raise sender_exists() from None
    channel_id = new_id()
    await numbers.add_channel(conn, channel_id, number_id, "shared")
    named = [(sender.medium, sender.provider, sender.external_id) for sender in senders]
    details = orjson.dumps({"senders": named}).decode()
    await audit.add_audit(
        conn, OPERATOR, "number.registered", number_id=number_id, channel_id=channel_id, subject=e164, details=details
    )
    return channel_id


def sender_exists() -> Conflict:
    """A provider's sender stands for one number only, or nobody would know whose a message is (A1)."""
    return Conflict(
        "One of these senders belongs to another number (rule A1): check its external_id, or register it here only.",
        code="sender_exists",
    )

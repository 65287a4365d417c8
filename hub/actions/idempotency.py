"""Verb: answer a repeated request with the first answer (rule E6)."""

import hashlib
from dataclasses import dataclass
from uuid import UUID

from hub.domain.errors import Invalid
from hub.store import outbox
from hub.store.pool import Connection


@dataclass(frozen=True, slots=True)
class Replay:
    """The answer that an earlier request with the same Idempotency-Key got."""

    status: int
    answer: str


async def claim_idempotency(conn: Connection, service_id: UUID, route: str, key: str, body: bytes) -> Replay | None:
    """Claim the key for this transaction; gives the stored answer where it was used before (E6).

    Raises `Invalid` (`idempotency_mismatch`) where it was used with another body.
    """
    digest = hashlib.sha256(body).digest()
    known = await outbox.claim_key(conn, service_id, route, key, digest)
    if known is None:
        return None
    if bytes(known["body_hash"]) != digest:
        raise Invalid(
            "This Idempotency-Key was used with another body in the last 24 hours (rule E6): take a new key for a new"
            " message.",
            code="idempotency_mismatch",
        )
    return Replay(known["status"], known["answer"])

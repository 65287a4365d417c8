"""Messages as they are handed to their providers, where that is not what their authors wrote: with tracked links.

Tokens stand here in clear, so nothing stays longer than it is needed: to hand the message over, and to ask the provider
what became of it.
"""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import orjson

from hub.store.pool import Connection

KEPT_FOR: Final = timedelta(days=2)
"""How long the form of a message is kept whose outcome never becomes known; nobody asks for it after minutes."""
PRUNE_BATCH: Final = 1000

ADD_SQL = "insert into sent_form (message_id, content, created_at) values ($1, $2, $3)"


async def add(conn: Connection, message_id: UUID, content: Mapping[str, Any], at: datetime) -> None:
    """Keep how a stored message goes out; `at` is when it is to go."""
    await conn.execute(ADD_SQL, message_id, orjson.dumps(content).decode(), at)


FIND_SQL = "select content from sent_form where message_id = $1"


async def find(conn: Connection, message_id: UUID) -> str | None:
    """How a message goes out, as JSON; None: as it was written."""
    content: str | None = await conn.fetchval(FIND_SQL, message_id)
    return content


FORGET_SQL = "delete from sent_form where message_id = any($1::uuid[])"


async def forget(conn: Connection, message_ids: Collection[UUID]) -> None:
    """What became of these messages is known: they are not handed over again."""
    if message_ids:
        await conn.execute(FORGET_SQL, list(message_ids))


# Whatever may still be handed over stays, however old: it waits for its time, or for its provider.
PRUNE_SQL = """
delete from sent_form where message_id in (
    select f.message_id from sent_form f join message m on m.id = f.message_id
    where f.created_at < now() - $1::interval and (m.status not in ('queued', 'sending') or m.provider_id is not null)
      and not exists (select from outbox o where o.message_id = f.message_id)
    order by f.created_at limit $2)"""


async def prune_sent_forms(conn: Connection, age: timedelta = KEPT_FOR) -> int:
    """Remove one batch of forms that nobody needs any more, of messages that were to go before this; gives how many."""
    return int((await conn.execute(PRUNE_SQL, age, PRUNE_BATCH)).split()[-1])

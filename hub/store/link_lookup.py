"""What a redirect needs of a tracked link, and the news that what is remembered of it is out of date."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from hub.store.pool import Connection, Record, translated

_CHANNEL: Final = "partyline_links"
"""Notified by triggers of `tracked_link`; the payload is the token's hash in hexadecimal digits."""

# Accepted: from the first word on that the provider has the message, or may have it (an outcome that is not known).
# Where it gave it an id and no word since, from when it was handed over: callbacks come late, or never.
FIND_LINK_SQL = """
select l.id, l.target, l.medium, l.created_at, l.disabled_at, l.contact_id is not null as is_personal,
       case when l.message_id is null then l.created_at
            else (select min(least(s.at, s.provider_time)) from message_status s
                  where s.message_id = l.message_id
                    and (s.status in ('sent', 'delivered', 'read', 'unknown')
                         or s.status = 'sending' and m.provider_id is not null))
       end as accepted_at
from tracked_link l left join message m on m.id = l.message_id where l.token_hash = $1"""


async def find_link(conn: Connection, token_hash: bytes) -> Record | None:
    """The link of a token; `accepted_at` is null as long as no provider took its message. Whoever is cancelled breaks
    the connection off: it may lead nowhere any more, and its pool would wait for its last word.
    """
    try:
        return await conn.fetchrow(FIND_LINK_SQL, token_hash)
    except asyncio.CancelledError:
        conn.terminate()
        raise


async def listen(conn: Connection, forget: Callable[[bytes], None]) -> None:
    """Call `forget` with the hash of every token whose link changes from now on, as long as the connection lives."""

    def heard(_: object, __: int, ___: str, payload: object) -> None:
        with suppress(ValueError):
            forget(bytes.fromhex(str(payload)))

    async with translated():
        await conn.add_listener(_CHANNEL, heard)

"""The providers' lists of templates as they were read last (rule E10)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson

from hub.store.pool import Connection, Record
from providers.base import Template

LOCK_SENDER_SQL = "select id from sender where id = $1 for no key update"
CLEAR_SQL = "delete from template where sender_id = $1"
ADD_SQL = """
insert into template (sender_id, external_id, name, language, category, status, content)
select $1, * from unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
on conflict do nothing"""
REFRESHED_SQL = "update sender set templates_refreshed_at = $2 where id = $1"


async def replace(conn: Connection, sender_id: int, templates: Sequence[Template], at: datetime) -> None:
    """What the provider listed just now takes the place of what it listed before."""
    await conn.fetchval(LOCK_SENDER_SQL, sender_id)  # two that read the list at once write one after the other
    await conn.execute(CLEAR_SQL, sender_id)
    rows = [
        (t.external_id, t.name, t.language, t.category, t.status, orjson.dumps(t.content).decode()) for t in templates
    ]
    if rows:
        await conn.execute(ADD_SQL, sender_id, *map(list, zip(*rows, strict=True)))
    await conn.execute(REFRESHED_SQL, sender_id, at)


@dataclass(frozen=True, slots=True)
class TemplateNews:
    """What a provider said of a template, named by id or by name and language: what it is now, None where that is not
    told.
    """

    external_id: str | None
    name: str | None
    language: str | None
    status: str | None
    category: str | None


CHANGE_SQL = """
update template set status = coalesce($5, status), category = coalesce($6, category)
where sender_id = $1 and case when $2::text is null then name = $3 and language = $4 else external_id = $2 end
returning true"""
STALE_SQL = "update sender set templates_refreshed_at = null where id = $1 and templates_refreshed_at is not null"


async def note_change(conn: Connection, sender_id: int, news: TemplateNews) -> None:
    """Change the list as the provider says; where it does not say all, the provider is asked when it is next shown."""
    await conn.fetchval(LOCK_SENDER_SQL, sender_id)
    named = (news.external_id, news.name, news.language)
    is_listed = await conn.fetchval(CHANGE_SQL, sender_id, *named, news.status, news.category)
    if not is_listed or not (news.status or news.category):
        await conn.execute(STALE_SQL, sender_id)


REFRESHED_AT_SQL = "select templates_refreshed_at from sender where id = $1"


async def find_refreshed_at(conn: Connection, sender_id: int) -> datetime | None:
    """When a sender's list was read last."""
    value: datetime | None = await conn.fetchval(REFRESHED_AT_SQL, sender_id)
    return value


LIST_SENDERS_SQL = """
select id, medium, provider, external_id, account, templates_refreshed_at
from sender where number_id = $1 and is_active order by id"""
LIST_TEMPLATES_SQL = """
select sender_id, external_id, name, language, category, status, content
from template where sender_id = any($1::bigint[]) and (sender_id, external_id) > ($2, $3)
order by sender_id, external_id limit $4"""


async def list_senders(conn: Connection, number_id: int) -> list[Record]:
    """The active senders of a number, and when their templates were read last."""
    return await conn.fetch(LIST_SENDERS_SQL, number_id)


async def list_templates(
    conn: Connection, sender_ids: Sequence[int], after: tuple[int, str], limit: int
) -> list[Record]:
    """Templates of these senders behind a place: sender and external id."""
    return await conn.fetch(LIST_TEMPLATES_SQL, sender_ids, *after, limit)


# A pause is over in hours, a rejection after an appeal, and nobody may have asked for the list since: what a template
# is allowed is known for an hour only. Its category stays, since it decides what the customer has stopped.
_KNOWN = """
select t.category, case when s.templates_refreshed_at > now() - interval '1 hour' then t.status end as status
from template t join sender s on s.id = t.sender_id"""
FIND_BY_NAME_SQL = f"{_KNOWN} where t.sender_id = $1 and t.name = $2 and t.language = $3 limit 1"
FIND_BY_ID_SQL = f"{_KNOWN} where t.sender_id = $1 and t.external_id = $2"


async def find_by_name(conn: Connection, sender_id: int, name: str, language: str) -> Record | None:
    """A sender's template in one language, as it was listed last; `status` is None where that is too long ago."""
    return await conn.fetchrow(FIND_BY_NAME_SQL, sender_id, name, language)


async def find_by_id(conn: Connection, sender_id: int, external_id: str) -> Record | None:
    """A sender's template by the provider's id; as above."""
    return await conn.fetchrow(FIND_BY_ID_SQL, sender_id, external_id)

"""Who did what (rule A8)."""

from uuid import UUID

from hub.store.pool import Connection, Record

ADD_AUDIT_SQL = """
insert into audit (actor, action, number_id, channel_id, subject, details) values ($1, $2, $3, $4, $5, $6)"""
LIST_AUDIT_SQL = "select * from audit where id > $1 order by id limit $2"


async def add_audit(
    conn: Connection, actor: str, action: str, *, number_id: int | None = None, channel_id: UUID | None = None,
    subject: str | None = None, details: str = "{}",
) -> None:  # fmt: skip
    """Write down who did what (A8)."""
    await conn.execute(ADD_AUDIT_SQL, actor, action, number_id, channel_id, subject, details)


async def list_audit(conn: Connection, after: int, limit: int) -> list[Record]:
    """The audit trail by age."""
    return await conn.fetch(LIST_AUDIT_SQL, after, limit)

"""The part of `partyline check` that asks the database, or the hub that has it: schema, keys, what waits."""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from config.settings import Settings
from hub import app, check_senders
from hub.actions.delivery_view import view_deliveries
from hub.check_findings import Finding, fail, ok, warn
from hub.check_senders import Registered
from hub.domain.errors import Unavailable
from hub.store import checkup, delivery_health, inbound
from hub.store.embedded_host import OLDEST_MAJOR, EmbeddedError, find_binaries
from hub.store.migrate import MigrationError, list_missing
from hub.store.pool import Connection, Database
from hub.store.sealing import KeyProblem

_MIGRATED: Final = "all have run"
_CLOCK_FAIL: Final = 60.0
"""Seconds that the database's clock may differ: leases, windows and retention are judged by it."""
_PAGE: Final = 200
_PAGES: Final = 50


@dataclass(slots=True)
class Stored:
    """What was found, and what is to be looked at: senders and subscriptions, None where they cannot be listed."""

    findings: list[Finding] = field(default_factory=list)
    senders: list[Registered] | None = None
    subscriptions: list[dict[str, Any]] | None = None


async def look(settings: Settings) -> Stored:
    """All of it; an embedded database that is not running is started for it."""
    name, is_embedded = "database", settings.database_url is None
    try:
        if is_embedded and not (settings.data_dir / "postgres" / "cluster").exists():
            return Stored([_binaries(name)], [], [])
        async with AsyncExitStack() as stack:
            database, _ = await stack.enter_async_context(app.open_database(settings))
            return await _read(settings, database, is_embedded=is_embedded)
    except EmbeddedError as error:
        if error.code == "data_dir_in_use":
            return await _of_running(settings, name)
        return Stored([fail("database_embedded", name, error.code, str(error))])
    except Exception as error:
        reason = error.__cause__ if isinstance(error, Unavailable) and error.__cause__ else error
        cure = "may this user use DATA_DIR?" if is_embedded else "is the server up, and DATABASE_URL right?"
        return Stored([fail("database_unreachable", name, str(reason) or type(reason).__name__, cure)])


def _binaries(name: str) -> Finding:
    try:
        binaries = find_binaries(None, None)
    except EmbeddedError as error:
        return fail("database_embedded", name, error.code, str(error))
    return ok("database", name, f"embedded PostgreSQL {binaries.version}, made at the first start")


async def _of_running(settings: Settings, name: str) -> Stored:
    """The embedded database is another process's: what it has is asked of the hub that runs."""
    found = ok("database", name, "embedded, and running: its hub answers for it at /readyz")
    stored = Stored([found])
    try:
        stored.senders = await check_senders.list_of_running(settings)
        stored.subscriptions = await check_senders.list_pages(settings, "subscriptions")
        waiting = await check_senders.list_pages(settings, "quarantine?state=open", pages=1)
    except (OSError, ValueError, KeyError):
        return stored
    stored.findings += _waiting(len(waiting), 0, stored.subscriptions)
    return stored


async def _read(settings: Settings, database: Database, *, is_embedded: bool) -> Stored:
    async with database.reading() as conn:
        findings = await _version_and_schema(conn, is_embedded=is_embedded)
        if findings[-1].found != _MIGRATED:
            return Stored(findings)
        findings += [*await _clock(conn), *await _sealed(settings, conn)]
        subscriptions = await _list_subscriptions(conn)
        findings += _waiting(await inbound.count_open(conn), await checkup.count_dead(conn), subscriptions)
    return Stored(findings, await check_senders.list_stored(database), subscriptions)


async def _version_and_schema(conn: Connection, *, is_embedded: bool) -> list[Finding]:
    kind = "embedded" if is_embedded else "server"
    version = conn.get_server_version()
    if version.major < OLDEST_MAJOR:
        cure = f"PostgreSQL {OLDEST_MAJOR} or later is needed"
        return [fail("database_too_old", "database", f"{kind}, PostgreSQL {version.major}", cure)]
    found = ok("database", "database", f"{kind}, PostgreSQL {version.major}.{version.micro}, answers")
    try:
        missing = [migration.name for migration in await list_missing(conn)]
    except MigrationError as error:
        return [found, fail(error.code, "migrations", str(error), "use the version that ran them")]
    if not missing:
        return [found, ok("migrations", "migrations", _MIGRATED)]
    if is_embedded:
        return [found, ok("migrations", "migrations", f"serve will run {', '.join(missing)}")]
    return [found, fail("migrations_missing", "migrations", f"missing: {', '.join(missing)}", "partyline migrate")]


async def _clock(conn: Connection) -> list[Finding]:
    offset = (datetime.now(UTC) - await checkup.find_now(conn)).total_seconds()
    if abs(offset) < _CLOCK_FAIL:
        return []
    found = f"this machine is {abs(offset):.0f} s {'ahead of' if offset > 0 else 'behind'} the database's"
    return [fail("clock_of_database", "clock", found, "set both by NTP: reply windows and leases depend on it")]


async def _sealed(settings: Settings, conn: Connection) -> list[Finding]:
    """Whether the keys open what was encrypted with them or their predecessors."""
    sealed = await checkup.list_sealed(conn)
    if not sealed:
        return []
    try:
        if not settings.secret_keys and not (settings.data_dir / "secret_key").exists():
            raise KeyProblem(f"no key is configured, and none is kept in {settings.data_dir}")
        sealer = app.sealer(settings)
        for secret in sealed:
            sealer.open(secret)
    except (KeyProblem, OSError) as error:
        cure = "give SECRET_KEYS every key that was ever first in it, or DATA_DIR with its secret_key; or rotate-secret"
        return [fail("secret_keys_do_not_fit", "stored secrets", str(error), cure)]
    return [ok("stored_secrets", "stored secrets", f"SECRET_KEYS opens them ({len(sealed)} tried)")]


async def _list_subscriptions(conn: Connection) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after = UUID(int=0)
    for _ in range(_PAGES):
        ids = await delivery_health.list_ids(conn, after, _PAGE)
        found += await view_deliveries(conn, ids)
        if len(ids) < _PAGE:
            break
        after = ids[-1]
    return found


def _waiting(quarantined: int, dead: int, subscriptions: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """What nobody gets until somebody does something."""
    findings = []
    if quarantined:
        cure = "look at them: GET /v1/admin/quarantine, or the console; replay them once the cause is mended"
        findings.append(warn("quarantine_waiting", "quarantine", f"{_count(quarantined)} could not be taken in", cure))
    if dead:
        cure = "partyline replay --failed, once their endpoints work again"
        findings.append(warn("dead_letters", "dead letters", f"{_count(dead)} events were given up", cure))
    for each in subscriptions:
        delivery = each["delivery"]
        if delivery["state"] == "paused":
            found = f"{each['service']['name']} on {each['number']}: {delivery['paused_reason']}"
            cure = "resume it once it works: POST .../connection/resume, or the console"
            findings.append(warn("subscription_paused", "deliveries", f"paused: {found}", cure))
    return findings


def _count(number: int) -> str:
    return f"{number} or more" if number >= checkup.MOST else str(number)

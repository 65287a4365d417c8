"""Looks for what is wrong before a hub is started, or while it runs, and says what to do about it."""

import asyncio
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Final, Literal
from urllib.parse import urlsplit

import aiohttp
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from config.settings import Settings
from hub import app, check_senders
from hub.check_senders import Looked, Registered
from hub.domain.endpoints import EndpointPolicy
from hub.domain.errors import Unavailable
from hub.store.embedded_host import OLDEST_MAJOR, EmbeddedError, find_binaries
from hub.store.migrate import MigrationError, list_missing
from hub.store.pool import Database
from hub.store.sealing import KeyProblem, Sealer
from providers.whatsapp_cloud.subscriptions import REQUIRED_FIELDS

_META_API: Final = "https://graph.facebook.com"
_TWILIO_API: Final = "https://api.twilio.com"
_TIMEOUT: Final = aiohttp.ClientTimeout(total=3)
_SHORT_KEY: Final = 20
"""Characters below which an operator's key can be guessed."""
_CLOCK_WARN: Final = 30.0
_CLOCK_FAIL: Final = 240.0
"""Seconds; receivers refuse webhooks whose time is off by more than 300."""
_UNKNOWN: Final = "unknown: "
_MIGRATED: Final = "all have run"
_MARKS: Final = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "fail": "[red]fail[/]"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found, and the cure where there is something to cure."""

    name: str
    level: Literal["ok", "warn", "fail"]
    found: str
    cure: str = ""


async def report(settings: Settings) -> int:
    """Print every check as a line of a table; 1 where one failed, warnings count as passed."""
    findings = [Finding("settings", "ok", "every setting is readable")]
    for check in (_public_url, _keys, _eligibility, _endpoints, _meta, _twilio, _data_dir):
        findings += check(settings)
    (databases, senders), networks = await asyncio.gather(_database(settings), _network(settings))
    findings += databases + networks + await _senders(settings, senders)
    _print(findings)
    return int(any(finding.level == "fail" for finding in findings))


def _print(findings: Sequence[Finding]) -> None:
    table = Table("check", "", "found", "what to do")
    for finding in findings:
        table.add_row(finding.name, _MARKS[finding.level], escape(finding.found), escape(finding.cure))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160
    console.print(table)


# Configuration -------------------------------------------------------------------------------------------------------


def _public_url(settings: Settings) -> list[Finding]:
    name, url = "PUBLIC_URL", settings.reached_at
    parts = urlsplit(url)
    if parts.scheme != "https":
        return [Finding(name, "warn", f"{url} is not https", "providers post to https only: set the URL they reach")]
    if _is_local(parts.hostname or ""):
        return [Finding(name, "warn", f"{url} is this machine", "set the URL that providers reach")]
    return [Finding(name, "ok", url)]


def _is_local(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return not ip_address(host).is_global
    except ValueError:
        return False


def _keys(settings: Settings) -> list[Finding]:
    return [_admin_key(settings), _secret_keys(settings)]


def _admin_key(settings: Settings) -> Finding:
    name = "ADMIN_KEY"
    if settings.admin_key is None:
        return _kept(settings, name, "admin_key")
    if len(settings.admin_key.get_secret_value()) < _SHORT_KEY:
        return Finding(name, "warn", "is short", "make one: openssl rand -base64 32")
    return Finding(name, "ok", "configured")


def _secret_keys(settings: Settings) -> Finding:
    name = "SECRET_KEYS"
    if not settings.secret_keys:
        return _kept(settings, name, "secret_key")
    try:
        Sealer([key.get_secret_value() for key in settings.secret_keys])
    except KeyProblem as error:
        return Finding(name, "fail", str(error), "make one: openssl rand -base64 32")
    return Finding(name, "ok", f"{len(settings.secret_keys)} configured, the first encrypts")


def _kept(settings: Settings, name: str, file: str) -> Finding:
    """A key that the hub makes and keeps under DATA_DIR; here nothing is made."""
    path = settings.data_dir / file
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return Finding(name, "ok", f"will be made at the first start, in {path}")
    except OSError as error:
        return Finding(name, "fail", f"{path}: {error.strerror}", "let the hub's user read it, or configure the key")
    if not os.access(path, os.R_OK):
        return Finding(name, "fail", f"{path} is another user's", "run the hub and its commands as one user")
    if mode & 0o077:
        return Finding(name, "warn", f"others may read {path}", f"chmod 600 {path}")
    return Finding(name, "ok", f"kept in {path}")


def _eligibility(settings: Settings) -> list[Finding]:
    name = "ELIGIBILITY_FILE"
    try:
        rules = app.load_eligibility(settings)
    except (app.Unfit, OSError) as error:
        return [Finding(name, "fail", str(error), "mend it as config/eligibility.toml")]
    return [Finding(name, "ok", f"{len(rules)} rules")]


def _endpoints(settings: Settings) -> list[Finding]:
    name = "ALLOW_PRIVATE_ENDPOINTS"
    try:
        policy = EndpointPolicy.parse(settings.allow_private_endpoints)
    except ValueError as error:
        return [Finding(name, "fail", str(error), "off, on, or networks such as 10.0.0.0/8,127.0.0.0/8")]
    if any(network.prefixlen == 0 for network in policy.networks):
        return [Finding(name, "warn", "any address may be called", "name the networks your services live in")]
    return [Finding(name, "ok", settings.allow_private_endpoints or "off")]


def _meta(settings: Settings) -> list[Finding]:
    needed = {
        "META_APP_SECRETS": settings.meta_app_secrets,
        "META_VERIFY_TOKEN": settings.meta_verify_token,
        "META_ACCESS_TOKEN": settings.meta_access_token,
    }
    return [_provider("Meta", needed, f"its webhook: {settings.reached_at}/webhooks/meta")]


def _twilio(settings: Settings) -> list[Finding]:
    needed = {
        "TWILIO_ACCOUNT_SID": settings.twilio_account_sid,
        "TWILIO_AUTH_TOKEN": settings.twilio_auth_token,
    }
    return [_provider("Twilio", needed, f"its webhook: {settings.reached_at}/webhooks/twilio")]


def _provider(name: str, needed: Mapping[str, object], webhook: str) -> Finding:
    missing = [setting for setting, value in needed.items() if not value]
    if not missing:
        return Finding(name, "ok", f"configured; {webhook}")
    if len(missing) == len(needed):
        return Finding(name, "warn", "not configured", f"to use it, set {', '.join(missing)}")
    return Finding(name, "warn", "configured in part", f"set {', '.join(missing)}")


def _data_dir(settings: Settings) -> list[Finding]:
    """Whether it can be written, or made: without making it."""
    path = settings.data_dir.absolute()
    place = next(folder for folder in (path, *path.parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        cure = "let the hub's user write there, or set another DATA_DIR"
        return [Finding("DATA_DIR", "fail", f"{place} cannot be written: {error.strerror}", cure)]
    return [Finding("DATA_DIR", "ok", f"{path} {'is writable' if place == path else 'can be made'}")]


# Database ------------------------------------------------------------------------------------------------------------


async def _database(settings: Settings) -> tuple[list[Finding], list[Registered] | None]:
    """What is to be said of it, and the senders in it; None where they cannot be read."""
    name = "database"
    is_embedded = settings.database_url is None
    try:
        if is_embedded and not (settings.data_dir / "postgres" / "cluster").exists():
            return [_binaries(name)], []
        async with AsyncExitStack() as stack:
            database, _ = await stack.enter_async_context(app.open_database(settings))
            findings = await _version_and_schema(database, is_embedded=is_embedded)
            is_ready = findings[-1].found == _MIGRATED
            return findings, await check_senders.list_stored(database) if is_ready else None
    except EmbeddedError as error:
        if error.code == "data_dir_in_use":
            found = Finding(name, "ok", "embedded, and running: its hub answers for it at /readyz")
            return [found], await _of_running(settings)
        return [Finding(name, "fail", error.code, str(error))], None
    except Exception as error:
        reason = error.__cause__ if isinstance(error, Unavailable) and error.__cause__ else error
        text = str(reason) or type(reason).__name__
        cure = "may this user use DATA_DIR?" if is_embedded else "is the server up, and DATABASE_URL right?"
        return [Finding(name, "fail", text, cure)], None


async def _of_running(settings: Settings) -> list[Registered] | None:
    try:
        return await check_senders.list_of_running(settings)
    except (OSError, ValueError):
        return None


def _binaries(name: str) -> Finding:
    try:
        binaries = find_binaries(None, None)
    except EmbeddedError as error:
        return Finding(name, "fail", error.code, str(error))
    return Finding(name, "ok", f"embedded PostgreSQL {binaries.version}, made at the first start")


async def _version_and_schema(database: Database, *, is_embedded: bool) -> list[Finding]:
    kind = "embedded" if is_embedded else "server"
    async with database.reading() as conn:
        version = conn.get_server_version()
        if version.major < OLDEST_MAJOR:
            cure = f"PostgreSQL {OLDEST_MAJOR} or later is needed"
            return [Finding("database", "fail", f"{kind}, PostgreSQL {version.major}", cure)]
        found = Finding("database", "ok", f"{kind}, PostgreSQL {version.major}.{version.micro}, answers")
        try:
            missing = [migration.name for migration in await list_missing(conn)]
        except MigrationError as error:
            return [found, Finding("migrations", "fail", f"{error.code}: {error}", "use the version that ran them")]
    if not missing:
        return [found, Finding("migrations", "ok", _MIGRATED)]
    if is_embedded:
        return [found, Finding("migrations", "ok", f"serve will run {', '.join(missing)}")]
    return [found, Finding("migrations", "fail", f"missing: {', '.join(missing)}", "partyline migrate")]


# Network -------------------------------------------------------------------------------------------------------------


async def _network(settings: Settings) -> list[Finding]:
    """Whether the configured providers can be reached; and what their clocks say of ours."""
    wanted = []
    if settings.meta_access_token:
        wanted.append(("Meta's API", settings.meta_api_url or _META_API))
    if settings.twilio_account_sid:
        wanted.append(("Twilio's API", settings.twilio_api_url or _TWILIO_API))
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
        answers = await asyncio.gather(*(_reach(session, name, url) for name, url in wanted))
    findings = [finding for finding, _ in answers]
    offsets = [offset for _, offset in answers if offset is not None]
    return [*findings, _clock(min(offsets, key=abs))] if offsets else findings


async def _reach(session: aiohttp.ClientSession, name: str, url: str) -> tuple[Finding, float | None]:
    """Any answer will do: an error is the API's, too. Also gives the seconds our clock is ahead of its."""
    try:
        async with session.get(url, allow_redirects=False) as answer:
            offset = _offset(answer.headers.get("Date"))
            return Finding(name, "ok", f"{url} answers"), offset
    except (aiohttp.ClientError, OSError, ValueError) as error:
        reason = str(error) or type(error).__name__
        return Finding(name, "warn", f"{url}: {reason}", "let the hub out to it"), None


def _offset(date: str | None) -> float | None:
    try:
        return time.time() - parsedate_to_datetime(date).timestamp() if date else None
    except ValueError:
        return None


def _clock(offset: float) -> Finding:
    said = f"{abs(offset):.0f} s {'ahead of' if offset > 0 else 'behind'} the providers'"
    if abs(offset) >= _CLOCK_FAIL:
        return Finding("clock", "fail", said, "set it (NTP): receivers refuse signatures of another time")
    if abs(offset) >= _CLOCK_WARN:
        return Finding("clock", "warn", said, "set it (NTP)")
    return Finding("clock", "ok", said if abs(offset) >= 2 else "agrees with the providers'")


# Senders -------------------------------------------------------------------------------------------------------------


async def _senders(settings: Settings, senders: Sequence[Registered] | None) -> list[Finding]:
    """How the registered senders are, and whether their webhooks come here; what is wrong there is a warning, since the
    hub itself can start.
    """
    if senders is None:
        return [Finding("senders", "warn", "cannot be listed from here", "ask the hub: GET /v1/admin/numbers")]
    looked = await check_senders.look(settings, senders)
    return [finding for each in looked for finding in _sender(settings, each)]


def _sender(settings: Settings, looked: Looked) -> list[Finding]:
    name = f"{looked.sender.probe.medium} {looked.sender.probe.e164}"
    if looked.failure:
        return [Finding(name, "warn", f"{looked.sender.provider}: {looked.failure}", "see Meta's or Twilio's status")]
    found = [
        Finding(name, "warn", f"{code}: {detail}", _cure(settings, looked.sender.provider, code))
        for code, detail in looked.problems.items()
    ]
    if looked.facts.get("webhook_fields", "").startswith(_UNKNOWN):
        text = "which webhook fields the app is subscribed to is unknown"
        cure = looked.facts["webhook_fields"].removeprefix(_UNKNOWN)
        found.append(Finding(name, "warn", text, f"{cure}; the right ones: {', '.join(REQUIRED_FIELDS)}"))
    told = ", ".join(f"{fact} {looked.facts[fact]}" for fact in ("quality", "messaging_limit") if fact in looked.facts)
    return found or [Finding(name, "ok", told or f"{looked.sender.provider} finds nothing wrong")]


def _cure(settings: Settings, provider: str, code: str) -> str:
    if code == "fields_missing":
        return f"subscribe the app to: {', '.join(REQUIRED_FIELDS)}"
    if code == "webhook_elsewhere":
        return f"set there: {settings.reached_at}/webhooks/{provider}"
    return "see docs/providers.md, Sender health"

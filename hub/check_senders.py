"""The part of `partyline check` that asks providers about senders: are they well, do their webhooks come here."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from config.settings import Settings
from hub import app
from hub.store import sender_traffic
from hub.store.pool import Database
from providers.base import Provider, SenderProbe, SendError

PATIENCE: Final = 20.0
"""Seconds a provider has to answer for one sender."""
TOGETHER: Final = 8
_TIMEOUT: Final = aiohttp.ClientTimeout(total=5)
_PAGE: Final = 200


@dataclass(frozen=True, slots=True)
class Registered:
    """A sender of this hub."""

    provider: str
    probe: SenderProbe


@dataclass(frozen=True, slots=True)
class Looked:
    """What became of asking: problems by code and facts, or why it could not be asked."""

    sender: Registered
    problems: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    failure: str = ""


async def list_stored(database: Database) -> list[Registered]:
    """The active senders in a database whose schema is up to date."""
    async with database.reading() as conn:
        rows = await sender_traffic.list_probed(conn)
    return [
        Registered(r["provider"], SenderProbe(r["medium"], r["external_id"], r["e164"], r["account"])) for r in rows
    ]


async def list_of_running(settings: Settings) -> list[Registered]:
    """The active senders as a hub on this machine lists them to its operator. Raises `OSError`, `ValueError`."""
    items = await list_pages(settings, "numbers")
    found = [_registered(item["e164"], sender) for item in items for sender in item["senders"]]
    return [sender for sender in found if sender is not None]


async def list_pages(settings: Settings, what: str, pages: int = 50) -> list[dict[str, Any]]:
    """A list of the operator's API of a hub on this machine, so many pages at most. Raises `OSError`, `ValueError`."""
    if not settings.port or (settings.admin_key is None and not (settings.data_dir / "admin_key").exists()):
        raise ValueError("neither its port nor its key is known here")
    url = f"{settings.reached_here}/v1/admin/{what}"
    headers = {"Authorization": f"Bearer {app.admin_key(settings)}"}
    found: list[dict[str, Any]] = []
    after: dict[str, str] = {}
    try:
        async with aiohttp.ClientSession(timeout=_TIMEOUT, headers=headers) as session:
            for _ in range(pages):
                async with session.get(url, params={"limit": _PAGE, **after}) as answer:
                    if answer.status != 200:
                        raise ValueError(f"{url} answers {answer.status}")
                    page = await answer.json()
                found += page["items"]
                if not page["next"]:
                    break
                after = {"after": page["next"]}
    except (aiohttp.ClientError, TimeoutError) as error:
        raise OSError(str(error) or type(error).__name__) from error
    return found


def _registered(e164: str, sender: Mapping[str, Any]) -> Registered | None:
    if not sender["is_active"]:
        return None
    probe = SenderProbe(sender["medium"], sender["external_id"], e164, sender["account"])
    return Registered(sender["provider"], probe)


async def look(settings: Settings, senders: Sequence[Registered]) -> list[Looked]:
    """Ask the providers about all of them; those that are not configured are left out."""
    if not senders:
        return []
    async with AsyncExitStack() as stack:
        connected = {p.name: p for p in await app.connect_providers(settings)}
        for provider in connected.values():
            stack.push_async_callback(provider.close)
        room = asyncio.Semaphore(TOGETHER)
        asked = [_ask(connected[s.provider], s, room) for s in senders if s.provider in connected]
        return [looked for looked in await asyncio.gather(*asked) if looked]


async def _ask(provider: Provider, sender: Registered, room: asyncio.Semaphore) -> Looked | None:
    try:
        async with room, asyncio.timeout(PATIENCE):
            check = await provider.check_sender(sender.probe)
    except SendError as error:
        return None if error.code == "not_configured" else Looked(sender, failure=str(error))
    except TimeoutError:
        return Looked(sender, failure="it did not answer in time")
    return Looked(sender, check.problems, check.facts)

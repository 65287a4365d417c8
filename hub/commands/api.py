"""A hub's API as commands use it: what its answers mean for whoever typed."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import orjson

from hub.commands.options import Place
from hub.commands.running import UNREACHED, WRONG, CommandError

TIMEOUT: Final = aiohttp.ClientTimeout(total=30)
_AWAY: Final = frozenset({502, 503, 504})
"""Said by a hub without its database, and by whoever stands before one that is being replaced."""


class Api:
    """An open session with a hub. Raises `CommandError` for every answer that is none."""

    def __init__(self, session: aiohttp.ClientSession, place: Place) -> None:
        self.session = session
        self.place = place
        self.is_operator = False

    async def get(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        """What is at a path."""
        return await self._ask("GET", path, params=params)

    async def post(self, path: str, body: Any) -> Any:
        """What comes of a request."""
        return await self._ask("POST", path, data=orjson.dumps(body), headers={"Content-Type": "application/json"})

    async def _ask(self, method: str, path: str, **request: Any) -> Any:
        try:
            async with self.session.request(method, self.place.url + path, **request) as answer:
                return read(answer.status, await answer.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise unreached(self.place.url, error) from error

    async def find_role(self) -> None:
        """Whose key it is, the operator's or a service's: that decides which paths there are. Raises `CommandError`
        where it is nobody's.
        """
        url = f"{self.place.url}/v1/admin/numbers"
        try:
            async with self.session.get(url, params={"limit": 1}) as answer:
                self.is_operator = answer.status == 200
                if answer.status not in {200, 403}:
                    read(answer.status, await answer.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise unreached(self.place.url, error) from error
        if not self.is_operator:
            await self.get("/v1/numbers", {"limit": 1})


def read(status: int, body: bytes) -> Any:
    """An answer's document. Raises `CommandError` with what the hub says is wrong."""
    try:
        document = orjson.loads(body) if body else None
    except orjson.JSONDecodeError:
        raise CommandError(f"what answers there is no Partyline hub: HTTP {status} and no JSON", UNREACHED) from None
    if status < 400:
        return document
    problem = document if isinstance(document, dict) else {}
    detail = problem.get("detail") or problem.get("title") or "no reason given"
    faults = [f"\n  {fault.get('pointer', '')}: {fault.get('detail', '')}" for fault in problem.get("errors") or ()]
    text = f"{problem.get('code', f'HTTP {status}')}: {detail}{''.join(faults)}"
    raise CommandError(text, UNREACHED if status in _AWAY else WRONG)


def unreached(url: str, error: BaseException) -> CommandError:
    """That a hub does not answer, and what to do."""
    reason = str(error).replace(" ssl:default", "") or type(error).__name__
    return CommandError(f"no hub answers at {url}: {reason}; is it running, and is --url right?", UNREACHED)


@asynccontextmanager
async def opened(place: Place) -> AsyncIterator[Api]:
    """A session with a hub, which knows whose key it has. Raises `CommandError`."""
    headers = {"Authorization": f"Bearer {place.key}"}
    async with aiohttp.ClientSession(timeout=TIMEOUT, headers=headers) as session:
        api = Api(session, place)
        await api.find_role()
        yield api

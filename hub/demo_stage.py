"""The demo's stage: a hub with its own database, simulated providers, the services of `examples/`, and their ears."""

import asyncio
import importlib
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson
from aiohttp import web
from pydantic import SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from config.settings import Settings
from hub.app import Hub, running
from providers.simulator import Customer, Number, Person, Simulator

NUMBER: Final = Number("+15550001111", "100000000000001")
MIA: Final = Person("+4915112345678", "DE.1000000000000001", name="Mia")
OMAR: Final = Person("+15550100042", name="Omar")
NOOR: Final = Person(user_id="NL.2000000000000002", username="noor", name="Noor")
EXAMPLES: Final = Path(__file__).parents[1] / "examples"
_PUBLIC_URL: Final = "https://demo.example.com"
SITE: Final = "shop.localhost"
"""Where the demo's shop is; browsers take every name under `localhost` for their own machine."""
_SITE_SECRET: Final = "the demo shop signs with this"  # noqa: S105
_PATIENCE: Final = 5.0
"""Seconds to wait for anything that should happen at once."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class NotHeldError(Exception):
    """Something that the story promises did not happen."""


def require(holds: bool, what: str) -> None:
    """Raises `NotHeldError` unless it holds."""
    if not holds:
        raise NotHeldError(what)


@dataclass(frozen=True, slots=True)
class Heard:
    """One webhook that a service took: `at` by the performance counter, `late` seconds after the event's own time."""

    service: str
    at: float
    late: float
    id: str
    type: str
    data: dict[str, Any]

    @property
    def message(self) -> dict[str, Any]:
        """The message it is about, or an empty one."""
        message: dict[str, Any] = self.data.get("message", {})
        return message

    @property
    def conversation(self) -> str:
        """The id of its conversation, empty where it has none."""
        return str(self.data.get("conversation", {}).get("id", ""))


@dataclass
class Part:
    """A service in the story. `backend` is an instance of one of the examples; `is_down` makes its endpoint fail."""

    name: str
    id: str
    key: str
    backend: Any
    url: str = ""
    heard: list[Heard] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    is_down: bool = False
    turned_away: int = 0

    def of(self, kind: str, **message: Any) -> list[Heard]:
        """What it heard of one type about messages with these fields."""
        return [h for h in self.heard if h.type == kind and message.items() <= h.message.items()]


class Stage:
    """Everything that runs. `parts` are the services by name, `on_heard` is told of every webhook a service took."""

    def __init__(self, hub: Hub, simulator: Simulator, session: aiohttp.ClientSession, link_base: str) -> None:
        self.hub = hub
        self.link_base = link_base
        self.shop_url = ""
        self.simulator = simulator
        self.parts: dict[str, Part] = {}
        self.mia = Customer(simulator, MIA, NUMBER)
        self.omar = Customer(simulator, OMAR, NUMBER, provider="twilio", medium="sms")
        self.noor = Customer(simulator, NOOR, NUMBER)
        self.on_heard: Callable[[Heard], None] = lambda _: None
        self._session = session
        self._pulse = asyncio.Event()

    async def call(self, method: str, path: str, body: Any = None, *, key: str | None = None) -> tuple[int, Any]:
        """Call the hub's API, with the operator's key unless another is given: status and answer."""
        headers = {"Authorization": f"Bearer {key or self.hub.admin_key}"}
        async with self._session.request(method, self.hub.url + path, json=body, headers=headers) as answer:
            raw = await answer.read()
            return answer.status, orjson.loads(raw) if raw else None

    async def fetch(self, address: str) -> tuple[int, bytes]:
        """What is at an address of the hub, which nobody outside can reach here: status and body."""
        path = address.removeprefix(_PUBLIC_URL)
        async with self._session.get(self.hub.url + path) as answer:
            return answer.status, await answer.read()

    async def until(self, what: str, holds: Callable[[], bool], seconds: float = _PATIENCE) -> None:
        """Wait until it holds; looked at again whenever a service hears something. Raises `NotHeldError`."""
        try:
            async with asyncio.timeout(seconds):
                while not holds():
                    self._pulse.clear()
                    await self._pulse.wait()
        except TimeoutError:
            raise NotHeldError(f"within {seconds:g} s: {what}") from None

    async def all_hear(self, kind: str, *, among: list[Part] | None = None, **message: Any) -> list[Heard]:
        """Wait until every service has heard this; gives what each heard last of it."""
        parts = list(self.parts.values()) if among is None else among
        about = ", ".join(f"{name} {value!r}" for name, value in message.items())
        await self.until(f"all hear {kind} ({about})", lambda: all(part.of(kind, **message) for part in parts))
        return [part.of(kind, **message)[-1] for part in parts]

    def hear(self, part: Part, heard: Heard) -> None:
        """Note down what a service took, the first time."""
        if heard.id not in part.known:
            part.known.add(heard.id)
            part.heard.append(heard)
            self.on_heard(heard)
        self._pulse.set()


class _DemoSettings(Settings):
    """Settings of the demo alone: the visitor's environment has no say."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def settings_for(simulator: Simulator, data_dir: Path, port: int) -> Settings:
    """A hub that talks to this simulator, with the embedded database in `data_dir`."""
    return _DemoSettings(
        port=port,
        link_base_url=f"http://go.{SITE}:{port}",
        site_domains=(SITE,),
        site_secrets=(SecretStr(_SITE_SECRET),),
        public_url=_PUBLIC_URL,
        data_dir=data_dir,
        log_level="error",
        log_format="console",
        meta_app_secrets=tuple(SecretStr(secret) for secret in simulator.meta_app_secrets),
        meta_verify_token=SecretStr(simulator.meta_verify_token),
        meta_access_token=SecretStr(simulator.meta_access_token),
        meta_api_url=simulator.url,
        twilio_account_sid=simulator.twilio_account_sid,
        twilio_auth_token=(SecretStr(simulator.twilio_auth_token),),
        twilio_api_url=simulator.url,
        allow_private_endpoints="127.0.0.0/8",
    )


@asynccontextmanager
async def open_stage(port: int) -> AsyncIterator[Stage]:
    """Start it all in a directory of its own, and leave nothing behind. `port` is the hub's; 0 takes a free one."""
    async with AsyncExitStack() as stack:
        data_dir = stack.enter_context(_own_directory())
        simulator = await stack.enter_async_context(Simulator(numbers=[NUMBER], public_url=_PUBLIC_URL))
        settings = settings_for(simulator, data_dir, port or _free_port())
        hub = await stack.enter_async_context(running(settings))
        simulator.hub_url = hub.url
        session = await stack.enter_async_context(aiohttp.ClientSession())
        stage = Stage(hub, simulator, session, settings.link_base_url)
        for name, service in load_examples().items():
            await _cast(stack, stage, name, service)
        stage.shop_url = await _open_shop(stack, stage, session)
        yield stage


def _free_port() -> int:
    """A port for the hub, which has to know it before it listens: it is part of every tracked link."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _own_directory() -> Iterator[Path]:
    """A directory for one demo: the database's user may pass through it, and what it holds elsewhere goes with it."""
    folder = Path(tempfile.mkdtemp(prefix="partyline-demo-"))
    folder.chmod(0o711)
    try:
        yield folder / "data"
    finally:
        for place in ((folder / "data" / "postgres").resolve(), folder):
            shutil.rmtree(place, ignore_errors=True)


def load_examples() -> dict[str, Any]:
    """The classes of the three examples by name. Raises ImportError outside a checkout, or without what they need."""
    for place in (EXAMPLES.parent, EXAMPLES):
        if str(place) not in sys.path:
            sys.path.insert(0, str(place))
    helpdesk, crm, marketing = (importlib.import_module(name) for name in ("helpdesk", "crm", "marketing"))
    return {"helpdesk": helpdesk.Helpdesk, "CRM": crm.Crm, "marketing": marketing.Marketing}


async def _open_shop(stack: AsyncExitStack, stage: Stage, session: aiohttp.ClientSession) -> str:
    """The demo shop, a tracked site: gives its URL."""
    shop, hub = (importlib.import_module(f"examples.shop.{name}") for name in ("shop", "hub"))
    key = stage.parts["marketing"].key
    made = shop.Shop(hub.Hub(session, stage.hub.url, key), stage.link_base, _SITE_SECRET, say=lambda _: None)
    return (await _listen(stack, made.build_app())).replace("127.0.0.1", f"www.{SITE}")


async def _listen(stack: AsyncExitStack, app: web.Application) -> str:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return f"http://127.0.0.1:{runner.addresses[0][1]}"


async def _cast(stack: AsyncExitStack, stage: Stage, name: str, service: Any) -> None:
    """Register a service with the hub, and start its server; it is not connected yet."""
    wanted = {"name": name, "plan": "bundle", "scopes": ["read", "reply", "automate", "profiles"]}
    status, made = await stage.call("POST", "/v1/admin/services", wanted)
    require(status == 201, f"{name} is registered")
    backend = service(stage.hub.url, made["api_key"], NUMBER.e164, say=lambda _: None)
    part = stage.parts[name] = Part(name, made["id"], made["api_key"], backend)
    app = backend.build_app()
    app.middlewares.append(_ears(stage, part))
    part.url = await _listen(stack, app)


def _ears(stage: Stage, part: Part) -> Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]:
    """Listens in on a service: what it took and when, after it verified it; and lets it be down."""

    @web.middleware
    async def listen(request: web.Request, handler: Handler) -> web.StreamResponse:
        at, now = time.perf_counter(), time.time()
        if request.method == "POST" and part.is_down:
            part.turned_away += 1
            return web.Response(status=503)
        response = await handler(request)
        if request.method == "POST" and response.status < 300:
            event = orjson.loads(await request.read())
            late = now - datetime.fromisoformat(event["timestamp"]).timestamp()
            stage.hear(part, Heard(part.name, at, late, request.headers["webhook-id"], event["type"], event["data"]))
        return response

    return listen

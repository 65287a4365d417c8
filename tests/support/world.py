"""A hub with its simulated providers and services: what acceptance tests play with, over HTTP only."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from pydantic import SecretStr

from config.settings import Settings
from hub.app import Hub, running
from providers.simulator import Customer, Number, Person, Simulator
from tests.support.subscriber import Subscriber

NUMBER = "+15550001111"
PHONE_NUMBER_ID = "100000000000001"
ADMIN = "plk_admin-key-of-the-tests"


@dataclass
class Answer:
    """An HTTP answer, read."""

    status: int
    json: Any
    headers: dict[str, str]


@dataclass
class Service:
    """A backend: its API key, its endpoint, and calls to the adapter API."""

    world: "World"
    id: str
    name: str
    key: str
    endpoint: Subscriber
    connection: dict[str, Any] = field(default_factory=dict)

    async def call(self, method: str, path: str, json: Any = None, **headers: str) -> Answer:
        """Call the adapter API with this service's key."""
        return await self.world.call(method, path, json, key=self.key, **headers)

    async def connect(self, number: str = NUMBER, **wanted: Any) -> dict[str, Any]:
        """Connect to the number with a webhook endpoint."""
        wanted = {"endpoint_url": self.endpoint.url, **wanted}
        answer = await self.call("PUT", f"/v1/numbers/{number}/connection", wanted)
        assert answer.status == 200, answer
        self.connection = answer.json
        self.endpoint.secret = answer.json.get("signing_secret", self.endpoint.secret)
        return self.connection

    async def reply(self, conversation: str, text: str, agent: str = "Ana", **more: Any) -> Answer:
        """An agent of this service replies."""
        body = {"origin": "agent", "agent": {"id": f"agent-{agent}", "name": agent}, "type": "text", "text": text}
        headers = more.pop("headers", {})
        query = more.pop("query", "")
        return await self.call("POST", f"/v1/conversations/{conversation}/messages{query}", body | more, **headers)


@dataclass
class World:
    """Everything that runs."""

    hub: Hub
    simulator: Simulator
    session: aiohttp.ClientSession
    subscribers: list[Subscriber] = field(default_factory=list)

    async def call(self, method: str, path: str, json: Any = None, key: str = ADMIN, **headers: str) -> Answer:
        """Call the hub's API; the operator's key unless another is given."""
        headers = {"Authorization": f"Bearer {key}", **headers}
        async with self.session.request(method, self.hub.url + path, json=json, headers=headers) as response:
            is_json = "json" in response.content_type
            return Answer(
                response.status, await response.json() if is_json else await response.read(), dict(response.headers)
            )

    async def service(self, name: str, plan: str = "bundle", **more: Any) -> Service:
        """Register a service and give it an endpoint."""
        made = await self.call("POST", "/v1/admin/services", {"name": name, "plan": plan, **more})
        assert made.status == 201, made
        endpoint = Subscriber()
        await endpoint.start()
        self.subscribers.append(endpoint)
        return Service(self, made.json["id"], name, made.json["api_key"], endpoint)

    async def connected(self, *names: str, plan: str = "bundle") -> list[Service]:
        """Register and connect services, in this order."""
        services = [await self.service(name, plan) for name in names]
        for service in services:
            await service.connect()
        return services

    def customer(self, person: Person, number: str = NUMBER, **medium: Any) -> Customer:
        """Somebody at the other end of the number: on WhatsApp at Meta unless said otherwise."""
        mine = next(n for n in self.simulator.numbers if n.e164 == number)
        return Customer(self.simulator, person, mine, **medium)


def settings_for(simulator: Simulator, database_url: str | None, data_dir: Path, **more: Any) -> Settings:
    """Settings of a hub that talks to this simulator."""
    values: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": 0,
        "database_url": database_url and SecretStr(database_url),
        "data_dir": data_dir,
        "admin_key": SecretStr(ADMIN),
        "public_url": "https://hub.example.com",
        "meta_app_secrets": tuple(SecretStr(s) for s in simulator.meta_app_secrets),
        "meta_verify_token": SecretStr(simulator.meta_verify_token),
        "meta_access_token": SecretStr(simulator.meta_access_token),
        "meta_api_url": simulator.url,
        "twilio_account_sid": simulator.twilio_account_sid,
        "twilio_auth_token": (SecretStr(simulator.twilio_auth_token),),
        "twilio_api_url": simulator.url,
        "allow_private_endpoints": "127.0.0.0/8,::1/128",
        "open_metrics": True,
        "reconcile_interval": 0,
        "health_interval": 0,
        "requests_per_second": 0,
    }
    return Settings(**(values | more))


Open = Callable[..., Awaitable[World]]
"""Opens a world with these settings."""


@asynccontextmanager
async def world(database_url: str | None, data_dir: Path, **more: Any) -> AsyncIterator[World]:
    """A hub, its simulator, and a registered number with a WhatsApp and an SMS sender."""
    numbers = [Number(NUMBER, PHONE_NUMBER_ID), Number("+15550002222", "100000000000002")]
    async with AsyncExitStack() as stack:
        subscribers: list[Subscriber] = []
        stack.push_async_callback(_stop, subscribers)  # after the hub, which may be delivering to the end
        simulator = await stack.enter_async_context(Simulator(numbers=numbers, public_url="https://hub.example.com"))
        hub = await stack.enter_async_context(running(settings_for(simulator, database_url, data_dir, **more)))
        simulator.hub_url = hub.url
        session = await stack.enter_async_context(aiohttp.ClientSession())
        made = World(hub, simulator, session, subscribers)
        for number in numbers:
            await _register(made, number)
        yield made


async def _stop(subscribers: list[Subscriber]) -> None:
    for subscriber in subscribers:
        await subscriber.stop()


async def _register(made: World, number: Number) -> None:
    senders = [
        {"medium": "whatsapp", "provider": "meta", "external_id": number.phone_number_id},
        {"medium": "sms", "provider": "twilio", "external_id": number.e164},
    ]
    answer = await made.call("POST", "/v1/admin/numbers", {"e164": number.e164, "senders": senders})
    assert answer.status == 201, answer

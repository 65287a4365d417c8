"""A hub over Meta's webhooks, bodies made and signed by hand: what the scenarios of a sceptical buyer play on."""

import base64
import hashlib
import itertools
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp

from hub.app import running
from providers.simulator import Number, SimulatedSend, Simulator
from tests.support.subscriber import Subscriber
from tests.support.wire import Reply, Wire, unique, until
from tests.support.world import Answer, Service, World, settings_for

MAIN = Number("+15550001111", "100000000000001", "200000000000001")
JUDGED = Number("+15550002222", "100000000000002", "200000000000002")
SLOWED = Number("+15550003333", "100000000000003", "200000000000003")
LATE = Number("+15550004444", "100000000000004", "200000000000004")
"""The last one is not registered at first."""
OLD_SECRET, NEW_SECRET = "simulated-app-secret", "another-app-secret"
DAY = 86_400
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8
SCOPES = ["read", "reply", "automate", "profiles"]
SETTINGS: dict[str, Any] = {
    "agent_per_minute": 0,
    "service_per_minute": 0,
    "new_conversations_per_hour": 0,
    "whatsapp_rate": 500,
    "sms_rate": 500,
    "send_timeout": 5,
}
counter = itertools.count(1)
Json = dict[str, Any]
Judge = Callable[[Json], Any]


def phone(country: str = "4915") -> str:
    """Digits that nobody has."""
    return f"{country}{20_000_000 + next(counter)}"


def now(offset: float = 0) -> str:
    """A time as Meta writes it."""
    return str(int(time.time() + offset))


@dataclass
class Ear:
    """What a service hears, pulled from the feed (A11)."""

    service: Service
    heard: list[Json] = field(default_factory=list)
    _cursor: str = ""

    async def pull(self) -> list[Json]:
        """Everything until now."""
        while True:
            answer = await self.service.call("GET", f"/v1/events?limit=200{self._cursor}")
            assert answer.status == 200, answer
            self.heard += answer.json["items"]
            self._cursor = f"&after={answer.json['next']}"
            if not answer.json["has_more"]:
                return self.heard

    async def of(self, kind: str, is_it: Judge = lambda _: True) -> list[Json]:
        """The data of all events of a kind until now."""
        return [item["data"] for item in await self.pull() if item["type"] == kind and is_it(item["data"])]

    async def hears(self, kind: str, is_it: Judge = lambda _: True, count: int = 1) -> list[Json]:
        """Wait for so many."""
        found: list[Json] = []

        async def are_there() -> bool:
            found[:] = await self.of(kind, is_it)
            return len(found) >= count

        await until(are_there)
        return found


@dataclass
class Stage:
    """A hub with a parent and a subscriber; everybody who writes is somebody new."""

    world: World
    wire: Wire
    crm: Service
    desk: Service
    database_url: str
    ears: dict[str, Ear] = field(default_factory=dict)

    @property
    def simulator(self) -> Simulator:
        return self.world.simulator

    def ear(self, service: Service | None = None) -> Ear:
        service = service or self.crm
        return self.ears.setdefault(service.id, Ear(service))

    async def posts(self, name: str, value: Json, number: Number = MAIN, **entry: Any) -> None:
        """One change, which the hub must take."""
        answer = await self.wire.meta(body(change(name, value, number), number=number, **entry))
        assert answer.status == 200, answer

    async def writes(self, who: str, said: str, number: Number = MAIN, **more: Any) -> str:
        """A text of a customer; gives its id."""
        item = message(who, {"type": "text", "text": {"body": said}}, **more)
        await self.posts("messages", {"contacts": [profile(who)], "messages": [item]}, number)
        return str(item["id"])

    async def talk(self, who: str, said: str = "hello", number: Number = MAIN, **more: Any) -> str:
        """The same; gives the conversation."""
        return str((await self.received(await self.writes(who, said, number, **more)))["conversation"]["id"])

    async def received(self, provider_id: str, service: Service | None = None) -> Json:
        """Wait for the event of a message; there is one."""
        (event,) = await self.ear(service).hears("message.received", of(provider_id))
        return event

    async def timeline(self, conversation: str, query: str = "", service: Service | None = None) -> list[Json]:
        answer = await (service or self.crm).call("GET", f"/v1/conversations/{conversation}/messages{query}")
        assert answer.status == 200, answer
        return list(answer.json["items"])

    async def conversation(self, conversation: str, service: Service | None = None) -> Json:
        answer = await (service or self.crm).call("GET", f"/v1/conversations/{conversation}")
        assert answer.status == 200, answer
        return dict(answer.json)

    async def contacts(self, address: str) -> list[Json]:
        answer = await self.crm.call("GET", f"/v1/contacts?address={quote(address)}")
        assert answer.status == 200, answer
        return list(answer.json["items"])

    async def found(self, address: str, medium: str = "whatsapp", service: Service | None = None) -> Json:
        """The one conversation with this address over a medium, as the contact's timeline has it."""
        (contact,) = await self.contacts(address)
        answer = await (service or self.crm).call("GET", f"/v1/contacts/{contact['id']}/timeline?limit=1")
        assert answer.status == 200, answer
        (one,) = [one for one in answer.json["conversations"] if one["medium"] == medium]
        return dict(one)

    async def consent(self, address: str, number: Number = MAIN, medium: str = "whatsapp") -> Json:
        path = f"/v1/consents/{medium}/{quote(address)}?number={quote(number.e164)}"
        answer = await self.crm.call("GET", path)
        assert answer.status == 200, answer
        return dict(answer.json)

    async def view(self, sent: str, service: Service | None = None) -> Json:
        answer = await (service or self.crm).call("GET", f"/v1/messages/{sent}")
        assert answer.status == 200, answer
        return dict(answer.json)

    async def ends(self, sent: str, *statuses: str) -> Json:
        """Wait until a message has one of these statuses."""

        async def is_there() -> Json | None:
            view = await self.view(sent)
            return view if view["status"] in statuses else None

        return dict(await until(is_there))

    async def went(self, answer: Answer) -> SimulatedSend:
        """What the provider was given of an accepted message, once it has taken it."""
        assert answer.status == 202, answer
        sent = answer.json["message"]["id"]

        def taken() -> list[SimulatedSend]:
            return [one for one in self.simulator.sent if one.hub_id == sent]

        await self.simulator.wait_for(lambda: bool(taken()))
        (found,) = taken()
        return found

    async def template(self, conversation: str, name: str, origin: str = "agent") -> Answer:
        wanted: Json = {"origin": origin, "type": "template", "template": {"name": name, "language": "en"}}
        if origin == "agent":
            wanted["agent"] = {"id": "agent-Ana", "name": "Ana"}
        if origin == "campaign":
            wanted["campaign"] = "spring"
        return await self.crm.call("POST", f"/v1/conversations/{conversation}/messages", wanted)

    async def quarantined(self, mark: str, **query: str) -> list[Json]:
        """Entries whose bytes hold this."""
        return [entry for entry in await self.wire.quarantine(**query) if mark.encode() in _bytes(entry)]

    async def health(self, number: Number, service: Service | None = None, medium: str = "whatsapp") -> Json:
        answer = await (service or self.crm).call("GET", f"/v1/numbers/{quote(number.e164)}")
        assert answer.status == 200, answer
        return dict(next(one["health"] for one in answer.json["senders"] if one["medium"] == medium))

    async def problems(self, number: Number, medium: str = "whatsapp") -> set[str]:
        return {one["code"] for one in (await self.health(number, medium=medium))["problems"]}

    async def fetch(self, url: str, method: str = "GET", **headers: str) -> Reply:
        """A file's signed address, at this hub."""
        parts = urlsplit(url)
        where = f"{self.world.hub.url}{parts.path}?{parts.query}"
        async with self.world.session.request(method, where, headers=headers) as answer:
            return Reply(answer.status, {k.lower(): v for k, v in answer.headers.items()}, await answer.read())


def _bytes(entry: Json) -> bytes:
    return base64.b64decode(entry["raw"])


def metadata(number: Number) -> Json:
    return {"display_phone_number": number.e164[1:], "phone_number_id": number.phone_number_id}


def change(name: str, value: Json, number: Number | None = MAIN) -> Json:
    """A change about a number; without one, about an account."""
    around = {"messaging_product": "whatsapp", "metadata": metadata(number)} if number else {}
    return {"field": name, "value": around | value}


def body(*changes: Json, number: Number = MAIN, **entry: Any) -> Json:
    """A webhook with one entry."""
    return {"object": "whatsapp_business_account", "entry": [{"id": number.waba_id, "changes": list(changes)} | entry]}


def message(who: str, content: Json, **more: Any) -> Json:
    """What a customer sent; `at` shifts its time."""
    at = now(more.pop("at", 0))
    return {"from": who, "id": unique("wamid.ps"), "timestamp": at} | content | more


def profile(who: str, name: str = "Mia", **more: Any) -> Json:
    return {"profile": {"name": name}, "wa_id": who} | more


def echo(who: str, content: Json, **more: Any) -> Json:
    """What the business sent from its phone."""
    return message(MAIN.e164[1:], content, to=who) | more


def text(said: str) -> Json:
    return {"type": "text", "text": {"body": said}}


def image(file_id: str, caption: str | None = None, content: bytes = PNG) -> Json:
    described: Json = {"id": file_id, "mime_type": "image/png", "sha256": hashlib.sha256(content).hexdigest()}
    return {"type": "image", "image": described | ({"caption": caption} if caption else {})}


def control(who: str, to: str, at: float, number: Number = MAIN) -> Json:
    """A conversation is passed: to Meta's agent, or to the business."""
    sides = {"agent": ("meta_business_agent", "ai_agent"), "business": ("business_app", "escalation")}
    before = sides["business" if to == "agent" else "agent"]
    return {
        "messaging_product": "whatsapp",
        "recipient": metadata(number),
        "sender": {"phone_number": who},
        "timestamp": now(at),
        "type": "control_passed",
        "control_passed": {
            "previous_owner_app_id": "4711",
            "previous_owner_app_role": before[0],
            "previous_owner_role": before[1],
            "new_owner_role": sides[to][1],
        },
    }


def of(provider_id: str) -> Judge:
    """Events of this message."""
    return lambda data: data["message"]["provider_id"] == provider_id


def within(conversation: str) -> Judge:
    """Events of this conversation."""
    return lambda data: data.get("conversation", {}).get("id") == conversation


def codes(answer: Answer) -> list[str]:
    """The codes of an answer's warnings."""
    return [warning["code"] for warning in answer.json["warnings"]]


def time_of(value: str) -> float:
    return datetime.fromisoformat(value).timestamp()


@asynccontextmanager
async def open_stage(
    url: str, data_dir: Path, numbers: Mapping[Number, Sequence[Json]], **more: Any
) -> AsyncIterator[Stage]:
    """A hub that knows these numbers by these senders, and its two services; all other numbers are the simulator's."""
    async with AsyncExitStack() as stack:
        known = [MAIN, JUDGED, SLOWED, LATE, *(number for number in numbers if number not in (MAIN, JUDGED, SLOWED))]
        simulator = await stack.enter_async_context(Simulator(numbers=known, public_url="https://hub.example.com"))
        hub = await stack.enter_async_context(running(settings_for(simulator, url, data_dir, **(SETTINGS | more))))
        simulator.hub_url = hub.url
        world = World(hub, simulator, await stack.enter_async_context(aiohttp.ClientSession()))
        for number, senders in numbers.items():
            answer = await world.call("POST", "/v1/admin/numbers", {"e164": number.e164, "senders": list(senders)})
            assert answer.status == 201, answer
        services = [await registered(world, name) for name in ("crm", "desk")]
        for number, service in itertools.product(numbers, services):
            await service.connect(number.e164, endpoint_url=None)
        yield Stage(world, Wire(world), *services, url)


async def registered(world: World, name: str) -> Service:
    """A service that comes for its events (A11)."""
    answer = await world.call("POST", "/v1/admin/services", {"name": name, "plan": "bundle", "scopes": SCOPES})
    assert answer.status == 201, answer
    return Service(world, answer.json["id"], name, answer.json["api_key"], Subscriber())


def at_meta(number: Number) -> Json:
    return {
        "medium": "whatsapp",
        "provider": "meta",
        "external_id": number.phone_number_id,
        "account": number.waba_id,
    }


def over_sms(number: Number) -> Json:
    return {"medium": "sms", "provider": "twilio", "external_id": number.e164}


async def held(stage: Stage) -> tuple[str, str]:
    """A customer who talks with Meta's agent since a minute ago; and the conversation."""
    mia = phone()
    conversation = await stage.talk(mia, at=-120)
    asked = message(mia, text("Are you open?"), at=-60)
    await stage.posts("standby", {"standby": {"contacts": [profile(mia)], "messages": [asked]}})
    event = await stage.received(asked["id"])
    assert (event["message"]["origin"], event["message"]["direction"]) == ("external", "inbound")
    (taken,) = await stage.ear().hears("conversation.handover", within(conversation))
    assert taken["handover"]["holder"] == "external"
    assert taken["message"]["handover"]["reason"] == "standby"
    return mia, conversation


def concerns(data: Json, who: str) -> bool:
    return bool(data["consent"]["address"].lstrip("+") == who)


async def known(stage: Stage, file: str, *states: str) -> Json:
    """Wait until a file has one of these states."""

    async def is_so() -> Json | None:
        answer = await stage.crm.call("GET", f"/v1/media/{file}")
        assert answer.status == 200, answer
        return answer.json if answer.json["state"] in states else None

    return dict(await until(is_so))

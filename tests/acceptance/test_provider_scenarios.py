"""What a sceptical buyer plays against a hub over Meta: bodies made and signed here, judged over HTTP only."""

import asyncio
import base64
import hashlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
import pytest
import pytest_asyncio
from pydantic import SecretStr

from hub.app import running
from providers.simulator import Fault, MediaFault, Number, SimulatedSend, Simulator, StatusPlan
from providers.simulator.signing import sign_meta, sign_twilio
from tests.support.database import Server
from tests.support.subscriber import Subscriber
from tests.support.talk import automates
from tests.support.wire import FORM, META, PUBLIC_URL, TWILIO, Reply, Wire, sms, unique, until
from tests.support.world import Answer, Service, World, settings_for

pytestmark = pytest.mark.asyncio(loop_scope="module")

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
_counter = itertools.count(1)
Json = dict[str, Any]
Judge = Callable[[Json], Any]


def phone(country: str = "4915") -> str:
    """Digits that nobody has."""
    return f"{country}{20_000_000 + next(_counter)}"


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


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(server: Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """One hub for all of these."""
    numbers = {one: [at_meta(one), over_sms(one)] for one in (MAIN, JUDGED, SLOWED)}
    secrets = {"meta_app_secrets": (SecretStr(OLD_SECRET), SecretStr(NEW_SECRET))}
    async with server.fresh() as url, open_stage(url, tmp_path_factory.mktemp("hub"), numbers, **secrets) as made:
        yield made


# The business elsewhere: its phone app, what was before, Meta's own agent ---------------------------------------------


async def test_b2_echoes_of_the_phone_app_come_with_their_files_and_give_no_rights(stage: Stage) -> None:
    mia = phone()
    conversation = await stage.talk(mia)
    window = (await stage.conversation(conversation))["reply_window_expires_at"]
    file = stage.simulator.add_inbound_media(PNG, "image/png")
    echoes = [echo(mia, text("STOP"), timestamp=now(60)), echo(mia, image(file, "The blue one"))]
    for _ in range(2):
        await stage.posts("smb_message_echoes", {"message_echoes": echoes})
    for service in (stage.crm, stage.desk):
        word, picture = [await stage.received(one["id"], service) for one in echoes]
        assert [one["message"]["origin"] for one in (word, picture)] == ["echo", "echo"]
        assert {one["message"]["direction"] for one in (word, picture)} == {"outbound"}
        assert {one["conversation"]["id"] for one in (word, picture)} == {conversation}
        assert picture["message"]["author"] is None
        assert picture["message"]["text"] == "The blue one"
        assert "masked" not in picture["message"]
        (kept,) = picture["message"]["media"]
        assert (await stage.fetch(kept["url"])).body == PNG
    assert (await stage.conversation(conversation))["reply_window_expires_at"] == window
    assert (await stage.consent("+" + mia))["status"] != "revoked"
    assert [one["origin"] for one in await stage.timeline(conversation)] == ["echo", "echo", "customer"]
    assert (await stage.went(await automates(stage.crm, conversation, "I am a bot"))).to == "+" + mia


async def test_b8_an_echo_to_a_customer_without_a_phone_joins_their_thread(stage: Stage) -> None:
    user = f"DE.{phone('')}"
    item = {"from_user_id": user, "id": unique("wamid.ps"), "timestamp": now()} | text("Hello")
    await stage.posts("messages", {"contacts": [{"profile": {}, "user_id": user}], "messages": [item]})
    conversation = (await stage.received(item["id"]))["conversation"]["id"]
    sent = {"from": MAIN.e164[1:], "to_user_id": user, "id": unique("wamid.ps"), "timestamp": now()} | text("Hello you")
    await stage.posts("smb_message_echoes", {"message_echoes": [sent]})
    event = await stage.received(sent["id"])
    assert (event["conversation"]["id"], event["message"]["origin"]) == (conversation, "echo")


async def test_e4_an_echo_to_somebody_new_opens_no_reply_window(stage: Stage) -> None:
    mia = phone()
    sent = echo(mia, text("Your parcel is here"))
    await stage.posts("smb_message_echoes", {"message_echoes": [sent]})
    event = await stage.received(sent["id"])
    assert event["conversation"]["reply_window_expires_at"] is None
    answer = await stage.crm.reply(event["conversation"]["id"], "And this?")
    assert (answer.status, answer.json["code"], answer.json["closed_at"]) == (409, "reply_window_closed", None)


async def test_b2_the_phone_app_edits_and_deletes_what_it_wrote(stage: Stage) -> None:
    mia = phone()
    await stage.talk(mia)
    sent = echo(mia, text("Ten euros"))
    edited = echo(mia, {"type": "edit", "edit": {"original_message_id": sent["id"], "message": text("Nine euros")}})
    gone = echo(mia, {"type": "revoke", "revoke": {"original_message_id": sent["id"]}})
    for one in (sent, edited, gone):
        await stage.posts("smb_message_echoes", {"message_echoes": [one]})
    first = await stage.received(sent["id"])
    ear = stage.ear(stage.desk)
    (change_,) = await ear.hears("message.edited", of(sent["id"]))
    (end,) = await ear.hears("message.deleted", of(sent["id"]))
    assert change_["message"]["text"] == "Nine euros"
    assert {one["message"]["id"] for one in (change_, end)} == {first["message"]["id"]}
    assert {one["message"]["origin"] for one in (change_, end)} == {"echo"}
    assert {one["message"]["direction"] for one in (change_, end)} == {"outbound"}


async def test_history_in_pieces_out_of_order_is_shown_and_has_no_effect(stage: Stage) -> None:
    mia, bo = phone(), phone()

    def past(who: str, said: str, days: float, status: str = "READ", *, ours: bool = False) -> Json:
        names = {"from": MAIN.e164[1:], "to": who} if ours else {"from": who}
        fields = {"id": unique("wamid.old"), "timestamp": now(-days * DAY), "history_context": {"status": status}}
        return fields | names | text(said)

    def piece(chunk: int, threads: Json) -> Json:
        listed = [{"id": who, "messages": messages} for who, messages in threads.items()]
        return {"history": [{"metadata": {"phase": 0, "chunk_order": chunk, "progress": 50}, "threads": listed}]}

    stop = past(mia, "STOP", 0.04)
    newer = piece(2, {mia: [past(mia, "Blue", 1), stop], bo: [past(bo, "Bye", 1, "DELIVERED", ours=True)]})
    older = piece(1, {mia: [past(mia, "Which?", 3), past(mia, "Red?", 2, ours=True)], bo: [past(bo, "Hi", 2)]})
    for part in (newer, older, newer):
        await stage.posts("history", part)
    talked, shown = await stage.found("+" + mia), await stage.found("+" + bo)
    assert talked["reply_window_expires_at"] is None
    assert (await stage.crm.reply(talked["id"], "Hello?")).json["code"] == "reply_window_closed"
    assert (await stage.consent("+" + mia))["status"] == "unknown"

    live = await stage.writes(mia, "Here I am")
    await stage.received(live)
    assert await stage.ear().of("message.received", within(shown["id"])) == []
    heard = await stage.ear().of("message.received", within(talked["id"]))
    assert [one["message"]["text"] for one in heard] == ["Here I am"]

    for thread, said in ((talked, ["Which?", "Red?", "Blue", "STOP", "Here I am"]), (shown, ["Hi", "Bye"])):
        in_time = await stage.timeline(thread["id"], "?sort=provider_time&after=0")
        assert [one["text"] for one in in_time] == said
    by_number = await stage.timeline(talked["id"], "?after=-1000")
    numbers = [one["sequence"] for one in by_number]
    assert numbers == sorted(set(numbers))
    assert sorted(n for n in numbers if n <= 0) == [-3, -2, -1, 0]
    assert [one.get("history", False) for one in by_number] == [True] * 4 + [False]
    (red,) = [one for one in by_number if one["text"] == "Red?"]
    assert (red["direction"], red["status"]) == ("outbound", "read")
    (bye,) = [one for one in await stage.timeline(shown["id"], "?after=-1000") if one["text"] == "Bye"]
    assert bye["status"] == "delivered"
    assert next(one for one in by_number if one["text"] == "Which?")["direction"] == "inbound"


@pytest.mark.parametrize("order", ["history first", "live first"])
async def test_b4_b7_a_message_of_history_that_comes_live_too_is_told_once(stage: Stage, order: str) -> None:
    mia = phone()
    live = message(mia, text("Twice"))
    old = live | {"history_context": {"status": "READ"}}
    thread = {"id": mia, "messages": [old]}
    history = {"history": [{"metadata": {"phase": 0, "chunk_order": 1, "progress": 100}, "threads": [thread]}]}
    posts = [("history", history), ("messages", {"contacts": [profile(mia)], "messages": [live]})]
    for name, value in posts if order == "history first" else reversed(posts):
        await stage.posts(name, value)
    conversation = await stage.talk(mia, "And this")
    assert len(await stage.ear(stage.desk).hears("message.received", of(live["id"]))) == 1
    entries = await stage.timeline(conversation, "?sort=provider_time&after=0")
    assert [(one["text"], one.get("history", False)) for one in entries] == [("Twice", False), ("And this", False)]


async def test_history_of_somebody_without_a_phone_and_a_refusal_to_share_it(stage: Stage) -> None:
    user, mark = f"DE.{phone('')}", unique("declined")
    old = {"from_user_id": user, "id": unique("wamid.old"), "timestamp": now(-DAY)} | text("long ago")
    old["history_context"] = {"status": "READ"}
    thread = {"context": {"user_id": user, "username": "hid"}, "messages": [old]}
    pieces = [{"metadata": {"phase": 1, "chunk_order": 1, "progress": 100}, "threads": [thread]}]
    await stage.posts("history", {"history": pieces})
    fault = {"code": 2593109, "title": mark, "message": mark, "error_data": {"details": "turned off"}}
    await stage.posts("history", {"history": [{"errors": [fault]}]})
    assert [one["state"] for one in await stage.quarantined(mark)] == ["noted"]
    item = {"from_user_id": user, "id": unique("wamid.ps"), "timestamp": now()} | text("today")
    await stage.posts("messages", {"contacts": [{"profile": {}, "user_id": user}], "messages": [item]})
    conversation = (await stage.received(item["id"]))["conversation"]["id"]
    assert [one["text"] for one in await stage.timeline(conversation, "?after=-9")] == ["long ago", "today"]


async def test_history_files_come_later_and_are_fetched(stage: Stage) -> None:
    mia, file = phone(), stage.simulator.add_inbound_media(PNG + b"history", "image/png")
    old = {"from": mia, "id": unique("wamid.old"), "timestamp": now(-DAY), "history_context": {"status": "READ"}}
    thread = {"id": mia, "messages": [old | {"type": "media_placeholder"}]}
    history = {"history": [{"metadata": {"phase": 0, "chunk_order": 1, "progress": 100}, "threads": [thread]}]}
    await stage.posts("history", history)
    conversation = (await stage.found("+" + mia))["id"]
    (entry,) = await stage.timeline(conversation, "?after=-1000")
    assert (entry["type"], entry["history"]) == ("media_placeholder", True)
    await stage.posts("history", {"messages": [old | image(file, "Look", PNG + b"history")]})

    async def filled() -> Json | None:
        (only,) = await stage.timeline(conversation, "?after=-1000")
        return only if only["type"] == "image" else None

    entry = await until(filled)
    assert (entry["history"], entry["text"], entry["sequence"]) == (True, "Look", 0)
    assert (await stage.fetch(entry["media"][0]["url"])).body == PNG + b"history"


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


async def test_bots_wait_while_metas_agent_talks_and_go_in_order_when_it_gives_back(stage: Stage) -> None:
    mia, conversation = await held(stage)
    words = {"to": mia, "recipient": mia} | text("Until six")
    said = {"id": unique("wamid.ai"), "timestamp": now(-50), "message": words}
    await stage.posts("standby", {"standby": {"message_echoes": [said]}})
    for service in (stage.crm, stage.desk):
        event = await stage.received(said["id"], service)
        assert (event["message"]["origin"], event["message"]["direction"]) == ("external", "outbound")
        assert event["message"]["text"] == "Until six"
        assert event["automation"]["allowed"] is False
        assert event["conversation"]["held_by"] == "external"
    waiting = [await automates(stage.crm, conversation, f"bot {place}") for place in range(3)]
    assert [(one.status, codes(one)) for one in waiting] == [(202, ["conversation_held"])] * 3
    elsewhere = await stage.talk(phone())
    await stage.went(await automates(stage.crm, elsewhere, "free"))
    assert {(await stage.view(one.json["message"]["id"]))["status"] for one in waiting} == {"queued"}

    given_back = body(change("messaging_handovers", control(mia, "business", -30), None))
    assert (await stage.wire.meta(given_back)).status == 200
    events = await stage.ear(stage.desk).hears("conversation.handover", within(conversation), 2)
    assert [one["handover"]["holder"] for one in events] == ["external", "hub"]
    assert [(await stage.went(one)).text for one in waiting] == ["bot 0", "bot 1", "bot 2"]
    assert [one.text for one in stage.simulator.sent if one.to == "+" + mia] == ["bot 0", "bot 1", "bot 2"]
    view = await stage.conversation(conversation)
    assert view["held_by"] is None
    kinds = [one["type"] for one in await stage.timeline(conversation)]
    assert sorted(kinds) == ["handover"] * 2 + ["text"] * 6


async def test_a_handover_of_somebody_who_never_wrote_holds_bots_from_their_first_word(stage: Stage) -> None:
    mia = phone()
    assert (await stage.wire.meta(body(change("messaging_handovers", control(mia, "agent", -30), None)))).status == 200
    assert await stage.quarantined(mia, state="open") == []
    asked = message(mia, text("Hello?"), at=-20)
    await stage.posts("standby", {"standby": {"contacts": [profile(mia)], "messages": [asked]}})
    event = await stage.received(asked["id"])
    conversation = event["conversation"]["id"]
    assert (event["conversation"]["held_by"], event["automation"]["allowed"]) == ("external", False)
    told = await stage.ear().of("conversation.handover", within(conversation))
    assert [one["handover"]["holder"] for one in told] == ["external"]
    assert codes(await automates(stage.crm, conversation, "Hi")) == ["conversation_held"]


async def test_an_agents_reply_takes_control_at_once_and_a_template_does_not(stage: Stage) -> None:
    mia, conversation = await held(stage)
    bot = await automates(stage.crm, conversation, "I was first")
    update = {"name": "order_update", "language": "en"}
    parameters = [{"type": "body", "parameters": [{"type": "text", "text": "4711"}]}]
    wanted = {"origin": "agent", "agent": {"id": "a", "name": "Ana"}, "type": "template"}
    wanted["template"] = update | {"components": parameters}
    await stage.went(await stage.desk.call("POST", f"/v1/conversations/{conversation}/messages", wanted))
    assert (await stage.conversation(conversation))["held_by"] == "external"
    assert (await stage.view(bot.json["message"]["id"]))["status"] == "queued"

    reply = await stage.desk.reply(conversation, "I am here now.", agent="Ben")
    assert "conversation_held" not in codes(reply)
    await stage.went(reply)
    events = await stage.ear().hears("conversation.handover", within(conversation), 2)
    told = events[1]["message"]["handover"]
    assert (events[1]["handover"]["holder"], told["reason"]) == ("hub", "reply")
    assert told["message_id"] == reply.json["message"]["id"]
    assert told["by"]["service_id"] == stage.desk.id
    await stage.went(bot)
    heard = [one.text for one in stage.simulator.sent if one.to == "+" + mia and one.type == "text"]
    assert heard == ["I am here now.", "I was first"]


async def test_e5_what_a_customer_says_to_metas_agent_counts_with_its_files(stage: Stage) -> None:
    mia, conversation = await held(stage)
    content = PNG + unique("standby").encode()
    file = stage.simulator.add_inbound_media(content, "image/png")
    said = [message(mia, text("Stop."), at=-20), message(mia, image(file, "this", content), at=-19)]
    await stage.posts("standby", {"standby": {"contacts": [profile(mia)], "messages": said}})
    word, picture = [await stage.received(one["id"], stage.desk) for one in said]
    assert {one["conversation"]["id"] for one in (word, picture)} == {conversation}
    assert (await stage.consent("+" + mia))["status"] == "revoked"
    assert (await automates(stage.crm, conversation, "Buy!")).json["code"] == "no_consent"
    assert (await stage.fetch(picture["message"]["media"][0]["url"])).body == content
    opened = time_of(picture["conversation"]["reply_window_expires_at"])
    assert opened == int(said[1]["timestamp"]) + DAY


async def test_old_news_of_who_holds_a_conversation_change_nothing(stage: Stage) -> None:
    mia, conversation = await held(stage)
    for to, at in (("business", -90), ("agent", -100)):
        old = body(change("messaging_handovers", control(mia, to, at), None))
        assert (await stage.wire.meta(old)).status == 200
    assert (await stage.conversation(conversation))["held_by"] == "external"
    back = await stage.writes(mia, "Is this a person?", at=-10)
    event = await stage.received(back)
    assert event["conversation"]["id"] == conversation
    await stage.ear().hears("conversation.handover", within(conversation), 2)
    assert (await stage.conversation(conversation))["held_by"] is None
    late = message(mia, text("Late to the agent"), at=-40)
    await stage.posts("standby", {"standby": {"contacts": [profile(mia)], "messages": [late]}})
    await stage.received(late["id"])
    assert (await stage.conversation(conversation))["held_by"] is None


# Consent and identities -----------------------------------------------------------------------------------------------


async def test_e5_marketing_stopped_in_whatsapps_settings_blocks_marketing_templates_only(stage: Stage) -> None:
    mia = phone()
    conversation = await stage.talk(mia)
    answer = await stage.crm.call("GET", f"/v1/numbers/{quote(MAIN.e164)}/templates?medium=whatsapp")
    assert {one["name"] for one in answer.json["items"]} >= {"spring_sale", "order_update"}
    path = f"/v1/consents/whatsapp/{quote('+' + mia)}"
    assert (await stage.crm.call("PUT", path, {"status": "granted"})).status == 200

    def prefers(word: str, at: float) -> Json:
        said = {"wa_id": mia, "detail": f"User requested to {word} them", "category": "marketing_messages"}
        return {"contacts": [profile(mia)], "user_preferences": [said | {"value": word, "timestamp": int(now(at))}]}

    def stopped(data: Json) -> bool:
        return data["consent"]["marketing_stopped"] and _is(data, mia)

    for _ in range(2):
        await stage.posts("user_preferences", prefers("stop", -20))
    (event,) = await stage.ear(stage.desk).hears("consent.changed", stopped)
    assert event["consent"]["number"] in (MAIN.e164, None)
    assert (await stage.consent("+" + mia))["marketing_stopped"] is True
    for origin in ("agent", "campaign", "notification"):
        refused = await stage.template(conversation, "spring_sale", origin)
        assert (refused.status, refused.json["code"]) == (409, "no_consent"), origin
    await stage.went(await automates(stage.crm, conversation, "Your order"))
    await stage.went(await stage.crm.reply(conversation, "Hello"))

    await stage.posts("user_preferences", prefers("resume", -10))
    assert (await stage.consent("+" + mia))["marketing_stopped"] is False
    await stage.went(await stage.template(conversation, "spring_sale", "campaign"))


async def test_e5_a_marketing_stop_of_somebody_who_never_wrote_is_kept(stage: Stage) -> None:
    mia = phone()
    said = {"wa_id": mia, "detail": "User requested to stop", "category": "marketing_messages", "value": "stop"}
    await stage.posts("user_preferences", {"user_preferences": [said | {"timestamp": int(now(-30))}]})
    (event,) = await stage.ear(stage.desk).hears("consent.changed", lambda d: _is(d, mia))
    assert event["consent"]["marketing_stopped"] is True
    assert event["number"] == MAIN.e164
    conversation = await stage.talk(mia)
    assert (await stage.consent("+" + mia))["marketing_stopped"] is True
    await stage.crm.call("GET", f"/v1/numbers/{quote(MAIN.e164)}/templates?medium=whatsapp")
    assert (await stage.template(conversation, "spring_sale")).json["code"] == "no_consent"


async def test_e5_a_hidden_customers_marketing_stop_counts_for_their_id(stage: Stage) -> None:
    user = f"DE.{phone('')}"
    item = {"from_user_id": user, "id": unique("wamid.ps"), "timestamp": now()} | text("Hello")
    await stage.posts("messages", {"contacts": [{"profile": {}, "user_id": user}], "messages": [item]})
    conversation = (await stage.received(item["id"]))["conversation"]["id"]
    await stage.crm.call("GET", f"/v1/numbers/{quote(MAIN.e164)}/templates?medium=whatsapp")
    said = {"user_id": user, "detail": "stop", "category": "marketing_messages", "value": "stop"}
    await stage.posts("user_preferences", {"user_preferences": [said | {"timestamp": int(now())}]})
    assert (await stage.consent(user))["marketing_stopped"] is True
    assert (await stage.template(conversation, "spring_sale")).json["code"] == "no_consent"
    await stage.went(await stage.crm.reply(conversation, "Hello"))


async def test_e5_what_was_said_from_an_id_holds_for_the_phone_that_is_shown_later(stage: Stage) -> None:
    mia, user = phone(), f"DE.{phone('')}"
    hidden = {"from_user_id": user, "id": unique("wamid.ps"), "timestamp": now(-10)} | text("Stop")
    await stage.posts("messages", {"contacts": [{"profile": {}, "user_id": user}], "messages": [hidden]})
    await stage.received(hidden["id"])
    assert (await stage.consent(user))["status"] == "revoked"
    both = message(mia, text("Me again"), from_user_id=user)
    await stage.posts("messages", {"contacts": [profile(mia, user_id=user)], "messages": [both]})
    conversation = (await stage.received(both["id"]))["conversation"]["id"]
    assert (await stage.consent("+" + mia))["status"] == "revoked"
    assert (await automates(stage.crm, conversation, "Buy!")).json["code"] == "no_consent"


async def test_e5_a_refusal_for_marketing_is_a_marketing_stop_and_no_other_error_is(stage: Stage) -> None:
    mia, bo = phone(), phone()
    stage.simulator.status_plan, usual = StatusPlan.none(), stage.simulator.status_plan
    try:
        for who, code in ((mia, 131050), (bo, 131049)):
            conversation = await stage.talk(who)
            path = f"/v1/consents/whatsapp/{quote('+' + who)}"
            assert (await stage.crm.call("PUT", path, {"status": "granted"})).status == 200
            sent = await stage.went(await stage.template(conversation, "spring_sale", "campaign"))
            fault = {"code": code, "title": "No", "message": "No", "error_data": {"details": "No"}}
            report = {"id": sent.provider_id, "status": "failed", "timestamp": now(), "recipient_id": who}
            await stage.posts("messages", {"statuses": [report | {"errors": [fault]}]})
            view = await stage.ends(str(sent.hub_id), "failed")
            assert view["error"]["provider_code"] == str(code)
            assert (await stage.consent("+" + who))["status"] == "granted"
    finally:
        stage.simulator.status_plan = usual
    assert [(await stage.consent("+" + one))["marketing_stopped"] for one in (mia, bo)] == [True, False]


def _is(data: Json, who: str) -> bool:
    return bool(data["consent"]["address"].lstrip("+") == who)


async def test_b8_another_number_is_the_same_contact_with_the_stop_and_without_what_was_granted(stage: Stage) -> None:
    old, new = phone(), phone()
    conversation = await stage.talk(old, "hello", at=-300)
    contact = (await stage.contacts("+" + old))[0]["id"]
    path = f"/v1/consents/sms/{quote('+' + old)}"
    assert (await stage.crm.call("PUT", path, {"status": "granted"})).status == 200
    await stage.received(await stage.writes(old, "Stop!", at=-200))
    assert (await stage.consent("+" + old))["status"] == "revoked"

    told = message(old, {"type": "system"}, at=-100)
    told["system"] = {"body": f"Mia changed from {old} to {new}", "wa_id": new, "type": "user_changed_number"}
    for _ in range(2):
        await stage.posts("messages", {"messages": [told]})
    event = await stage.received(told["id"])
    assert (event["message"]["type"], event["conversation"]["id"]) == ("system", conversation)
    (kept,) = await stage.contacts("+" + new)
    assert kept["id"] == contact
    updated = await stage.ear().hears("profile.updated", lambda d: d["contact"]["id"] == contact)
    assert "addresses" in updated[-1]["profile"]["changed"]
    assert [one["value"] for one in kept["former_addresses"]] == ["+" + old]
    assert "+" + old not in [one["value"] for one in kept["addresses"]]
    assert (await stage.consent("+" + new))["status"] == "revoked"
    assert (await stage.consent("+" + new, medium="sms"))["status"] != "granted"
    bot = await automates(stage.crm, conversation, "Buy!")
    assert (bot.status, bot.json["code"]) == (409, "no_consent")
    assert (await stage.went(await stage.crm.reply(conversation, "Noted"))).to == "+" + new

    assert await stage.talk(new, "It works") == conversation
    assert await stage.talk(new, "START please") == conversation
    await stage.received(await stage.writes(new, "start"))
    assert (await stage.went(await automates(stage.crm, conversation, "Welcome back"))).to == "+" + new


@pytest.mark.parametrize("medium", ["whatsapp", "sms"])
async def test_e5_services_hear_that_what_was_granted_does_not_go_along_to_another_number(
    stage: Stage, medium: str
) -> None:
    old, new = phone(), phone()
    await stage.talk(old, at=-300)
    path = f"/v1/consents/{medium}/{quote('+' + old)}"
    assert (await stage.crm.call("PUT", path, {"status": "granted"})).status == 200
    told = message(old, {"type": "system"}, at=-100)
    told["system"] = {"body": "changed", "wa_id": new, "type": "user_changed_number"}
    await stage.posts("messages", {"messages": [told]})
    await stage.received(told["id"], stage.desk)
    assert (await stage.consent("+" + new, medium=medium))["status"] == "unknown"
    await stage.received(await stage.writes(new, "afterwards"), stage.desk)
    heard = await stage.ear(stage.desk).of("consent.changed", lambda d: d["consent"]["medium"] == medium)
    lost = [one["consent"] for one in heard if _is(one, new) and one["number"] == MAIN.e164]
    assert [one["status"] for one in lost] == (["unknown"] if medium == "whatsapp" else [])  # no conversation, nobody


async def test_b8_who_writes_from_a_number_that_was_given_up_is_somebody_new(stage: Stage) -> None:
    old, new = phone(), phone()
    conversation = await stage.talk(old, "hello", at=-300)
    contact = (await stage.contacts("+" + old))[0]["id"]
    told = message(old, {"type": "system"}, at=-100)
    told["system"] = {"body": "changed", "wa_id": new, "type": "user_changed_number"}
    await stage.posts("messages", {"messages": [told]})
    stranger = await stage.talk(old, "Who is this?", at=-10)
    assert stranger != conversation
    (other,) = await stage.contacts("+" + old)
    assert other["id"] != contact
    assert [one["text"] for one in await stage.timeline(stranger)] == ["Who is this?"]
    assert (await stage.went(await stage.crm.reply(stranger, "The shop"))).to == "+" + old
    assert (await stage.went(await stage.crm.reply(conversation, "Hello again"))).to == "+" + new


async def test_b8_who_wrote_from_the_new_number_before_the_news_is_the_same_contact(stage: Stage) -> None:
    old, new = phone(), phone()
    conversation = await stage.talk(old, "Which one?", at=-300)
    early = await stage.talk(new, "The blue one", at=-60)
    assert early != conversation
    told = message(old, {"type": "system"}, at=-100)
    told["system"] = {"body": "changed", "wa_id": new, "type": "user_changed_number"}
    await stage.posts("messages", {"messages": [told]})
    await stage.received(told["id"])
    (contact,) = await stage.contacts("+" + new)
    answer = await stage.crm.call("GET", f"/v1/contacts/{contact['id']}/timeline?after=0")
    said = [one["text"] for one in answer.json["items"] if one["type"] == "text"]
    assert said == ["Which one?", "The blue one"]
    for one in answer.json["conversations"]:
        assert (await stage.crm.call("GET", f"/v1/contacts/{one['contact']['id']}")).json["id"] == contact["id"]
    assert {one["id"] for one in answer.json["conversations"]} == {conversation, early}
    for one in {conversation, early}:
        assert (await stage.went(await stage.crm.reply(one, "Sure"))).to == "+" + new


async def test_b8_older_news_of_another_number_change_nothing(stage: Stage) -> None:
    first, second, third = phone(), phone(), phone()
    conversation = await stage.talk(first, at=-300)
    for old, new, at in ((first, second, -100), (second, third, -50), (first, second, -100)):
        told = message(old, {"type": "system"}, at=at)
        told["system"] = {"body": "changed", "wa_id": new, "type": "user_changed_number"}
        await stage.posts("messages", {"messages": [told]})
    (contact,) = await stage.contacts("+" + third)
    assert [one["value"] for one in contact["addresses"] if one["type"] == "phone"] == ["+" + third]
    assert {one["value"] for one in contact["former_addresses"]} == {"+" + first, "+" + second}
    assert (await stage.went(await stage.crm.reply(conversation, "Still you?"))).to == "+" + third


async def test_scheduled_and_template_automation_waits_while_metas_agent_talks_and_can_be_cancelled(
    stage: Stage,
) -> None:
    mia, conversation = await held(stage)
    at_once = {"send_at": datetime.fromtimestamp(time.time() - 60, UTC).isoformat()}
    waiting = [
        await automates(stage.crm, conversation, "planned", "scheduled", **at_once),
        await automates(stage.crm, conversation, "never mind"),
    ]
    assert [codes(one) for one in waiting] == [["conversation_held"]] * 2
    gone = await stage.crm.call("DELETE", f"/v1/messages/{waiting[1].json['message']['id']}")
    assert (gone.status, gone.json["message"]["status"] if "message" in gone.json else gone.json["status"]) == (
        200,
        "cancelled",
    )
    await stage.writes(mia, "Is anybody there?", at=-5)
    assert (await stage.went(waiting[0])).text == "planned"
    assert [one.text for one in stage.simulator.sent if one.to == "+" + mia] == ["planned"]


async def test_e4_other_news_of_the_system_open_no_window(stage: Stage) -> None:
    mia = phone()
    told = message(mia, {"type": "system"})
    told["system"] = {"body": "Mia's security code changed", "type": "customer_identity_changed"}
    await stage.posts("messages", {"contacts": [profile(mia)], "messages": [told]})
    event = await stage.received(told["id"])
    assert (event["message"]["type"], event["conversation"]["reply_window_expires_at"]) == ("system", None)
    assert len((await stage.contacts("+" + mia))[0]["addresses"]) == 1


async def test_b8_a_customer_without_a_phone_is_answered_by_id_and_keeps_the_thread_under_another(stage: Stage) -> None:
    first, second = f"US.{phone('')}", f"US.{phone('')}"

    def said(user: str, words: str) -> Json:
        item = {"from_user_id": user, "id": unique("wamid.ps"), "timestamp": now()} | text(words)
        who = {"profile": {"name": "Hid", "username": "hid"}, "user_id": user}
        return {"contacts": [who], "messages": [item]}

    asked = said(first, "Do you have it?")
    await stage.posts("messages", asked)
    event = await stage.received(asked["messages"][0]["id"])
    conversation = event["conversation"]["id"]
    assert {one["type"]: one["value"] for one in event["contact"]["addresses"]} == {"user_id": first, "username": "hid"}
    stage.simulator.status_plan, usual = StatusPlan.none(), stage.simulator.status_plan
    try:
        sent = await stage.went(await stage.crm.reply(conversation, "We do"))
    finally:
        stage.simulator.status_plan = usual
    assert sent.body["recipient"] == first
    assert "to" not in sent.body
    report = {"id": sent.provider_id, "status": "delivered", "timestamp": now(), "recipient_user_id": first}
    await stage.posts("messages", {"statuses": [report]})
    await stage.ends(str(sent.hub_id), "delivered")

    update = {"detail": "User id for User has been updated.", "timestamp": now()}
    update["user_id"] = {"previous": first, "current": second}
    await stage.posts("user_id_update", {"user_id_update": [update]})
    again = said(second, "Two of them")
    await stage.posts("messages", again)
    assert (await stage.received(again["messages"][0]["id"]))["conversation"]["id"] == conversation
    sent = await stage.went(await stage.crm.reply(conversation, "Sure"))
    assert sent.body["recipient"] == second
    assert len(await stage.contacts(second)) == 1


@pytest.mark.parametrize("how", ["field", "system"])
async def test_b8_another_id_of_somebody_with_a_phone_is_theirs(stage: Stage, how: str) -> None:
    mia, old, new = phone(), f"DE.{phone('')}", f"DE.{phone('')}"
    first = message(mia, text("hello"), from_user_id=old, at=-60)
    await stage.posts("messages", {"contacts": [profile(mia, user_id=old)], "messages": [first]})
    conversation = (await stage.received(first["id"]))["conversation"]["id"]
    if how == "field":
        ids = {"previous": old, "current": new}
        update = {"wa_id": mia, "detail": "updated", "timestamp": now(-30), "user_id": ids}
        await stage.posts("user_id_update", {"user_id_update": [update]})
    else:
        told = message(mia, {"type": "system"}, from_user_id=new, at=-30)
        told["system"] = {"type": "user_changed_user_id", "previous_user_id": old, "user_id": new, "body": "changed"}
        await stage.posts("messages", {"messages": [told]})
    later = {"from_user_id": new, "id": unique("wamid.ps"), "timestamp": now()} | text("me, hidden now")
    await stage.posts("messages", {"contacts": [{"profile": {}, "user_id": new}], "messages": [later]})
    event = await stage.received(later["id"])
    assert event["conversation"]["id"] == conversation
    assert {one["value"] for one in event["contact"]["addresses"] if one["type"] == "user_id"} == {new}
    (contact,) = await stage.contacts("+" + mia)
    assert old in [one["value"] for one in contact["former_addresses"]]


async def test_b8_who_hid_a_phone_and_shows_it_later_is_the_same_contact(stage: Stage) -> None:
    mia, user = phone(), f"DE.{phone('')}"
    hidden = {"from_user_id": user, "id": unique("wamid.ps"), "timestamp": now()} | text("Me")
    await stage.posts("messages", {"contacts": [{"profile": {"name": "Mia"}, "user_id": user}], "messages": [hidden]})
    conversation = (await stage.received(hidden["id"]))["conversation"]["id"]
    both = message(mia, text("Me again"), from_user_id=user)
    await stage.posts("messages", {"contacts": [profile(mia, user_id=user)], "messages": [both]})
    event = await stage.received(both["id"])
    assert event["conversation"]["id"] == conversation
    assert {one["value"] for one in event["contact"]["addresses"]} == {"+" + mia, user}
    assert await stage.talk(mia, "Without my id") == conversation


@pytest.mark.parametrize(
    ("dialled", "reported"),
    [("5511987", "551187"), ("549341", "54341"), ("5255", "52155")],
    ids=["brazil", "argentina", "mexico"],
)
async def test_b8_forms_of_a_number_are_one_contact_and_the_one_that_works_is_remembered(
    stage: Stage, dialled: str, reported: str
) -> None:
    rest = str(100_000 + next(_counter))
    rest = rest if dialled.startswith("55") else "4" + rest if dialled.startswith("549") else "41" + rest
    known, asked = "+" + reported + rest, "+" + dialled + rest
    conversation = await stage.talk(known[1:])
    written = dict(sms("hello", asked))
    assert (await stage.wire.twilio(list(written.items()))).status == 200
    event = await stage.received(written["MessageSid"])
    assert event["contact"]["id"] == (await stage.conversation(conversation))["contact"]["id"]
    assert len(await stage.contacts(asked)) == 1
    assert (await stage.went(await stage.crm.reply(conversation, "reported"))).to == known

    stage.simulator.meta_api.refused_forms[known] = 131026
    before = len(stage.simulator.attempts)
    assert (await stage.went(await stage.crm.reply(conversation, "the other"))).to == asked
    assert [one.to for one in stage.simulator.attempts[before:]] == [known, asked]
    assert (await stage.went(await stage.crm.reply(conversation, "remembered"))).to == asked
    assert [one.to for one in stage.simulator.attempts[before:]] == [known, asked, asked]
    assert await stage.talk(known[1:], "still me") == conversation
    assert (await stage.went(await stage.crm.reply(conversation, "yes"))).to == asked
    wanted = {"to": known, "medium": "whatsapp", "from": MAIN.e164, "origin": "agent", "text": "Any form"}
    answer = await stage.crm.call("POST", "/v1/messages", wanted | {"agent": {"id": "a", "name": "Ana"}})
    assert answer.json["message"]["conversation_id"] == conversation
    assert (await stage.went(answer)).to == asked


@pytest.mark.parametrize(
    "form",
    [
        "+5511987{}",
        "+551187{}",
        "+5493414{}",
        "+543414{}",
        "+5215541{}",
        "+525541{}",
        "+22997{}",
        "+2290197{}",
        "+22507{}",
    ],
)
async def test_b8_a_contact_is_found_by_every_form_in_which_it_may_be_shown(stage: Stage, form: str) -> None:
    number = form.format(100_000 + next(_counter))
    await stage.talk(number[1:])
    (contact,) = await stage.contacts(number)
    assert number in [one["value"] for one in contact["addresses"]]
    assert (await stage.consent(number))["status"] == "unknown"


async def test_b8_somebody_new_is_written_to_in_the_form_that_works(stage: Stage) -> None:
    rest = str(100_000 + next(_counter))
    short, full = f"+551187{rest}", f"+5511987{rest}"
    stage.simulator.meta_api.refused_forms[full] = 131026
    wanted = {"medium": "whatsapp", "from": MAIN.e164, "origin": "notification", "type": "template"}
    parameters = [{"type": "body", "parameters": [{"type": "text", "text": "4711"}]}]
    wanted["template"] = {"name": "order_update", "language": "en", "components": parameters}
    first = await stage.crm.call("POST", "/v1/messages", wanted | {"to": full})
    assert (await stage.went(first)).to == short
    second = await stage.crm.call("POST", "/v1/messages", wanted | {"to": full})
    assert (await stage.went(second)).to == short
    assert [one.to for one in stage.simulator.attempts if one.to in {short, full}] == [full, short, short]
    assert await stage.talk(short[1:], "obrigada") == first.json["message"]["conversation_id"]


async def test_b8_a_number_that_is_refused_in_every_form_fails_with_the_first_refusal(stage: Stage) -> None:
    rest = str(100_000 + next(_counter))
    forms = {f"+551187{rest}", f"+5511987{rest}"}
    conversation = await stage.talk(f"551187{rest}")
    stage.simulator.meta_api.refused_forms |= dict.fromkeys(forms, 131026)
    answer = await stage.crm.reply(conversation, "Anybody?")
    error = (await stage.ends(answer.json["message"]["id"], "failed"))["error"]
    assert (error["code"], error["provider_code"]) == ("undeliverable", "131026")
    assert sorted(one.to or "" for one in stage.simulator.attempts if one.to in forms) == sorted(forms)
    assert (await stage.consent(f"+551187{rest}"))["status"] == "unknown"


async def test_b8_a_brazilian_land_line_has_no_twin(stage: Stage) -> None:
    rest = f"{next(_counter):07d}"
    assert await stage.talk(f"55113{rest}") != await stage.talk(f"551193{rest}")


# Changes, calls, groups -----------------------------------------------------------------------------------------------


async def test_an_edit_that_overtakes_its_message_loses_neither(stage: Stage) -> None:
    mia = phone()
    first = message(mia, text("Helo"), at=-30)
    edit = {"original_message_id": first["id"], "message": text("Hello")}
    await stage.posts("messages", {"messages": [message(mia, {"type": "edit", "edit": edit}, at=-20)]})
    (early,) = await stage.ear().hears("message.edited", of(first["id"]))
    assert (early["message"]["id"], early["message"]["text"]) == (None, "Hello")
    await stage.posts("messages", {"contacts": [profile(mia)], "messages": [first]})
    event = await stage.received(first["id"])
    assert event["conversation"]["id"] == early["conversation"]["id"]
    entries = await stage.timeline(event["conversation"]["id"])
    assert [one["provider_id"] for one in entries] == [first["id"]]


@pytest.mark.parametrize("kind", ["edit", "revoke"])
async def test_a_change_that_overtakes_its_message_is_told_and_the_message_stands_as_it_was(
    stage: Stage, kind: str
) -> None:
    mia = phone()
    first = message(mia, text("Helo"), at=-30)
    said = {"original_message_id": first["id"]} | ({"message": text("Hello")} if kind == "edit" else {})
    for item in (message(mia, {"type": kind, kind: said}, at=-20), first):
        await stage.posts("messages", {"contacts": [profile(mia)], "messages": [item]})
    conversation = (await stage.received(first["id"]))["conversation"]["id"]
    (early,) = await stage.ear().hears({"edit": "message.edited", "revoke": "message.deleted"}[kind], of(first["id"]))
    assert (early["message"]["id"], early["message"]["provider_id"]) == (None, first["id"])
    (entry,) = await stage.timeline(conversation)
    assert entry["text"] == "Helo"


async def test_b6_reactions_edits_and_a_revocation_are_told_in_the_order_they_came(stage: Stage) -> None:
    mia = phone()
    conversation = await stage.talk(mia)
    sent = await stage.went(await stage.crm.reply(conversation, "Your parcel"))
    mine = await stage.writes(mia, "Where?")
    news = [
        {"type": "reaction", "reaction": {"message_id": sent.provider_id}},
        {"type": "reaction", "reaction": {"message_id": sent.provider_id, "emoji": "👍"}},
        {"type": "reaction", "reaction": {"message_id": sent.provider_id, "emoji": ""}},
        {"type": "reaction", "reaction": {"message_id": "wamid.nobody-knows", "emoji": "❤"}},
        {"type": "edit", "edit": {"original_message_id": mine, "message": text("Where is it?")}},
        {"type": "revoke", "revoke": {"original_message_id": mine}},
    ]
    items = [message(mia, one) for one in news]
    await stage.posts("messages", {"messages": items})
    await stage.posts("messages", {"messages": items})
    await stage.ear(stage.desk).hears("message.deleted", of(mine))
    told = await stage.ear(stage.desk).of("reaction.changed", within(conversation))
    assert [one["reaction"]["emoji"] for one in told] == [None, "👍", None, "❤"]
    assert [one["reaction"]["message"]["id"] for one in told] == [sent.hub_id] * 3 + [None]
    everything = [one for one in await stage.ear(stage.desk).pull() if within(conversation)(one["data"])]
    numbers = [one["data"]["conversation"]["sequence"] for one in everything]
    assert numbers == list(range(1, len(numbers) + 1))
    reaction = {"message_id": await _hub_id(stage, mine), "emoji": "👍"}
    wanted = {"origin": "agent", "agent": {"id": "a"}, "type": "reaction", "reaction": reaction}
    answer = await stage.crm.call("POST", f"/v1/conversations/{conversation}/messages", wanted)
    assert (answer.status, answer.json["code"]) == (422, "unknown_message")


async def _hub_id(stage: Stage, provider_id: str) -> str:
    return str((await stage.received(provider_id))["message"]["id"])


async def test_e5_a_message_that_is_edited_to_stop_counts_and_one_that_quotes_it_does_not(stage: Stage) -> None:
    mia = phone()
    conversation = await stage.talk(mia, "stop sending the blue one")
    assert (await stage.consent("+" + mia))["status"] == "unknown"
    mine = await stage.writes(mia, "Hm")
    edit = {"original_message_id": mine, "message": text("  ¡Stop!! ")}
    await stage.posts("messages", {"messages": [message(mia, {"type": "edit", "edit": edit})]})
    (event,) = await stage.ear(stage.desk).hears("consent.changed", lambda d: _is(d, mia))
    assert (event["consent"]["status"], event["consent"]["keyword"]) == ("revoked", "stop")
    assert (await automates(stage.crm, conversation, "Buy!")).json["code"] == "no_consent"
    await stage.went(await stage.desk.reply(conversation, "We heard you"))


async def test_e4_a_customers_call_opens_the_reply_window_and_the_business_own_does_not(stage: Stage) -> None:
    mia, bo = phone(), phone()

    def call(who: str, event: str, call_id: str, *, ours: bool = False, **more: Any) -> Json:
        sides = (MAIN.e164[1:], who) if ours else (who, MAIN.e164[1:])
        fields = {"id": call_id, "from": sides[0], "to": sides[1], "event": event, "timestamp": now()}
        return fields | {"direction": "BUSINESS_INITIATED" if ours else "USER_INITIATED"} | more

    sdp = {"session": {"sdp_type": "offer", "sdp": "v=0"}}
    first, second = unique("wacid."), unique("wacid.")
    await stage.posts("calls", {"contacts": [profile(mia)], "calls": [call(mia, "connect", first, **sdp)]})
    ended = {"status": "COMPLETED", "start_time": now(-33), "end_time": now(), "duration": 33}
    await stage.posts("calls", {"calls": [call(mia, "terminate", first, **ended)]})
    await stage.posts("calls", {"calls": [call(bo, "connect", second, ours=True, **sdp)]})
    talked, called = await stage.found("+" + mia), await stage.found("+" + bo)
    assert talked["reply_window_expires_at"] is not None
    assert called["reply_window_expires_at"] is None
    entries = await stage.timeline(talked["id"], "?after=0")
    assert [(one["type"], one["call"]["event"]) for one in entries] == [("call", "connect"), ("call", "terminate")]
    assert entries[1]["call"]["duration"] == 33
    assert "v=0" not in json.dumps(entries)
    await stage.went(await stage.crm.reply(talked["id"], "You called?"))
    assert (await stage.crm.reply(called["id"], "We called")).json["code"] == "reply_window_closed"


async def test_b5_groups_do_no_harm(stage: Stage) -> None:
    mia = phone()
    word = message(mia, text("STOP"), group_id="120363000000000001")
    picture = message(mia, image("999", "In the group"), group_id="120363000000000001")
    await stage.posts("messages", {"contacts": [profile(mia)], "messages": [word, picture]})
    events = [await stage.received(one["id"]) for one in (word, picture)]
    assert {one["message"]["type"] for one in events} == {"unsupported"}
    assert events[0]["message"]["raw"]["group_id"] == word["group_id"]
    assert "text" not in events[0]["message"]
    assert {one["conversation"]["reply_window_expires_at"] for one in events} == {None}
    assert (await stage.consent("+" + mia))["status"] != "revoked"
    answer = await stage.crm.reply(events[0]["conversation"]["id"], "Hello group")
    assert (answer.status, answer.json["code"]) in {(409, "reply_window_closed"), (409, "no_address")}
    report = {"id": unique("wamid.g"), "status": "delivered", "timestamp": now(), "recipient_type": "group"}
    await stage.posts("messages", {"statuses": [report | {"recipient_id": word["group_id"]}]})
    assert [one["state"] for one in await stage.quarantined(report["id"])] == ["noted"]


async def test_b5_what_is_no_business_of_the_hub_is_noted_and_needs_nobody(stage: Stage) -> None:
    mark = unique("noted")
    said = {
        "smb_app_state_sync": {"state_sync": [{"type": "contact", "contact": {"full_name": mark}, "action": "add"}]},
        "group_lifecycle_update": {"groups": [{"group_id": mark, "type": "group_create", "timestamp": now()}]},
        "group_participants_update": {"groups": [{"group_id": mark, "type": "group_participants_add"}]},
        "flows": {"event": "FLOW_STATUS_CHANGE", "message": mark, "flow_id": "1"},
        "tracking_events": {"events": [{"mark": mark}]},
    }
    assert (await stage.wire.meta(body(*(change(name, value) for name, value in said.items())))).status == 200
    found = await stage.quarantined(mark)
    assert {(one["state"], one["reason"]) for one in found} == {("noted", "not_needed")}
    assert len(found) == len(said)


async def test_b5_reactions_edits_and_deletions_in_a_group_touch_nothing_private(stage: Stage) -> None:
    mia, group = phone(), "120363000000000003"
    conversation = await stage.talk(mia)
    mine = await stage.writes(mia, "private")
    news = [
        {"type": "reaction", "reaction": {"message_id": mine, "emoji": "👍"}},
        {"type": "edit", "edit": {"original_message_id": mine, "message": text("STOP")}},
        {"type": "revoke", "revoke": {"original_message_id": mine}},
    ]
    items = [message(mia, one, group_id=group) for one in news]
    await stage.posts("messages", {"messages": items})
    await stage.received(await stage.writes(mia, "afterwards"))
    (entry,) = [one for one in await stage.timeline(conversation) if one["provider_id"] == mine]
    assert (entry["text"], entry.get("edited_at"), entry.get("deleted_at")) == ("private", None, None)
    assert (await stage.consent("+" + mia))["status"] == "unknown"
    assert await stage.quarantined(mine, state="open") == []


async def test_e4_a_group_message_does_not_move_the_window_of_a_private_conversation(stage: Stage) -> None:
    mia = phone()
    conversation = await stage.talk(mia, at=-3600)
    before = (await stage.conversation(conversation))["reply_window_expires_at"]
    await stage.posts("messages", {"messages": [message(mia, text("in a group"), group_id="120363000000000002")]})
    assert (await stage.conversation(conversation))["reply_window_expires_at"] == before


# Batches, secrets, numbers nobody knows -------------------------------------------------------------------------------


async def test_b1_both_app_secrets_sign_and_nothing_else_does(stage: Stage) -> None:
    mia = phone()
    items = [message(mia, text(f"signed {place}")) for place in range(3)]
    raws = [json.dumps(body(change("messages", {"messages": [item]}))).encode() for item in items]
    headers = {"Content-Type": "application/json"}
    for raw, secret in zip(raws, (OLD_SECRET, NEW_SECRET), strict=False):
        answer = await stage.wire.post(META, raw, headers | {"X-Hub-Signature-256": sign_meta(raw, secret)})
        assert answer.status == 200
    wrong = ["", "sha256=", "sha256=" + "0" * 64, sign_meta(raws[2], "guess"), sign_meta(raws[0], NEW_SECRET), "sha1=x"]
    for signature in wrong:
        answer = await stage.wire.post(META, raws[2], headers | {"X-Hub-Signature-256": signature})
        assert (answer.status, answer.body) == (403, b"")
    assert (await stage.wire.post(META, raws[2], headers)).status == 403
    conversation = (await stage.received(items[1]["id"]))["conversation"]["id"]
    assert [one["text"] for one in await stage.timeline(conversation)] == ["signed 1", "signed 0"]


async def test_b2_one_post_for_several_numbers_with_all_sorts_in_it(stage: Stage) -> None:
    mia, bo = phone(), phone()
    conversation = await stage.talk(mia)
    stage.simulator.status_plan, usual = StatusPlan.none(), stage.simulator.status_plan
    try:
        sent = await stage.went(await stage.crm.reply(conversation, "Soon"))
    finally:
        stage.simulator.status_plan = usual
    read = {"id": sent.provider_id, "status": "read", "timestamp": now(), "recipient_id": mia}
    here, there = message(mia, text("here")), message(mia, text("there"))
    odd = {"id": unique("wamid.odd"), "type": "text"}
    quiz = message(bo, {"type": "quiz_2027", "quiz_2027": {"a": [1]}})
    lost = message(bo, text("for nobody"))
    fault = {"code": 131000, "title": unique("broken")}
    people = [profile(bo, "Bo"), profile(mia)]
    document = body(
        change("messages", {"contacts": people, "messages": [here, odd, quiz], "statuses": [read]}),
        change("messages", {"messages": [lost]}, LATE),
        change("messages", {"errors": [fault]}, JUDGED),
        change("field_of_2027", {"mark": unique("future")}),
        {"field": "messages", "value": None},
        7,
    )
    document["entry"].append({"id": JUDGED.waba_id, "changes": [change("messages", {"messages": [there]}, JUDGED)]})
    assert (await stage.wire.meta(document)).status == 200
    first, other, new = [await stage.received(one["id"]) for one in (here, there, quiz)]
    assert (first["number"], first["conversation"]["id"], first["contact"]["name"]) == (MAIN.e164, conversation, "Mia")
    assert other["number"] == JUDGED.e164
    assert other["contact"]["id"] == first["contact"]["id"]
    assert other["conversation"]["id"] != conversation
    assert (new["message"]["type"], new["contact"]["name"]) == ("unsupported", "Bo")
    assert new["message"]["raw"]["quiz_2027"] == {"a": [1]}
    await stage.ends(str(sent.hub_id), "read")
    reasons = {mark: [one["reason"] for one in await stage.quarantined(mark)] for mark in (lost["id"], fault["title"])}
    assert reasons == {lost["id"]: ["unknown_number"], fault["title"]: ["provider_error"]}
    assert [one["reason"] for one in await stage.quarantined(odd["id"])] == ["no_customer"]


async def test_b4_the_same_webhook_many_times_at_once_is_one_message_of_one_contact(stage: Stage) -> None:
    mia = phone()
    items = [message(mia, text(f"at once {place}")) for place in range(5)]
    documents = [body(change("messages", {"contacts": [profile(mia)], "messages": [item]})) for item in items]
    documents += [body(change("messages", {"messages": items}), change("messages", {"messages": items}))]
    answers = await asyncio.gather(*(stage.wire.meta(one) for one in documents * 5))
    assert {one.status for one in answers} == {200}
    events = [await stage.received(item["id"]) for item in items]
    assert len({one["contact"]["id"] for one in events}) == 1
    assert sorted(one["conversation"]["sequence"] for one in events) == [1, 2, 3, 4, 5]
    assert len(await stage.timeline(events[0]["conversation"]["id"])) == 5


async def test_b8_one_post_in_which_somebody_shows_a_phone_changes_it_and_goes_on(stage: Stage) -> None:
    old, new, user = phone(), phone(), f"DE.{phone('')}"
    hidden = {"from_user_id": user, "id": unique("wamid.ps"), "timestamp": now(-50)} | text("hidden")
    told = message(old, {"type": "system"}, at=-30)
    told["system"] = {"body": "changed", "wa_id": new, "type": "user_changed_number"}
    items = [
        hidden,
        message(old, text("shown"), from_user_id=user, at=-45),
        message(old, text("by phone"), at=-40),
        told,
        message(new, text("moved"), at=-20),
        message(new, text("moved with id"), from_user_id=user, at=-10),
    ]
    await stage.posts("messages", {"messages": items})
    events = [await stage.received(one["id"]) for one in items]
    assert len({one["conversation"]["id"] for one in events}) == 1
    assert {one["value"] for one in events[-1]["contact"]["addresses"]} == {"+" + new, user}
    sent = await stage.went(await stage.crm.reply(events[0]["conversation"]["id"], "Got it all"))
    assert sent.to == "+" + new


async def test_e7_statuses_of_one_post_in_any_order_end_in_one_state_and_are_told_once(stage: Stage) -> None:
    mia = phone()
    conversation = await stage.talk(mia)
    stage.simulator.status_plan, usual = StatusPlan.none(), stage.simulator.status_plan
    try:
        sent = await stage.went(await stage.crm.reply(conversation, "Soon"))
        lost = await stage.went(await stage.crm.reply(conversation, "Sorry"))
    finally:
        stage.simulator.status_plan = usual

    def report(of_: SimulatedSend, word: str, **more: Any) -> Json:
        return {"id": of_.provider_id, "status": word, "timestamp": now(), "recipient_id": mia} | more

    fault = {"code": 131026, "title": "Undeliverable", "error_data": {"details": "The customer's phone is off"}}
    words = ["read", "sent", "deleted", "delivered", "read", "word_of_2027"]
    statuses = [report(sent, word) for word in words] + [report(lost, "failed", errors=[fault])]
    for _ in range(2):
        await stage.posts("messages", {"statuses": statuses})
    view = await stage.ends(str(sent.hub_id), "read")
    assert {"sent", "delivered", "read"} <= set(view["status_times"])
    failed = await stage.ends(str(lost.hub_id), "failed")
    assert (failed["error"]["code"], failed["error"]["provider_code"]) == ("undeliverable", "131026")
    hidden = await stage.view(str(lost.hub_id), stage.desk)
    assert (hidden["status"], hidden["masked"], "error" in hidden) == ("failed", True, False)
    assert "phone is off" not in json.dumps([hidden, await stage.ear(stage.desk).pull()])
    told = await stage.ear().of("message.status", lambda d: d["message"]["id"] == sent.hub_id)
    assert len(told) == len({one["message"]["status"] for one in told})


async def test_b5_a_number_registered_late_gets_what_was_quarantined_in_order(stage: Stage) -> None:
    mia = phone()
    said = [message(mia, text(f"early {place}"), at=-60 + place) for place in range(5)]
    for part in (said[:2], said[2:3], said[3:]):
        await stage.posts("messages", {"contacts": [profile(mia)], "messages": part}, LATE)
        await stage.posts("messages", {"contacts": [profile(mia)], "messages": part}, LATE)
    assert {one["reason"] for one in await stage.quarantined(mia)} == {"unknown_number"}
    answer = await stage.world.call("POST", "/v1/admin/numbers", {"e164": LATE.e164, "senders": [at_meta(LATE)]})
    assert answer.status == 201, answer
    for service in (stage.crm, stage.desk):
        await service.connect(LATE.e164, endpoint_url=None)
    replayed = await stage.world.call("POST", "/v1/admin/quarantine/replay", {"reason": "unknown_number"})
    assert replayed.json["taken"] >= 5
    events = [await stage.received(one["id"], stage.desk) for one in said]
    assert {one["number"] for one in events} == {LATE.e164}
    conversation = events[0]["conversation"]["id"]
    assert [one["text"] for one in await stage.timeline(conversation, "?after=0")] == [f"early {n}" for n in range(5)]
    assert [one["conversation"]["sequence"] for one in events] == [1, 2, 3, 4, 5]
    await stage.posts("messages", {"contacts": [profile(mia)], "messages": said}, LATE)
    again = await stage.world.call("POST", "/v1/admin/quarantine/replay", {"reason": "unknown_number"})
    assert again.json["replayed"] == 0
    assert len(await stage.timeline(conversation)) == 5
    (sent,) = [await stage.went(await stage.crm.reply(conversation, "Sorry for the wait"))]
    assert sent.sender == LATE.phone_number_id


# Notices about templates, quality and accounts ------------------------------------------------------------------------


async def test_a_paused_template_is_told_of_and_no_longer_sent(stage: Stage) -> None:
    conversation = await stage.talk(phone(), number=JUDGED)
    templates = f"/v1/numbers/{quote(JUDGED.e164)}/templates?medium=whatsapp"
    assert (await stage.crm.call("GET", templates)).status == 200
    usual = list(stage.simulator.templates)
    stage.simulator.templates = [one | {"status": "PAUSED"} if one["name"] == "spring_sale" else one for one in usual]
    paused = {"message_template_id": 900000000000002, "message_template_name": "spring_sale"}
    paused |= {"message_template_language": "en", "event": "PAUSED", "reason": "LOW_QUALITY"}
    try:
        document = body(change("message_template_status_update", paused, None), number=JUDGED, time=int(now()))
        assert (await stage.wire.meta(document)).status == 200
        (event,) = await stage.ear(stage.desk).hears("template.changed", lambda d: d["change"] == "status")
        assert event["number"] == JUDGED.e164
        assert (event["template"]["name"], event["template"]["language"]) == ("spring_sale", "en")
        assert (event["current"], event["reason"]) == ("paused", "low_quality")
        listed = {one["name"]: one["status"] for one in (await stage.crm.call("GET", templates)).json["items"]}
        assert listed["spring_sale"] == "paused"
        refused = await stage.template(conversation, "spring_sale")
        assert (refused.status, refused.json["code"]) == (422, "template_unavailable")
        assert refused.json["template_status"] == "paused"
    finally:
        stage.simulator.templates = usual


async def test_quality_and_category_of_templates_are_told_once_each(stage: Stage) -> None:
    named = {"message_template_id": 900000000000001, "message_template_name": "order_update"}
    named |= {"message_template_language": "en"}
    scores = named | {"previous_quality_score": "GREEN", "new_quality_score": "YELLOW"}
    category = named | {"previous_category": "UTILITY", "new_category": "MARKETING"}
    changes = [
        change("message_template_quality_update", scores, None),
        change("template_category_update", category, None),
    ]
    for _ in range(2):
        assert (await stage.wire.meta(body(*changes, number=SLOWED, time=int(now(-5))))).status == 200
    await stage.ear().hears("template.changed", lambda d: d["number"] == SLOWED.e164, 2)
    await stage.received(await stage.writes(phone(), "afterwards", SLOWED))
    told = await stage.ear().of("template.changed", lambda d: d["number"] == SLOWED.e164)
    assert [(one["change"], one["previous"], one["current"]) for one in told] == [
        ("quality", "green", "yellow"),
        ("category", "utility", "marketing"),
    ]


async def test_quality_of_a_number_goes_down_and_up_and_old_news_count_for_nothing(stage: Stage) -> None:
    ear = stage.ear(stage.desk)
    await ear.pull()
    about = {"display_phone_number": JUDGED.e164[1:]}

    async def notice(event: str, at: float, limit: str = "TIER_1K") -> None:
        told = change("phone_number_quality_update", about | {"event": event, "current_limit": limit}, None)
        assert (await stage.wire.meta(body(told, number=JUDGED, time=int(now(at))))).status == 200

    def state(data: Json) -> bool:
        return bool(data["number"] == JUDGED.e164 and data["sender"]["medium"] == "whatsapp")

    await notice("FLAGGED", -50)
    (event,) = await ear.hears("sender.health_changed", state)
    assert (event["health"]["state"], event["previous"]["state"]) == ("degraded", "ok")
    assert [one["code"] for one in event["health"]["problems"]] == ["quality_red"]
    await notice("UNFLAGGED", -90)
    assert await stage.problems(JUDGED) == {"quality_red"}
    assert (await stage.health(MAIN))["state"] == "ok"
    await notice("UNFLAGGED", -20)
    events = await ear.hears("sender.health_changed", state, 2)
    assert (events[-1]["health"]["state"], events[-1]["previous"]["state"]) == ("ok", "degraded")
    assert await stage.problems(JUDGED) == set()


async def test_an_account_that_is_disabled_and_reinstated_and_one_that_nobody_knows(stage: Stage) -> None:
    ear = stage.ear(stage.desk)

    async def notice(account: str, state: str, at: float) -> Json:
        mark = unique("ban")
        told = {"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": state, "waba_ban_date": mark}}
        document = body(change("account_update", told, None), time=int(now(at)))
        document["entry"][0]["id"] = account
        mia = phone()
        neighbour = message(mia, text("next to it"))
        document["entry"].append({"id": "1", "changes": [change("messages", {"messages": [neighbour]})]})
        assert (await stage.wire.meta(document)).status == 200
        await stage.received(neighbour["id"])
        return {"mark": mark}

    def about(data: Json) -> bool:
        return bool(data["number"] == JUDGED.e164 and data["health"]["state"] == "down")

    await notice(JUDGED.waba_id, "DISABLE", -60)
    (event,) = await ear.hears("sender.health_changed", about)
    assert [one["code"] for one in event["health"]["problems"]] == ["account_restricted"]
    assert JUDGED.waba_id not in json.dumps(event)
    assert await stage.problems(MAIN) == set()
    assert await stage.problems(JUDGED, "sms") == set()
    await notice(JUDGED.waba_id, "REINSTATE", -30)
    await until(lambda: _no_problems(stage))

    mark = (await notice("299999999999999", "DISABLE", -10))["mark"]
    assert [one["reason"] for one in await stage.quarantined(mark)] == ["unknown_account"]
    assert await stage.problems(JUDGED) == set()


async def test_somebody_at_the_pin_and_a_declined_name_are_told_once_until_they_are_over(stage: Stage) -> None:
    ear = stage.ear(stage.desk)
    await ear.pull()
    begun = len(ear.heard)
    about = {"display_phone_number": JUDGED.e164[1:]}

    async def notice(name: str, at: float, **told: str) -> None:
        document = body(change(name, about | told, None), number=JUDGED, time=int(now(at)))
        assert (await stage.wire.meta(document)).status == 200

    name = {"requested_verified_name": "Shop", "rejection_reason": "NAME_NOT_ALLOWED"}
    for _ in range(2):
        await notice("security", -50, event="PIN_RESET_REQUEST", requester="4711")
        await notice("phone_number_name_update", -50, decision="REJECTED", **name)
    assert await stage.problems(JUDGED) == {"security_alert", "name_declined"}
    await notice("security", -40, event="PIN_CHANGED")
    await notice("phone_number_name_update", -40, decision="APPROVED", **name)
    assert await stage.problems(JUDGED) == set()
    await ear.pull()
    told = [one["data"] for one in ear.heard[begun:] if one["type"] == "sender.health_changed"]
    assert [sorted(p["code"] for p in one["health"]["problems"]) for one in told] == [
        ["security_alert"],
        ["name_declined", "security_alert"],
        ["name_declined"],
        [],
    ]


async def _no_problems(stage: Stage) -> bool:
    return await stage.problems(JUDGED) == set()


# Files ----------------------------------------------------------------------------------------------------------------


async def pictured(stage: Stage, content: bytes, **more: Any) -> Json:
    """A customer sends a picture; the event as the CRM hears it."""
    file = stage.simulator.add_inbound_media(content, "image/png")
    item = message(more.pop("who", phone()), image(file, "see", content))
    await stage.posts("messages", {"messages": [item]})
    return await stage.received(item["id"])


async def known(stage: Stage, file: str, *states: str) -> Json:
    """Wait until a file has one of these states."""

    async def is_so() -> Json | None:
        answer = await stage.crm.call("GET", f"/v1/media/{file}")
        assert answer.status == 200, answer
        return answer.json if answer.json["state"] in states else None

    return dict(await until(is_so))


async def test_a_file_is_fetched_at_once_and_its_address_is_one_services_own(stage: Stage) -> None:
    content = PNG + unique("file").encode()
    event = await pictured(stage, content)
    (mine,) = event["message"]["media"]
    (theirs,) = (await stage.received(event["message"]["provider_id"], stage.desk))["message"]["media"]
    assert mine["id"] == theirs["id"]
    assert mine["url"] != theirs["url"]
    assert mine["id"].startswith("med_")
    assert "simulated-access-token" not in json.dumps(event)
    got = await stage.fetch(mine["url"])
    assert (got.status, got.body) == (200, content)
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in got.headers["content-security-policy"]
    part = await stage.fetch(mine["url"], Range="bytes=0-7")
    assert (part.status, part.body) == (206, content[:8])
    head = await stage.fetch(mine["url"], "HEAD")
    assert (head.status, head.body) == (200, b"")
    for wrong in (
        mine["url"].replace(stage.crm.id, stage.desk.id),
        mine["url"][:-4] + "0000",
        mine["url"].replace("expires=", "expires=1"),
        mine["url"].partition("?")[0],
    ):
        assert (await stage.fetch(wrong)).status == 404
    kept = await known(stage, mine["id"], "kept")
    assert (kept["size"], kept["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


async def test_c1_a_masked_message_gives_no_file_and_a_service_that_left_gets_none(stage: Stage) -> None:
    event = await pictured(stage, PNG + unique("left").encode())
    conversation = event["conversation"]["id"]
    books = await registered(stage.world, "books")
    await books.connect(MAIN.e164, endpoint_url=None)
    entry = (await stage.timeline(conversation, service=books))[-1]
    address = entry["media"][0]["url"]
    assert (await stage.fetch(address)).status == 200

    form = aiohttp.FormData()
    form.add_field("file", b"%PDF-1.7 secret", filename="secret.pdf", content_type="application/pdf")
    headers = {"Authorization": f"Bearer {stage.desk.key}"}
    async with stage.world.session.post(f"{stage.world.hub.url}/v1/media", data=form, headers=headers) as answer:
        assert answer.status == 201
        upload = (await answer.json())["id"]
    wanted = {"origin": "agent", "agent": {"id": "a", "name": "Ana"}, "type": "document"}
    sent = await stage.desk.call(
        "POST", f"/v1/conversations/{conversation}/messages", wanted | {"media": {"id": upload}, "text": "for you"}
    )
    await stage.went(sent)
    hidden = await stage.view(sent.json["message"]["id"], books)
    assert hidden["masked"] is True
    assert not {"media", "text", "filename"} & set(hidden)
    assert "secret" not in json.dumps(hidden)
    assert (await books.call("GET", f"/v1/media/{upload}")).status == 404
    own = (await stage.view(sent.json["message"]["id"], stage.desk))["media"][0]
    if "url" in own:
        assert (await stage.fetch(own["url"].replace(stage.desk.id, books.id))).status == 404

    assert (await books.call("DELETE", f"/v1/numbers/{quote(MAIN.e164)}/connection")).status == 204
    assert (await stage.fetch(address)).status == 404
    assert (await stage.fetch(event["message"]["media"][0]["url"])).status == 200


async def test_a4_a_service_of_another_number_knows_nothing_of_a_file(stage: Stage) -> None:
    event = await pictured(stage, PNG + unique("other").encode())
    (kept,) = event["message"]["media"]
    await known(stage, kept["id"], "kept")
    other = await registered(stage.world, "other")
    await other.connect(JUDGED.e164, endpoint_url=None)
    for method, path in (("GET", ""), ("POST", "/refetch")):
        answer = await other.call(method, f"/v1/media/{kept['id']}{path}")
        assert (answer.status, answer.json["code"]) == (404, "not_found")
    assert (await stage.fetch(kept["url"].replace(stage.crm.id, other.id))).status == 404


async def test_a_file_that_expired_is_told_and_can_be_fetched_again(stage: Stage) -> None:
    content = PNG + unique("expired").encode()
    file = stage.simulator.add_inbound_media(content, "image/png")
    stage.simulator.media[file].is_expired = True
    item = message(phone(), image(file, content=content))
    await stage.posts("messages", {"messages": [item]})
    (kept,) = (await stage.received(item["id"]))["message"]["media"]
    assert (await known(stage, kept["id"], "unavailable"))["error"] == "media_unavailable"
    gone = await stage.fetch(kept["url"])
    told = json.loads(gone.body)
    assert (gone.status, told["code"], told["state"]) == (410, "media_unavailable", "unavailable")
    stage.simulator.media[file].is_expired = False
    assert (await stage.desk.call("POST", f"/v1/media/{kept['id']}/refetch")).status in {200, 202}
    await known(stage, kept["id"], "kept")
    assert (await stage.fetch(kept["url"])).body == content


async def test_a_file_on_a_foreign_host_is_not_asked_for(stage: Stage) -> None:
    stage.simulator.fail_next_media(MediaFault.address("http://169.254.169.254/latest/meta-data"))
    event = await pictured(stage, PNG + unique("foreign").encode())
    (kept,) = event["message"]["media"]
    assert (await known(stage, kept["id"], "unavailable"))["error"] == "media_host_refused"
    assert "169.254" not in json.dumps((await stage.crm.call("GET", f"/v1/media/{kept['id']}")).json)
    assert (await stage.desk.call("POST", f"/v1/media/{kept['id']}/refetch")).status in {200, 202}
    await known(stage, kept["id"], "kept")


async def test_a_page_is_no_file_to_keep(stage: Stage) -> None:
    file = stage.simulator.add_inbound_media(b"<script>alert(1)</script>", "text/html", "a.html")
    item = message(phone(), {"type": "document", "document": {"id": file, "mime_type": "text/html", "filename": "a"}})
    await stage.posts("messages", {"messages": [item]})
    (kept,) = (await stage.received(item["id"]))["message"]["media"]
    assert (await known(stage, kept["id"], "unavailable"))["error"] == "media_type_refused"


async def test_a_download_that_fails_is_tried_again_by_itself(stage: Stage) -> None:
    content = PNG + unique("again").encode()
    stage.simulator.fail_next_media(MediaFault.failing(503))
    event = await pictured(stage, content)
    (kept,) = event["message"]["media"]
    early = await stage.fetch(kept["url"])
    assert (early.status, json.loads(early.body)["code"]) == (503, "media_pending")
    assert int(early.headers["retry-after"]) >= 1
    await known(stage, kept["id"], "kept")
    assert (await stage.fetch(kept["url"])).body == content


# Health of the sender, and throttling ---------------------------------------------------------------------------------


async def test_a_revoked_token_is_told_and_over_with_the_next_message_that_goes(stage: Stage) -> None:
    conversation = await stage.talk(phone())
    stage.simulator.meta_api.is_revoked = True
    try:
        lost = await stage.crm.reply(conversation, "Can you hear me?")
        view = await stage.ends(lost.json["message"]["id"], "failed")
        assert view["error"]["code"] == "token_revoked"
        (event,) = await stage.ear(stage.desk).hears("sender.health_changed", _down(MAIN))
        assert [one["code"] for one in event["health"]["problems"]] == ["token_revoked"]
        assert await stage.problems(MAIN) == {"token_revoked"}
        admin = await stage.world.call("GET", f"/v1/admin/numbers/{quote(MAIN.e164)}")
        shown = json.dumps([event, view, await stage.health(MAIN), admin.json])
        assert "simulated-access-token" not in shown
        assert MAIN.phone_number_id not in json.dumps([event, await stage.health(MAIN)])
    finally:
        stage.simulator.meta_api.is_revoked = False
    await stage.received(await stage.writes(phone(), "customers are heard all the while"))
    await stage.went(await stage.crm.reply(conversation, "And now?"))
    back = await stage.ear(stage.desk).hears("sender.health_changed", _back(MAIN))
    assert back[-1]["health"]["problems"] == []
    assert (await stage.health(MAIN))["state"] == "ok"


def _down(number: Number) -> Judge:
    return lambda data: data["number"] == number.e164 and data["health"]["state"] == "down"


def _back(number: Number) -> Judge:
    return lambda data: data["number"] == number.e164 and data["previous"]["state"] == "down"


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (131042, "payment_required"),
        (133010, "sender_not_registered"),
        (131031, "account_restricted"),
        (10, "permission_missing"),
    ],
)
async def test_what_keeps_a_number_from_sending_is_told_and_over_with_the_next_message(
    stage: Stage, code: int, problem: str
) -> None:
    conversation = await stage.talk(phone(), number=JUDGED)
    stage.simulator.fail_next(Fault.refused(code))
    lost = await stage.crm.reply(conversation, "Hello")
    assert (await stage.ends(lost.json["message"]["id"], "failed"))["error"]["provider_code"] == str(code)

    async def are(*codes: str) -> bool:
        return await stage.problems(JUDGED) == set(codes)

    await until(lambda: are(problem))
    assert await stage.problems(MAIN) == set()
    await stage.went(await stage.crm.reply(conversation, "Hello again"))
    await until(are)


async def test_e9_in_a_storm_of_429_the_agent_is_next_and_nothing_is_lost(stage: Stage) -> None:
    crowd = [await stage.talk(phone(), number=SLOWED) for _ in range(8)]
    mia = phone()
    conversation = await stage.talk(mia, number=SLOWED)
    elsewhere = await stage.talk(phone())
    stage.simulator.hold()
    stage.simulator.fail_next(Fault.throttled(retry_after=1), 8)
    before, first = len(stage.simulator.sent), len(stage.simulator.attempts)
    bots = [await automates(stage.crm, one, "Your order", "notification") for one in crowd]
    await stage.simulator.wait_for(lambda: len(stage.simulator.attempts) >= first + 8)
    stage.simulator.release()
    await until(lambda: not stage.simulator.in_flight and not stage.simulator.ledger.faults)
    reply = await stage.crm.reply(conversation, "I am a person")
    free = await stage.went(await stage.crm.reply(elsewhere, "Not throttled here"))
    assert free.sender == MAIN.phone_number_id
    assert [one.sender for one in stage.simulator.sent[before:]] == [MAIN.phone_number_id]
    await stage.went(reply)
    for one in bots:
        await stage.went(one)
    slowed = [one for one in stage.simulator.sent[before:] if one.sender == SLOWED.phone_number_id]
    assert slowed[0].to == "+" + mia
    assert len(slowed) == 9
    assert "throttled" in await stage.problems(SLOWED)


async def test_e9_after_a_pause_agents_go_before_automation_and_campaigns_last(stage: Stage) -> None:
    people = [phone() for _ in range(4)]
    talks = [await stage.talk(one, number=SLOWED) for one in people]
    path = f"/v1/consents/whatsapp/{quote('+' + people[1])}?number={quote(SLOWED.e164)}"
    assert (await stage.crm.call("PUT", path, {"status": "granted"})).status == 200
    slow = f"/v1/admin/numbers/{quote(SLOWED.e164)}/senders/whatsapp"
    assert (await stage.world.call("PATCH", slow, {"rate": 10})).status == 200  # one after the other
    before, tried = len(stage.simulator.sent), len(stage.simulator.attempts)
    stage.simulator.fail_next(Fault.throttled(retry_after=1))
    first = await automates(stage.crm, talks[0], "first", "notification")
    await stage.simulator.wait_for(lambda: len(stage.simulator.attempts) > tried)
    await until(lambda: not stage.simulator.in_flight)
    answers = [
        await automates(stage.crm, talks[1], "campaign", "campaign", campaign="spring"),
        await automates(stage.crm, talks[2], "bot"),
        await stage.desk.reply(talks[3], "person"),
    ]
    for one in (first, *answers):
        await stage.went(one)
    assert (await stage.world.call("PATCH", slow, {"rate": 500})).status == 200
    sent = [one.text for one in stage.simulator.sent[before:] if one.sender == SLOWED.phone_number_id]
    assert (sent[0], sent[-1]) == ("person", "campaign")
    assert sorted(sent[1:3]) == ["bot", "first"]


async def test_e9_the_limit_of_one_pair_holds_nobody_else(stage: Stage) -> None:
    mia, bo = phone(), phone()
    mias, bos = await stage.talk(mia), await stage.talk(bo)
    stage.simulator.fail_next(Fault.throttled(code=131056, status=400, retry_after=1))
    before = len(stage.simulator.attempts)
    waits = await stage.crm.reply(mias, "to Mia")
    await stage.simulator.wait_for(lambda: len(stage.simulator.attempts) > before)
    assert (await stage.went(await stage.crm.reply(bos, "to Bo"))).to == "+" + bo
    assert (await stage.went(waits)).to == "+" + mia
    heard = [one.text for one in stage.simulator.sent if one.to in {"+" + mia, "+" + bo}]
    assert heard == ["to Bo", "to Mia"]
    assert "throttled" not in await stage.problems(MAIN)


async def test_b1_a_shared_key_of_twilios_counts_only_where_it_is_configured(stage: Stage) -> None:
    form = sms("hello", "+" + phone())
    said = {"X-Twilio-Webhooks-Signature-Settings": "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256"}
    said["Content-Type"] = FORM
    for key in ("a-shared-key", stage.simulator.twilio_auth_token, ""):
        signature = sign_twilio(PUBLIC_URL + TWILIO, form, key, with_sha256=True)
        answer = await stage.wire.post(TWILIO, urlencode(form).encode(), said | {"X-Twilio-Signature": signature})
        assert (answer.status, answer.body) == (403, b""), key
    assert (await stage.wire.twilio(form)).status == 200

"""Who may see what of whom, by every way out, whatever both sides wanted and when (rules C1, C2, C4)."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import aiohttp

from providers.simulator import Fault
from tests.support.clicks import Clicks
from tests.support.subscriber import Subscriber
from tests.support.talk import MIA, audit, ends, operator_events, revealed_events, writes
from tests.support.talk import leaves as leaves_number
from tests.support.wire import connected
from tests.support.world import ADMIN, Service, World

SHOWN = {
    "id", "direction", "medium", "type", "author", "origin", "sequence", "status", "status_times", "created_at",
    "send_at", "conflict",
}  # fmt: skip
"""What anybody may see; of the agent the name."""

KINDS: tuple[dict[str, Any], ...] = (
    {"type": "text", "text": "§ a text", "reply_to": "§wamid.quoted"},
    {
        "type": "interactive",
        "interactive": {"type": "buttons", "text": "§ which?", "buttons": [{"id": "§yes-1", "title": "§Yes"}]},
    },
    {"type": "document", "media": [{"url": "https://files.example.com/hidden/bill.pdf", "filename": "§bill.pdf"}]},
    {"type": "location", "location": {"latitude": 52.516275, "longitude": 13.377704, "name": "§ here"}},
    {"type": "template", "template": {"name": "§offer", "language": "de_AT", "components": []}},
)

STORIES: tuple[tuple[str, ...], ...] = (
    # What each side asks for, in order, around the moment a message is written.
    ("write",),
    ("crm full", "write"),
    ("share all", "write"),
    ("crm full", "share all", "write"),
    ("crm full", "share crm", "write"),
    ("crm full", "share marketing", "write", "share all"),
    ("crm full", "write", "share all"),
    ("share all", "write", "crm full"),
    ("crm full", "share all", "write", "share none"),
    ("crm full", "share all", "write", "crm masked"),
    ("crm full", "share all", "write", "share none", "crm masked", "crm full", "share crm"),
    ("crm full", "share all", "share none", "write", "share all"),
)


def leaves(value: Any) -> Iterator[str]:
    """Every text that is long enough to be told from others, and every fraction in a JSON value, as it is written."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    elif isinstance(value, float) or (isinstance(value, str) and len(value) > 4):
        yield json.dumps(value, ensure_ascii=False).strip('"')


@dataclass
class Told:
    """Both sides' wishes as they followed one another."""

    displays: dict[str, str] = field(default_factory=dict)
    share: str = "none"

    def note(self, step: str) -> None:
        """One of them wants something else from now on."""
        who, _, what = step.partition(" ")
        if who == "share":
            self.share = what
        else:
            self.displays[who] = what

    def full(self) -> set[str]:
        """Who may see the content, if this held all the time."""
        return {name for name, display in self.displays.items() if display == "full" and self.share in {"all", name}}


@dataclass
class Stage:
    """helpdesk writes; CRM and marketing look on."""

    world: World
    helpdesk: Service
    others: dict[str, Service]
    conversation: str
    contact: str
    told: Told = field(default_factory=Told)

    async def does(self, step: str) -> None:
        """One side changes what it wants."""
        who, _, what = step.partition(" ")
        if who != "share":
            await self.others[who].connect(display=what)
        else:
            await self.helpdesk.connect(share=[self.others[what].id] if what in self.others else what)
        self.told.note(step)

    async def writes(self, content: dict[str, Any], *, fails: bool) -> str:
        """helpdesk's agent writes, all hear how it ended."""
        body = {"origin": "agent", "agent": {"id": "§agent-7", "name": "Ana"}, **content}
        if fails:
            self.world.simulator.fail_next(Fault.refused(131026))
        sent = await self.helpdesk.call("POST", f"/v1/conversations/{self.conversation}/messages", body)
        assert sent.status == 202, sent
        message = str(sent.json["message"]["id"])
        for service in (self.helpdesk, *self.others.values()):
            ended = await ends(service, message, "failed", "read")
            assert ended["status"] == ("failed" if fails else "read"), ended
        return message

    def posted(self, service: Service, message: str, *, is_replay: bool) -> list[dict[str, Any]]:
        """The webhooks about a message, live or replayed."""
        return [
            delivery.data
            for delivery in service.endpoint.deliveries
            if delivery.data.get("message", {}).get("id") == message
            and ("webhook-replay" in delivery.headers) is is_replay
        ]

    async def replayed(self, service: Service, message: str) -> list[dict[str, Any]]:
        """The same webhooks once more, as they are judged now."""
        live = self.posted(service, message, is_replay=False)
        wanted = {"event_ids": [data["event_id"] for data in live]}
        assert (await service.call("POST", "/v1/replays", wanted)).status == 202
        await service.endpoint.wait(lambda _: len(self.posted(service, message, is_replay=True)) == len(live))
        return self.posted(service, message, is_replay=True)

    async def raw(self, service: Service, path: str) -> bytes:
        """The bytes of an answer."""
        url, headers = self.world.hub.url + path, {"Authorization": f"Bearer {service.key}"}
        async with self.world.session.get(url, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.read()

    async def streamed(self, service: Service, since: str, last: str) -> bytes:
        """What a live stream says since a time, up to an event."""
        url = f"{self.world.hub.url}/v1/events/stream?since={quote(since)}"
        headers, found = {"Authorization": f"Bearer {service.key}"}, b""
        async with (
            asyncio.timeout(10),
            self.world.session.get(url, headers=headers, timeout=aiohttp.ClientTimeout()) as answer,
        ):
            assert answer.status == 200
            while last.encode() not in found or not found.endswith(b"\n\n"):
                found += await answer.content.readany()
        return found

    async def views(self, service: Service, message: dict[str, Any], last: str) -> dict[str, bytes]:
        """Every way a service can read about a message, as bytes; nothing else of content is in them."""
        name, since = message["id"], message["created_at"]
        page = f"after={message['sequence'] - 1}"
        timeline = f"/v1/conversations/{self.conversation}/messages?{page}"
        return {
            "webhook": json.dumps(await self.replayed(service, name), ensure_ascii=False).encode(),
            "feed": await self.raw(service, f"/v1/events?limit=200&since={quote(since)}"),
            "stream": await self.streamed(service, since, last),
            "timeline": await self.raw(service, timeline),
            "newest first": await self.raw(service, f"/v1/conversations/{self.conversation}/messages?limit=1"),
            "contact": await self.raw(service, f"/v1/contacts/{self.contact}/timeline?limit=1"),
            "message": await self.raw(service, f"/v1/messages/{name}"),
        }


def check(found: bytes, hidden: set[str], *, is_full: bool, where: object, is_own: bool = False) -> None:
    """All of the content is there, or none of it; the agent's id for its own service only."""
    text = found.decode()
    present = {word for word in hidden if word in text}
    told = hidden if is_own else hidden - {"§agent-7"}
    assert present == (told if is_full else set()), where
    assert ('"masked":true' in text.replace(" ", "")) is not is_full, where
    assert is_full or "§" not in text, where


async def test_c2_every_way_out_follows_what_both_sides_wanted_then_and_want_now(hub_world: World) -> None:
    helpdesk, crm, marketing = services = await hub_world.connected("helpdesk", "crm", "marketing")
    conversation = await writes(hub_world.customer(MIA), *services)
    contact = crm.endpoint.of("message.received")[0].data["contact"]["id"]
    stage = Stage(hub_world, helpdesk, {"crm": crm, "marketing": marketing}, conversation, contact)
    for number, story in enumerate(STORIES):
        for step in ("share none", "crm masked", "marketing full"):
            await stage.does(step)
        content = KINDS[number % len(KINDS)]
        fails = content["type"] == "template" or number % 4 == 3
        for step in story:
            if step != "write":
                await stage.does(step)
                continue
            then = stage.told.full()
            name = await stage.writes(content, fails=fails)
            message = (await helpdesk.call("GET", f"/v1/messages/{name}")).json
            shown = {name: message.get(name) for name in SHOWN} | {"agent": message["agent"]["name"]}
            hidden = set(leaves(message)) - set(leaves(shown)) - {conversation}
            assert {word for word in leaves(content) if "§" in word} | {"§agent-7"} <= hidden
            assert len(hidden) > (4 if fails else 2)
            for viewer in stage.others.values():  # as it was delivered just then
                live = json.dumps(stage.posted(viewer, name, is_replay=False), ensure_ascii=False).encode()
                check(live, hidden, is_full=viewer.name in then, where=(story, viewer.name, "live"))
        now = then & stage.told.full()
        for viewer in stage.others.values():
            last = stage.posted(viewer, name, is_replay=False)[-1]["event_id"]
            for path, found in (await stage.views(viewer, message, last)).items():
                check(found, hidden, is_full=viewer.name in now, where=(story, viewer.name, path))
            assert "§" not in (await stage.raw(viewer, f"/v1/conversations/{conversation}")).decode()
            assert "§" not in (await stage.raw(viewer, "/v1/conversations")).decode()
            seen = (await viewer.call("GET", f"/v1/messages/{name}")).json
            for what in ("status", "status_times", "author", "created_at"):  # C4
                assert seen[what] == message[what]
            assert seen["agent"]["name"] == "Ana"
        for path, found in (await stage.views(helpdesk, message, last)).items():
            check(found, hidden, is_full=True, is_own=True, where=(story, "helpdesk", path))


async def test_c2_the_operator_sees_content_for_a_reason_only_and_leaves_a_trace(hub_world: World) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    await helpdesk.connect(share="all")
    conversation = await writes(hub_world.customer(MIA), helpdesk, crm, text="from the customer")
    hub_world.simulator.fail_next(Fault.refused(131026))
    sent = await helpdesk.reply(conversation, "§ from helpdesk", agent="Ana", reply_to="§wamid")
    message = sent.json["message"]["id"]
    failed = await ends(helpdesk, message, "failed")
    secrets = {"§", "agent-Ana", *leaves(failed["error"])}
    assert len(secrets) > 3
    places = {"conversation_id": conversation, "channel_id": helpdesk.connection["channel_id"]}

    # Masked, wherever the operator looks.
    masked = {}
    for path in (
        f"messages/{message}", "events?limit=200", "conversations", f"conversations/{conversation}",
        f"conversations/{conversation}/messages", f"conversations/{conversation}/messages?after=0",
    ):  # fmt: skip
        answer = await hub_world.call("GET", f"/v1/admin/{path}")
        assert answer.status == 200, answer
        text = json.dumps(answer.json, ensure_ascii=False)
        assert not {word for word in secrets if word in text}
        masked[path] = answer.json
    shown = masked[f"messages/{message}"]
    assert (shown["masked"], shown["status"], shown["agent"]) == (True, "failed", {"name": "Ana"})
    assert shown["status_times"] == failed["status_times"]
    assert {name: shown[name] for name in places} == places
    newest, oldest = masked[f"conversations/{conversation}/messages"]["items"]
    assert newest == {name: value for name, value in shown.items() if name not in places}
    assert oldest["text"] == "from the customer"
    assert masked[f"conversations/{conversation}/messages?after=0"]["items"] == [oldest, newest]
    own = (await helpdesk.call("GET", f"/v1/conversations/{conversation}")).json
    assert masked[f"conversations/{conversation}"] == own == masked["conversations"]["items"][0]
    assert not [row for row in await audit(hub_world) if row["action"].endswith(".revealed")]

    # In full, for a reason.
    path = f"/v1/admin/messages/{message}/reveal"
    for body in ({}, {"reason": "   "}, {"reason": " x "}, {"reason": "x" * 501}, {"reason": None}):
        refused = await hub_world.call("POST", path, body)
        assert (refused.status, refused.json["code"]) == (422, "invalid_request")
    whole = (await helpdesk.call("GET", f"/v1/messages/{message}")).json
    revealed = await hub_world.call("POST", path, {"reason": "complaint 4711"})
    assert revealed.json == whole | places
    assert "§ from helpdesk" in str(revealed.json)
    (row,) = [row for row in await audit(hub_world) if row["action"] == "message.revealed"]
    assert (row["actor"], row["subject"], row["channel_id"]) == ("operator", message, places["channel_id"])
    assert row["details"] == {"reason": "complaint 4711", "author": whole["author"]}

    # The log: an audit row names the events of which it showed more.
    events = await revealed_events(hub_world)
    texts = [event["data"]["message"].get("text") for event in events if "message" in event["data"]]
    assert texts[0] == "from the customer"
    assert set(texts[1:]) == {"§ from helpdesk"}
    assert [event["event_id"] for event in events] == [event["event_id"] for event in await operator_events(hub_world)]
    (row,) = [row for row in await audit(hub_world) if row["action"] == "events.revealed"]
    about = [event["event_id"] for event in events if event["type"] in {"message.queued", "message.status"}]
    assert row["details"] == {"reason": "the test wants to know", "events": about}
    quiet = {"reason": "nothing hidden here", "limit": 2}
    assert (await hub_world.call("POST", "/v1/admin/events/reveal", quiet)).status == 200
    assert not [row for row in await audit(hub_world) if row["details"].get("reason") == "nothing hidden here"]
    for body in ({"reason": "why", "after": "x"}, {"reason": "why", "limit": 0}, {"after": "evt_0"}):
        assert (await hub_world.call("POST", "/v1/admin/events/reveal", body)).status == 422

    # Nobody else.
    for method, where in (("GET", f"messages/{message}"), ("POST", f"messages/{message}/reveal"),
                          ("GET", "conversations"), ("POST", "events/reveal")):  # fmt: skip
        answer = await helpdesk.call(method, f"/v1/admin/{where}", {"reason": "why"} if method == "POST" else None)
        assert (answer.status, answer.json["code"]) == (403, "operator_only")
    for missing in (f"messages/{conversation}", "messages/msg_" + "0" * 32, "conversations/cnv_" + "0" * 32):
        assert (await hub_world.call("GET", f"/v1/admin/{missing}")).status == 404


async def test_c2_the_channels_default_holds_for_what_is_written_from_then_on(hub_world: World) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    await crm.connect(display="full")
    conversation = await writes(hub_world.customer(MIA), helpdesk, crm)

    async def seen() -> list[str | None]:
        items = (await crm.call("GET", f"/v1/conversations/{conversation}/messages?after=1")).json["items"]
        return [item.get("text") for item in items]

    number = "/v1/admin/numbers/%2B15550001111"
    for text, share in (("first", "all"), ("second", "none"), ("third", "all")):
        sent = await helpdesk.reply(conversation, text)
        await ends(crm, sent.json["message"]["id"], "read")
        assert (await hub_world.call("PATCH", number, {"default_share": share}, key=ADMIN)).status == 200
    assert await seen() == [None, "second", None]

    # Who has left: what it shared by default is closed with the default, and what it missed is not opened to it.
    await leaves_number(helpdesk)
    assert await seen() == [None, "second", None]
    assert (await hub_world.call("PATCH", number, {"default_share": "none"})).status == 200
    assert await seen() == [None, None, None]
    await helpdesk.connect(share="all")
    await leaves_number(crm)
    await helpdesk.reply(conversation, "while crm was away")
    await crm.connect(display="full")
    await helpdesk.reply(conversation, "now it is back")
    assert await seen() == [None, "second", None, None, "now it is back"]


async def test_c1_where_a_link_leads_is_content_by_every_way_out(hub_world: World, database_url: str) -> None:
    """Events of clicks and reports, for those who may know of profiles at all."""
    services = [await hub_world.service(name, scopes=["read", "reply", "profiles"]) for name in ("helpdesk", "crm")]
    helpdesk, crm = services
    for service in services:
        await service.connect()
    conversation = await writes(hub_world.customer(MIA), *services)
    stage = Stage(hub_world, helpdesk, {"crm": crm}, conversation, "")
    hidden = {"§target", "§body", "§spring"}
    async with connected(database_url) as conn:
        clicks = Clicks(conn)
        for story in (("write",), ("crm full", "share all", "write"), ("write", "share none")):
            for step in story:
                if step != "write":
                    await stage.does(step)
                    continue
                message = (await helpdesk.reply(conversation, "Look")).json["message"]["id"]
                link = await clicks.link(helpdesk, message, target="https://shop.example/§target", campaign="§spring")
                since = (await helpdesk.call("GET", f"/v1/messages/{message}")).json["created_at"]
                await clicks.click(link)
                for service in services:
                    await service.endpoint.wait(lambda me, of=link: bool(_clicked(me, of)))
            last = _clicked(crm.endpoint, link)[0]["event_id"]
            assert (await crm.call("POST", "/v1/replays", {"event_ids": [last]})).status == 202
            await crm.endpoint.wait(lambda me, of=link: len(_clicked(me, of)) == 2)
            paths = {
                "webhook": json.dumps(_clicked(crm.endpoint, link)[1:], ensure_ascii=False).encode(),
                "feed": await stage.raw(crm, f"/v1/events?limit=200&since={quote(since)}"),
                "stream": await stage.streamed(crm, since, last),
                "link": await stage.raw(crm, f"/v1/links/{link}"),
                "message": await stage.raw(crm, f"/v1/messages/{message}/links"),
            }
            is_full = "crm" in stage.told.full()
            for path, found in paths.items():
                present = {word for word in hidden if word in found.decode()}
                assert present == (hidden if is_full else set()), (story, path)
            own = json.dumps(_clicked(helpdesk.endpoint, link), ensure_ascii=False)
            assert all(word in own for word in hidden)


def _clicked(endpoint: Subscriber, link: str) -> list[dict[str, Any]]:
    return [d.data for d in endpoint.of("link.clicked") if d.data["link"]["id"] == link]

"""The demo's story: what the hub promises, one step after the other, each of them checked."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

import aiohttp
from rich.markup import escape

from hub.demo_links import link_is_forwarded, link_is_tapped
from hub.demo_moves import ARROW, Lines, ana_answers, await_statuses, bot_says, chat_of, everyone, ms, replies, writes
from hub.demo_providers import agent_of_meta, photo_is_sent
from hub.demo_stage import MIA, NUMBER, Heard, Part, Stage, require
from providers.simulator import Person, meta_webhooks, people

_RETRIED: Final = 9.0
"""Seconds within which a failed delivery comes again the first time (5 s, give or take a fifth)."""


@dataclass(frozen=True, slots=True)
class Step:
    """A promise, and how it is put to the test. `play` raises where it does not hold."""

    title: str
    play: Callable[[Stage], Awaitable[Lines]]


async def register_number(stage: Stage) -> Lines:
    """One number, two senders."""
    senders = [
        {"medium": "whatsapp", "provider": "meta", "external_id": NUMBER.phone_number_id},
        {"medium": "sms", "provider": "twilio", "external_id": NUMBER.e164},
    ]
    status, _ = await stage.call("POST", "/v1/admin/numbers", {"e164": NUMBER.e164, "senders": senders})
    require(status == 201, f"the hub takes the number (it answered {status})")
    require(await stage.simulator.handshake(), "the hub answers Meta's handshake")
    return [f"{NUMBER.e164}: WhatsApp through Meta, SMS through Twilio; Meta's handshake was answered"]


async def connect_services(stage: Stage) -> Lines:
    """The first to connect is parent (A2)."""
    stage.parts["helpdesk"].backend.on_duty = False  # until the story wants Ana
    lines = []
    for part, role in zip(stage.parts.values(), ("parent", "subscriber", "subscriber"), strict=True):
        began = time.perf_counter()
        connection = await part.backend.connect(f"{part.url}/webhooks")
        require(connection["role"] == role, f"{part.name} is {role}, not {connection['role']}")
        lines.append(f"[cyan]{part.name}[/] {ARROW} hub {ms(time.perf_counter() - began)}: [b]{role}[/]")
    await stage.until("everyone hears of the last one", lambda: all(p.of("service.connected") for p in everyone(stage)))
    return lines


async def mia_writes(stage: Stage) -> Lines:
    """Every service hears a customer in full (B7); only the parent may automate (A9)."""
    lines = await writes(stage, stage.mia, "Where is my order?")
    allowed = [part.name for part in everyone(stage) if part.of("message.received")[-1].data["automation"]["allowed"]]
    require(allowed == ["helpdesk"], f"only helpdesk may automate, not {allowed}")
    return [*lines, "everyone reads the full text; may automate: helpdesk alone"]


async def ben_answers(stage: Stage) -> Lines:
    """An agent of any service may reply (E3); the others see that masked (C1), and how far it gets (C4)."""
    crm = stage.parts["CRM"]
    return await replies(stage, crm, "Ben", "It left our house this morning.", stage.mia)


async def sms(stage: Stage) -> Lines:
    """The same over SMS, answered by the example itself."""
    return await ana_answers(stage, stage.omar, "Are you open on Sunday?")


async def no_phone(stage: Stage) -> Lines:
    """Customers who hide their phone number are customers too (B8)."""
    lines = await ana_answers(stage, stage.noor, "Do you have these in blue?")
    addresses = stage.parts["CRM"].of("message.received")[-1].data["contact"]["addresses"]
    require(all(address["type"] != "phone" for address in addresses), "no phone number is made up")
    return [*lines, f"known by: {', '.join(address['type'] for address in addresses)}"]


async def repeats(stage: Stage) -> Lines:
    """Whatever a provider repeats, however it is packed, is one event (B4)."""
    first, second = _item(stage, MIA, "Thank you!"), _item(stage, MIA, "Bye!")
    for entries in ([first], [first], [first, second]):
        posted = await stage.simulator.post_meta(meta_webhooks.batch(entries))
        require(posted.status == 200, f"a repeated webhook is answered 200, not {posted.status}")
    await stage.all_hear("message.received", provider_id=second.item["id"])
    counts = {part.name: len(part.of("message.received", provider_id=first.item["id"])) for part in everyone(stage)}
    require(set(counts.values()) == {1}, f"each hears it once: {counts}")
    return ["Meta posted it three times, once packed with another message; each service heard it once"]


async def bots(stage: Stage) -> Lines:
    """One bot at a time: the parent's (E2)."""
    helpdesk, crm = stage.parts["helpdesk"], stage.parts["CRM"]
    status, problem = await bot_says(stage, crm, "CRM's bot here!")
    require((status, problem.get("code")) == (409, "not_parent"), f"CRM's bot is refused: {status} {problem}")
    require(problem["parent"]["name"] == "helpdesk", "the refusal names the parent")
    status, answer = await bot_says(stage, helpdesk, "You can follow your parcel in our app.")
    require(status == 202, f"the parent's bot is taken: {status} {answer}")
    send = await stage.mia.hears()
    require(send.text == "You can follow your parcel in our app.", f"Mia hears the parent's bot, not {send.text!r}")
    await await_statuses(stage, answer["message"]["id"], "whatsapp")
    return [
        f"[cyan]CRM[/] bot {ARROW} hub: [yellow]409 not_parent[/], “{escape(problem['detail'])}”",
        f"[cyan]helpdesk[/] bot {ARROW} hub: 202 {ARROW} Meta {ARROW} Mia",
    ]


async def two_agents(stage: Stage) -> Lines:
    """Two agents at one conversation are told of each other, and neither is stopped (D2)."""
    helpdesk, crm, marketing = everyone(stage)
    conversation = chat_of(helpdesk, stage.mia)
    answer = await helpdesk.backend.reply(conversation, "Let me look that up.", agent="Ana", once=str(uuid4()))
    send = await stage.mia.hears()
    require(send.text == "Let me look that up.", f"Ana's reply is sent all the same, not {send.text!r}")
    told = [(w["code"], w["agent"]["name"], w["service"]["name"]) for w in answer["warnings"]]
    require(told == [("replied_recently", "Ben", "CRM")], f"Ana is warned of Ben of CRM: {told}")
    both = [helpdesk, crm]
    await stage.until("both hear of it", lambda: all(part.of("conversation.collision") for part in both))
    require(not marketing.of("conversation.collision"), "marketing has no part in it")
    await await_statuses(stage, answer["message"]["id"], "whatsapp")
    return [
        f"[magenta]Ana[/] ([cyan]helpdesk[/]) {ARROW} hub: 202, [yellow]warning[/]: Ben of CRM has just replied",
        "[cyan]helpdesk[/] and [cyan]CRM[/] hear conversation.collision; the message is on its way",
    ]


async def stop_means_stop(stage: Stage) -> Lines:
    """STOP by SMS stops everybody, bots and people, until the customer says START (E5)."""
    helpdesk = stage.parts["helpdesk"]
    conversation = chat_of(helpdesk, stage.omar)
    lines = await writes(stage, stage.omar, "STOP")
    await stage.all_hear("consent.changed")
    refused = []
    for origin, agent in (("chatbot", None), ("agent", {"id": "ana", "name": "Ana"})):
        body = {"origin": origin, "agent": agent, "type": "text", "text": "Before you go..."}
        status, problem = await stage.call("POST", f"/v1/conversations/{conversation}/messages", body, key=helpdesk.key)
        require((status, problem.get("code")) == (409, "no_consent"), f"{origin} is refused: {status} {problem}")
        refused.append(f"{origin} {ARROW} [yellow]409 no_consent[/]")
    lines.append(f"[cyan]helpdesk[/]: {' · '.join(refused)}")
    await writes(stage, stage.omar, "START")
    return [*lines, "after START:", *await ana_answers(stage, stage.omar, "I am back")]


async def forgery(stage: Stage) -> Lines:
    """Nothing is read before its signature is right (B1)."""
    body = meta_webhooks.batch([_item(stage, MIA, "I am not Mia")])
    meta = await stage.simulator.post_meta(body, app_secret="guessed")  # noqa: S106
    form = [("From", "+15550100042"), ("To", NUMBER.e164), ("Body", "I am not Omar"), ("MessageSid", "SM" + "0" * 32)]
    twilio = await stage.simulator.post_twilio(form, auth_token="guessed")  # noqa: S106
    for posted in (meta, twilio):
        require((posted.status, posted.answer) == (403, ""), f"{posted.path}: 403 and no word, not {posted}")
    async with aiohttp.ClientSession() as session:
        forged = {"webhook-id": "evt_1", "webhook-timestamp": str(int(time.time())), "webhook-signature": "v1,AAAA"}
        url = f"{stage.parts['helpdesk'].url}/webhooks"
        async with session.post(url, json={"type": "message.received"}, headers=forged) as answer:
            require(answer.status == 401, f"helpdesk refuses what the hub did not sign, with 401, not {answer.status}")
    return ["as Meta: 403 · as Twilio: 403, both without a word · to helpdesk as the hub: 401"]


async def big_batch(stage: Stage) -> Lines:
    """Every item of a batch counts (B2), in order (B6)."""
    crowd = people(7, 5)
    entries = [_item(stage, crowd[index % 5], f"message {index}") for index in range(50)]
    began = time.perf_counter()
    posted = await stage.simulator.post_meta(meta_webhooks.batch(entries))
    taken = time.perf_counter() - began
    require(posted.status == 200, f"the batch is answered 200, not {posted.status}")
    wanted = {entry.item["id"]: index for index, entry in enumerate(entries)}
    ends = []
    for part in everyone(stage):
        await stage.until(f"{part.name} hears all 50", lambda part=part: len(_among(part, wanted)) == 50)  # type: ignore[misc]
        heard = _among(part, wanted)
        _require_order(part, heard, wanted)
        ends.append(f"[cyan]{part.name}[/] {ms(max(h.at for h in heard) - began)}")
    return [f"Meta {ARROW} hub {ms(taken)} {ARROW} {' · '.join(ends)}", "50 of 50 at each, in order in all 5 chats"]


async def outage(stage: Stage) -> Lines:
    """A dead service loses nothing, and delays nobody (G2, G3)."""
    helpdesk, crm, marketing = everyone(stage)
    crm.is_down = True
    try:
        line = (await writes(stage, stage.mia, "One more thing…", among=[helpdesk, marketing]))[0]
        missed = helpdesk.heard[-1]
        await stage.until("the hub tries CRM", lambda: crm.turned_away > 0)
    finally:
        crm.is_down = False
    await writes(stage, stage.omar, "Hello again", among=[crm])
    require(all(h.id != missed.id for h in crm.heard), "CRM still misses Mia's message while it hears Omar's")
    await stage.until("CRM gets what it missed", lambda: any(h.id == missed.id for h in crm.heard), _RETRIED)
    late = next(h for h in crm.heard if h.id == missed.id).at - missed.at
    return [line, f"CRM answered 503; it heard Omar's next SMS at once, and Mia's message [b]{late:.1f} s[/] later"]


async def parent_leaves(stage: Stage) -> Lines:
    """The longest-connected subscriber is parent at once, and the conversation goes on (A4, A5)."""
    helpdesk, crm, marketing = everyone(stage)
    known = len(helpdesk.of("message.received"))
    began = time.perf_counter()
    status, _ = await stage.call("DELETE", f"/v1/numbers/{NUMBER.e164}/connection", key=helpdesk.key)
    require(status == 204, f"helpdesk leaves: 204, not {status}")
    await stage.until("CRM hears that it is parent", lambda: _heir(marketing) == _heir(crm) == "CRM")
    changed = crm.of("channel.parent_changed")[-1]
    lines = await writes(stage, stage.mia, "Are you still there?", among=[crm, marketing])
    automation = crm.of("message.received")[-1].data["automation"]
    require(automation["allowed"] and automation["parent_epoch"] == 2, f"CRM may automate, at epoch 2: {automation}")
    status, answer = await bot_says(stage, crm, "We are, Mia.")
    require(status == 202, f"CRM's bot is taken now: {status} {answer}")
    send = await stage.mia.hears()
    require(send.text == "We are, Mia.", f"Mia hears CRM's bot, not {send.text!r}")
    await stage.all_hear("message.status", among=[crm, marketing], id=answer["message"]["id"], status="read")
    conversation = chat_of(crm, stage.mia)
    status, _ = await stage.call("GET", f"/v1/conversations/{conversation}", key=helpdesk.key)
    require(status == 404, f"helpdesk can read nothing more: 404, not {status}")
    require(len(helpdesk.of("message.received")) == known, "helpdesk hears nothing more")
    return [f"helpdesk left {ARROW} [cyan]CRM[/] knows it is parent {ms(changed.at - began)}, epoch 2", *lines]


async def parent_returns(stage: Stage) -> Lines:
    """Who comes back gets no old rank (A10); its people answer all the same."""
    helpdesk = stage.parts["helpdesk"]
    connection = await helpdesk.backend.connect(f"{helpdesk.url}/webhooks")
    require(connection["role"] == "subscriber", f"helpdesk is a subscriber, not {connection['role']}")
    require(connection["parent"]["name"] == "CRM", "CRM stays parent")
    lines = await ana_answers(stage, stage.mia, "Good!")
    return ["helpdesk is a subscriber now, CRM stays the parent", *lines]


def _item(stage: Stage, person: Person, text: str) -> meta_webhooks.Entry:
    ledger = stage.simulator.ledger
    item = meta_webhooks.message(person, meta_webhooks.text(text), message_id=ledger.wamid(), at=ledger.clock())
    return meta_webhooks.Entry(NUMBER, item, person)


def _among(part: Part, wanted: dict[str, int]) -> list[Heard]:
    return [h for h in part.of("message.received") if h.message["provider_id"] in wanted]


def _require_order(part: Part, heard: Sequence[Heard], wanted: dict[str, int]) -> None:
    chats: dict[str, list[Heard]] = {}
    for one in heard:
        chats.setdefault(one.conversation, []).append(one)
    require(len(chats) == 5, f"{part.name} hears 5 conversations, not {len(chats)}")
    for chat in chats.values():
        places = [wanted[h.message["provider_id"]] for h in chat]
        numbers = [h.data["conversation"]["sequence"] for h in chat]
        require(places == sorted(places), f"{part.name} hears a conversation in order: {places}")
        require(numbers == list(range(1, 11)), f"{part.name} sees no gap: {numbers}")


def _heir(part: Part) -> str | None:
    changes = part.of("channel.parent_changed")
    return changes[-1].data["parent"]["name"] if changes and changes[-1].data["parent"] else None


STORY: Final = (
    Step("The number is registered", register_number),
    Step("Three services connect; the first is the parent", connect_services),
    Step("Mia writes on WhatsApp; every service hears her", mia_writes),
    Step("Ben of CRM answers; the others see it masked", ben_answers),
    Step("Omar writes an SMS; Ana of helpdesk answers", sms),
    Step("Noor hides her phone number, and is answered all the same", no_phone),
    Step("A message posted three times is one event", repeats),
    Step("Only the parent's bot may speak", bots),
    Step("Two agents answer one customer; both are told, none is stopped", two_agents),
    Step("STOP by SMS stops bots and people; START lifts it", stop_means_stop),
    Step("Forged webhooks are refused", forgery),
    Step("50 messages in one POST arrive in order everywhere", big_batch),
    Step("CRM is down for a moment, and gets its event later", outage),
    Step("The parent leaves; CRM takes over, the chat goes on", parent_leaves),
    Step("Helpdesk comes back as a subscriber, and Ana answers", parent_returns),
    Step("Mia taps a tracked link; her visits of the shop are hers", link_is_tapped),
    Step("She forwards it; the friend who opens it stays a stranger", link_is_forwarded),
    Step("Mia sends a photo; every service can read it", photo_is_sent),
    Step("Meta's own agent takes over; bots wait until Ana answers", agent_of_meta),
)

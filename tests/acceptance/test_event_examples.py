"""The examples of docs/events.md show what is really posted: no field in them that the hub does not give to such an
event, none of another kind. One hub lives through all that is told of but what takes days.
"""

import json
from collections import defaultdict
from typing import Any

import pytest

from hub.domain.events import EVENT_TYPES
from providers.simulator import Fault, stories
from tests.support.scenes import SETTINGS, Shop, links_in, page
from tests.support.talk import MIA, leaves, revealed_events, writes
from tests.support.world import NUMBER, Open
from tests.unit.test_docs import FENCE, sections

SCOPES = ["read", "reply", "automate", "profiles"]
TAKES_DAYS = {"subscription.expired"}
"""Told of what retention dropped: `tests/integration/test_retention.py` has it."""
PLAYED = ("media", "kinds", "changes", "handover", "account", "opt-out", "identity")


@pytest.fixture
async def shop(open_world: Open, database_url: str) -> Shop:
    """A business with three services, its links and its site."""
    made = await open_world(**SETTINGS)
    services = [await made.service(name, scopes=SCOPES) for name in ("crm", "helpdesk", "books")]
    for service, how in zip(services, ({"share": "all"}, {"display": "full"}, {}), strict=True):
        await service.connect(**how)
    return Shop(made, database_url, *services)


def paths(value: Any, at: str = "") -> dict[str, set[str]]:
    """Every field by its place, with the kinds of what stands there."""
    found: dict[str, set[str]] = defaultdict(set)
    if isinstance(value, dict):
        for name, inner in value.items():
            for place, kinds in paths(inner, f"{at}.{name}").items():
                found[place] |= kinds
    elif isinstance(value, list):
        for inner in value:
            for place, kinds in paths(inner, f"{at}[]").items():
                found[place] |= kinds
    found[at].add({dict: "object", list: "list", str: "text", bool: "truth", int: "number", float: "number"}.get(
        type(value), "null"
    ))  # fmt: skip
    return found


async def test_every_example_is_what_is_posted(shop: Shop) -> None:
    """Fields by fields, for each type of event."""
    await _talk(shop)
    await _stitch(shop)
    await _play(shop)
    await _part(shop)
    emitted: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    heard = [(d.type, d.data) for s in (shop.crm, shop.helpdesk, shop.books) for d in s.endpoint.deliveries]
    for kind, data in [*heard, *((event["type"], event["data"]) for event in await revealed_events(shop.world))]:
        for place, kinds in paths(data).items():
            emitted[kind][place] |= kinds
    assert set(EVENT_TYPES) - set(emitted) == TAKES_DAYS
    wrong = {}
    for kind, text in sections("docs/events.md").items():
        if kind in TAKES_DAYS:
            continue
        for _, code in FENCE.findall(text):
            shown = paths(json.loads(code)["data"])
            given = emitted[kind]
            odd = {place for place, kinds in shown.items() if not _fits(kinds, given.get(place, set()))}
            if odd:
                wrong[kind] = sorted(odd)
    assert not wrong, json.dumps(wrong, indent=1)


def _fits(shown: set[str], given: set[str]) -> bool:
    """Whether a field is given, with such a value; or with none, here, which says nothing of its kind."""
    return bool(given) and (given == {"null"} or shown <= given | {"null"})


async def _talk(shop: Shop) -> None:
    """Agents at one conversation, a bot, a passing-on, a pause."""
    mia = shop.world.customer(MIA)
    conversation = await writes(mia, shop.crm, shop.helpdesk)
    for service, agent in ((shop.crm, "Ana"), (shop.helpdesk, "Ben")):
        body = {"agent": {"id": f"agent-{agent}", "name": agent}}
        answer = await service.call("POST", f"/v1/conversations/{conversation}/pickup", body)
        assert answer.status == 200, answer
    assert (await shop.helpdesk.reply(conversation, "Hello", "Ben", query="?wait=10")).status == 202
    shop.world.simulator.fail_next(Fault.refused(131026))
    refused = await shop.helpdesk.reply(conversation, "Hello again", "Ben", query="?wait=10")
    assert refused.json["message"]["status"] == "failed", refused
    passed = {"to": shop.books.id, "note": "An invoice", "agent": {"id": "agent-Ana", "name": "Ana"}}
    answer = await shop.crm.call("POST", f"/v1/conversations/{conversation}/pass", passed)
    assert answer.status == 200, answer
    answer = await shop.helpdesk.call("DELETE", f"/v1/conversations/{conversation}/pickup")
    assert answer.status in {200, 204}, answer
    for step, body in (("pause", None), ("resume", {"mode": "continue"})):
        answer = await shop.books.call("POST", f"/v1/numbers/{NUMBER}/connection/{step}", body)
        assert answer.status == 200, answer


async def _stitch(shop: Shop) -> None:
    """Clicks, visits, declarations; a candidate, merged, taken apart, erased."""
    await shop.agrees("+4915199900003", "granted", "sms")
    written = {"to": "+4915199900003", "medium": "sms", "from": NUMBER, "origin": "campaign", "campaign": "spring",
               "type": "text", "text": f"Look: {page('spring')}"}  # fmt: skip
    answer = await shop.crm.call("POST", "/v1/messages?wait=10", written)
    assert answer.status == 202, answer
    (sent,) = [send for send in shop.world.simulator.sent if send.to == "+4915199900003"]
    (link,) = links_in(sent.text or "")
    await shop.device().opens(link)
    device = await shop.knows("+4915199900001", "mia@example.com")
    await device.views(page("after"))
    await shop.hears(shop.customer("+4915199900002"))
    other = await shop.contact("+4915199900002", operator=True)
    await shop.declares(contact_id=other["id"], email="mia@example.com")
    first = await shop.contact("+4915199900001", operator=True)
    answer = await shop.world.call("POST", f"/v1/admin/contacts/{first['id']}/merge", {"contact_id": other["id"]})
    assert answer.status == 200, answer
    operation = (await shop.operations(first["id"]))[0]
    answer = await shop.undo(operation)
    assert answer.status == 200, answer
    answer = await shop.world.call("DELETE", f"/v1/admin/contacts/{other['id']}")
    assert answer.status in {200, 204}, answer
    await shop.crm.endpoint.hears("link.clicked", 1)


async def _play(shop: Shop) -> None:
    """What providers tell: edits, deletions, hand-overs, templates, accounts, STOP."""
    number = next(n for n in shop.world.simulator.numbers if n.e164 == NUMBER)
    stage = stories.Stage(shop.world.simulator, meta=number, sms=number, has_api=True)
    customer = stage.customer()
    conversation = await shop.hears(customer, "I am talking to an agent of Meta's")
    await stage.business().hands_over(customer.person, "agent")
    assert (await shop.crm.reply(conversation, "We take over", query="?wait=10")).status == 202
    for name in PLAYED:
        await stories.STORIES[name](stage)
    await shop.world.simulator.settle()


async def _part(shop: Shop) -> None:
    """Parenthood is handed over, the parent leaves, then all; a customer writes to nobody."""
    handed = {"service_id": shop.helpdesk.id, "note": "The helpdesk's bot takes over"}
    answer = await shop.world.call("PUT", f"/v1/admin/numbers/{NUMBER}/parent", handed)
    assert answer.status == 200, answer
    for service in (shop.crm, shop.helpdesk):
        await leaves(service)
    await shop.books.endpoint.hears("channel.parent_changed", 2)
    await leaves(shop.books)
    await shop.world.customer(MIA).says("Is anybody there?")

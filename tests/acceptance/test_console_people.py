"""People in the console, over HTTP as a browser without scripts does it: every form has its effect, a service reaches
what the API lets it reach and is shown masked what is another's, and whoever may not is refused (rules C1, E5, H5, I).
"""

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest

from hub.store import traffic_rollup
from providers.simulator import Person
from tests.support.console_forms import Page, Visitor, log_in
from tests.support.scenes import PROFILES, SETTINGS, Device, Shop, page, phone
from tests.support.talk import audit, ends
from tests.support.wire import connected
from tests.support.world import NUMBER, Open, Service, World

CONTACTS, CANDIDATES = "/console/contacts", "/console/merge-candidates"
EVIDENCE = "She said so on the phone, 3 March"
HOSTILE = "<img src=x onerror=window.hacked=1>"


@dataclass
class Town:
    """A shop, and Nadia: on WhatsApp, in one browser, known by her email; and somebody who may be her."""

    world: World
    url: str
    shop: Shop
    operator: Visitor
    crm: Visitor
    alone: Service
    phone: str
    nadia: str
    device: Device
    link_message: str

    def path(self, tail: str = "") -> str:
        """A page of Nadia's."""
        return f"{CONTACTS}/{self.nadia}{tail}"

    async def rows(self, sql: str, *args: Any) -> list[Any]:
        """Look into the hub's database."""
        async with connected(self.url) as conn:
            return list(await conn.fetch(sql, *args))

    async def stands(self, medium: str, status: str) -> None:
        """What holds for Nadia's phone."""
        assert await self.shop.consent(medium, self.phone) == status


@pytest.fixture
async def town(open_world: Open, database_url: str) -> Town:
    world = await open_world(**SETTINGS)
    crm, helpdesk, books = [
        await world.service(name, scopes=scopes)
        for name, scopes in (("CRM", PROFILES), ("Helpdesk", PROFILES), ("Books", ["read", "reply"]))
    ]
    alone = await world.service("Alone", scopes=PROFILES, plan="standalone")
    for service in (crm, helpdesk, books):
        await service.connect()
    shop = Shop(world, database_url, crm, helpdesk, books)
    mine, device = phone(), shop.device()
    await device.views(page("before"))
    sent = await shop.whatsapp(Person(mine, name=f"Nadia {HOSTILE}"), f"Secret words {page('secret-order')}")
    await device.opens(sent.link)
    nadia = await shop.declares(
        email="nadia@example.com", handle=await device.handle(), external_id="kd-1", traits={"note": HOSTILE, "n": [1]}
    )
    operator, people = await log_in(world), await log_in(world, crm.key)
    return Town(world, database_url, shop, operator, people, alone, mine, str(nadia["id"]), device, sent.id)


def is_calm(shown: Page) -> bool:
    """Nothing that a customer or a service wrote became markup."""
    return shown.status == 200 and "<img src=x" not in shown.html and "window.hacked" in shown.text


async def test_a_contact_is_shown_with_why_and_to_whom_it_may_be(town: Town) -> None:
    for visitor in (town.operator, town.crm):
        listed = await visitor.get(CONTACTS)
        assert town.path() in listed.links
        for asked in (town.phone, "nadia@example.com", town.nadia, "Nadia"):
            found = await visitor.get(f"{CONTACTS}?q={quote(asked)}")
            assert town.path() in found.links, asked
        shown = await visitor.get(town.path())
        assert is_calm(shown)
        for words in ("proved: they wrote from it", "declared by a service", "a link sent to them", "kd-1", "[1]"):
            assert words in shown.text, words
        visitors = [link for link in shown.links if link.startswith("/console/visitors/")]
        browser = await visitor.get(visitors[0])
        assert "Looked at" in browser.text or "looked at" in browser.text
        assert f"{CONTACTS}/{town.nadia}" in browser.links
        timeline = await visitor.get(town.path("/timeline"))
        assert is_calm(timeline)
        assert "Opened a link" in timeline.text
        assert "/before/" in timeline.text
    # What the CRM wrote is masked for the operator, where its link leads too; the CRM sees its own.
    whole, own = [await visitor.get(town.path("/timeline")) for visitor in (town.operator, town.crm)]
    assert "Secret words" in own.text
    assert "Secret words" not in whole.html
    assert whole.text.count("/secret-order/") < own.text.count("/secret-order/")

    # Another service, without the scope, on a channel of its own, or nobody: as with the API.
    helpdesk = await log_in(town.world, town.shop.helpdesk.key)
    seen = await helpdesk.get(town.path())
    assert seen.status == 200
    assert "kd-1" not in seen.html  # what the CRM calls her, and says of her
    assert "[1]" not in seen.text
    books = await log_in(town.world, town.shop.books.key)
    alone = await log_in(town.world, town.alone.key)
    tails = ("", "/timeline", "/operations", "/consent")
    for path in (*map(town.path, tails), visitors[0], CONTACTS, CANDIDATES, "/console/campaigns"):
        assert (await books.get(path)).status == 403, path
    for path in (*map(town.path, tails), visitors[0]):
        assert (await alone.get(path)).status == 404, path
    assert "Nobody yet" in (await alone.get(CONTACTS)).text
    assert (await alone.get(f"{CONTACTS}?q={quote(town.phone)}")).text.count("Nobody is known") == 1
    for path in (town.path(), CANDIDATES, "/console/traffic"):
        assert "Log in" in (await Visitor(town.world).get(path)).text


async def test_e5_consent_is_noted_and_lifted_as_the_api_allows(town: Town) -> None:
    form = town.path("/consent")
    said = {"medium": "sms", "address": town.phone, "status": "revoked", "number": "", "evidence": "A letter"}
    done = await town.crm.fill(form, form, said)
    assert "sms: revoked" in done.text
    await town.stands("sms", "revoked")
    assert "A letter" in done.text
    helpdesk = await log_in(town.world, town.shop.helpdesk.key)
    assert "A letter" not in (await helpdesk.get(town.path())).html  # evidence is whose word it was, and the operator's
    assert "A letter" in (await town.operator.get(town.path())).text

    refused = await town.crm.fill(form, form, said | {"status": "granted"})
    assert "Not done." in refused.text
    assert refused.form(form).fields.items() >= {"evidence": "A letter", "medium": "sms", "status": "granted"}.items()
    assert "only the customer can give it again" in refused.text
    refused = await town.operator.fill(form, form, said | {"status": "granted", "evidence": ""})
    assert "say in 'evidence'" in refused.text
    await town.stands("sms", "revoked")
    lifted = await town.operator.fill(form, form, said | {"status": "granted", "evidence": EVIDENCE})
    assert "sms: granted" in lifted.text
    await town.stands("sms", "granted")
    for wrong, words in (
        ({"medium": "email"}, "kept under email"),
        ({"medium": "fax"}, "Pick what it is about"),
        ({"address": "+4915100000000"}, "no such address"),
        ({"medium": "tracking", "number": NUMBER}, "not of one number"),
        ({"status": "maybe"}, "Status"),
        ({"number": "+15559999999"}, "not registered"),
    ):
        answer = await town.operator.fill(form, form, said | wrong)
        assert "Not done." in answer.text, wrong
        assert words in answer.text, answer.text[:600]
    await town.stands("sms", "granted")
    only_profiles = await town.world.service("Looks", scopes=["read", "profiles"])
    await only_profiles.connect()
    looks = await log_in(town.world, only_profiles.key)
    assert "scope reply or automate" in (await looks.fill(form, form, said)).text
    assert "email: revoked" in (
        await looks.fill(form, form, said | {"medium": "email", "address": "nadia@example.com"})
    ).text  # fmt: skip


async def test_i_two_that_may_be_one_are_compared_merged_and_taken_apart_again(town: Town) -> None:
    assert "Nobody to decide about" in (await town.operator.get(CANDIDATES)).text
    other_phone = phone()
    await town.shop.hears(town.shop.customer(other_phone, "sms"))
    await town.shop.declares(email="nadia@example.com", phone=other_phone)
    (other,) = [one["id"] for one in await town.shop.contacts(other_phone)]
    listed = await town.crm.get(CANDIDATES)
    (compare,) = [link for link in listed.links if link.startswith("/console/merge?")]
    before = [tuple(row) for row in await town.rows("select count(*), max(position) from identity_op")]
    shown = await town.crm.get(compare)
    for words in ("a phone that the other has", "Each has a phone number of its own", "What merging would do"):
        assert words in shown.text, words
    for address in (town.phone, other_phone, "nadia@example.com"):
        assert address in shown.text
    assert [tuple(row) for row in await town.rows("select count(*), max(position) from identity_op")] == before
    assert "the same contact" in (await town.crm.get(f"/console/merge?keep={other}&merge={other}")).text

    helpdesk = await log_in(town.world, town.shop.helpdesk.key)  # knows both, and is not the parent
    told = await helpdesk.get(compare)
    assert "They cannot be merged" in told.text
    assert "/console/merge" not in [form.action for form in told.forms]
    token = next(form.fields["csrf"] for form in told.forms if "csrf" in form.fields)
    fields = {"csrf": token, "keep": town.nadia, "merge": other}
    assert "merged by the operator, or by the parent" in (await helpdesk.post("/console/merge", fields)).text
    alone = await log_in(town.world, town.alone.key)
    assert (await alone.get(compare)).status == 404

    merged = await town.crm.send(
        await town.crm.get(f"/console/merge?keep={town.nadia}&merge={other}"), "/console/merge"
    )
    assert "Merged:" in merged.text
    assert merged.url.endswith(town.nadia)
    assert other_phone in merged.text
    assert "was merged into this contact" in (await town.crm.get(f"{CONTACTS}/{other}")).text
    ledger = await town.crm.get(town.path("/operations"))
    undo = [link for link in ledger.links if link.startswith(town.path("/operations/"))]
    assert len(undo) >= 3
    looked = await town.crm.get(undo[0])
    assert "Two contacts became one" in looked.text
    assert "It was tried just now and would work" in looked.text
    assert "Two contacts became one" in (await helpdesk.get(undo[0])).text
    assert "It cannot be undone now" in (await helpdesk.get(undo[0])).text
    undone = await town.crm.send(looked, f"{undo[0]}/undo")
    assert "Undone: the merge" in undone.text
    assert (await town.shop.contact(other_phone))["id"] == other
    assert "undone before" in (await town.crm.send(looked, f"{undo[0]}/undo")).text
    # The first click rests under the declaration: the last ones first.
    first = await town.operator.get(undo[-1])
    assert "undo them first" in first.text
    assert [form for form in first.forms if form.action.endswith("/undo")] == []
    by = await town.operator.send(await town.operator.get(undo[1]), f"{undo[1]}/undo")
    assert "Undone: the declaration" in by.text
    assert ("operator", "identity.undone") in [(row["actor"], row["action"]) for row in await audit(town.world)]


async def export_is_whole_for_the_operator_and_ones_own_for_a_service(town: Town) -> None:
    action = town.path("/export")
    for visitor, has, lacks in (
        (town.operator, ("conversations", "operations", "Secret words"), ()),
        (town.crm, ("kd-1",), ("Secret words", "conversations")),
    ):
        form = (await visitor.get(town.path())).form(action)
        sent = {"Cookie": visitor.cookie}
        async with town.world.session.post(town.world.hub.url + action, data=form.fields, headers=sent) as answer:
            body = await answer.text()
            assert answer.headers["Content-Disposition"] == f'attachment; filename="{town.nadia}.json"'
            assert answer.headers["Cache-Control"] == "no-store"
        assert json.loads(body)["contact"]["id"] == town.nadia
        assert all(words in body for words in has)
        assert not any(words in body for words in lacks)
    exported = [row for row in await audit(town.world) if row["action"] == "contact.exported"]
    assert [(row["actor"], row["subject"]) for row in exported] == [("operator", town.nadia)]


async def erasing_asks_for_a_word_and_is_the_operators(town: Town) -> None:
    action = town.path("/erase")
    shown = await town.crm.get(town.path())
    assert action not in [form.action for form in shown.forms]
    token = shown.form(town.path("/export")).fields["csrf"]
    refused = await town.crm.post(action, {"csrf": token, "confirmed": "yes", "typed": "erase"})
    assert "operator" in refused.text
    asked = await town.operator.fill(town.path(), action)
    assert "It cannot be undone" in asked.text
    assert town.phone in asked.text
    assert (await town.shop.contact(town.phone))["id"] == town.nadia
    kept = await town.operator.send(asked, action, {"typed": "delete"})
    assert "nothing was erased" in kept.text
    assert (await town.shop.contact(town.phone))["id"] == town.nadia
    gone = await town.operator.send(asked, action, {"typed": "erase"})
    assert "Erased" in gone.text
    assert await town.shop.contacts(town.phone) == []
    assert town.phone not in (await town.operator.get(town.path())).html
    assert "Secret words" not in str(await town.rows("select content from message"))
    assert ("operator", "contact.erased", town.nadia) in [
        (row["actor"], row["action"], row["subject"]) for row in await audit(town.world)
    ]


async def test_k_a_campaign_is_a_funnel_and_a_link_its_owners(town: Town) -> None:
    name = f"sale/50% off {HOSTILE[:12]}?"
    assert "No campaign yet" in (await town.crm.get("/console/campaigns")).text
    messages = []
    for n in range(3):
        to = phone()
        await town.shop.agrees(to, "granted", "sms")
        body = {"origin": "campaign", "campaign": name, "type": "text", "text": f"Buy: {page('sale')}"}
        where = {"to": to, "from": NUMBER, "medium": "sms"}
        answer = await town.shop.crm.call("POST", "/v1/messages?wait=10", body | where)
        assert answer.status == 202, answer
        messages.append(str(answer.json["message"]["id"]))
        await ends(town.shop.crm, messages[-1], "delivered", "read")
        got = town.shop.customer(to, "sms").received
        links = [word for one in got for word in str(one.text).split() if word.startswith("https://go.")]
        if n == 0:
            await town.shop.device().opens(links[-1])
        if n == 1:
            await town.shop.device(agent="WhatsApp/2.24.6.77 A").taps(links[-1])

    whose = f"?service={town.shop.crm.id}"
    own, all_of = await town.crm.get("/console/campaigns"), await town.operator.get("/console/campaigns")
    path = f"/console/campaigns/{quote(name, safe='')}"
    assert path in own.links
    assert path + whose in all_of.links
    for visitor, url in ((town.crm, path), (town.operator, path + whose)):
        shown = await visitor.get(url)
        assert shown.status == 200, shown.text[:500]
        for words in ("Accepted: 3", "Sent: 3", "Delivered: 3", "Read (WhatsApp): not known", "Clicked by people: 1",
                      "Visited the site: 1", "Identified: 1", "people: 1", "previews of a messenger: 1"):  # fmt: skip
            assert words in shown.text, (words, shown.text[:2000])
        assert "<img" not in shown.html.replace('<img src="/console/static', "")
    for path_of, visitor in ((path, await log_in(town.world, town.shop.helpdesk.key)), (path + "x", town.crm)):
        assert (await visitor.get(path_of)).status == 404
    assert (await town.operator.get(path)).status == 422

    message = f"/console/messages/{messages[0]}"
    assert path in (await town.crm.get(message)).links
    assert path not in (await town.operator.get(message)).html, "a campaign's name is content (C1)"
    revealed = await town.operator.fill(message, f"{message}/reveal", {"reason": "a complaint"})
    assert path + whose in revealed.links
    of_message = await town.crm.get(f"/console/messages/{messages[0]}/links")
    (link,) = [each for each in of_message.links if each.startswith("/console/links/")]
    shown = await town.crm.get(link)
    assert "shop.example/sale/" in shown.text
    assert "one recipient" in shown.text
    helpdesk = await log_in(town.world, town.shop.helpdesk.key)
    masked = await helpdesk.get(link)
    assert "shop.example/sale/" not in masked.html
    assert f"{link}/disable" not in [form.action for form in masked.forms]
    token = shown.form(f"{link}/disable").fields["csrf"]
    assert (await helpdesk.post(f"{link}/disable", {"csrf": token, "confirmed": "yes"})).status == 403
    alone = await log_in(town.world, town.alone.key)
    assert (await alone.get(link)).status == 404
    asked = await town.crm.send(shown, f"{link}/disable")
    assert "told that it is gone" in asked.text
    assert "leads on" in (await town.crm.get(link)).text
    assert "Disabled" in (await town.crm.send(asked, f"{link}/disable")).text
    assert [row["disabled_at"] is not None for row in await town.rows(
        "select disabled_at from tracked_link where campaign = $1 order by id limit 1", name)] == [True]  # fmt: skip


async def forms_of_other_sites_and_sessions_do_nothing(town: Town) -> None:
    shown = await town.operator.get(town.path())
    fields = shown.form(town.path("/erase")).fields | {"confirmed": "yes", "typed": "erase"}
    mine = (await town.crm.get(town.path())).form(town.path("/export")).fields
    cases: list[tuple[str, dict[str, str], dict[str, str]]] = [
        ("another site", fields, {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}),
        ("no token", {name: value for name, value in fields.items() if name != "csrf"}, {}),
        ("another session's", fields | {"csrf": mine["csrf"]}, {}),
    ]
    paths = [town.path("/erase"), town.path("/consent"), town.path("/export"), "/console/merge"]
    for name, sent, headers in cases:
        for path in paths:
            answer = await town.operator.post(path, sent, False, **headers)
            assert answer.status == 403, (name, path, answer.status)
    assert (await town.shop.contact(town.phone))["id"] == town.nadia


async def test_h3_h5_traffic_export_and_erasing(town: Town) -> None:
    """One after the other, on one hub: the last one takes Nadia away."""
    await traffic_is_read_by_whoever_is_on_the_channel(town)
    await export_is_whole_for_the_operator_and_ones_own_for_a_service(town)
    await forms_of_other_sites_and_sessions_do_nothing(town)
    await erasing_asks_for_a_word_and_is_the_operators(town)


async def traffic_is_read_by_whoever_is_on_the_channel(town: Town) -> None:
    empty = await town.operator.get("/console/traffic")
    assert "Nothing flowed" in empty.text or "messages received" in empty.text
    async with connected(town.url) as conn:
        for count in (traffic_rollup.count_events, traffic_rollup.count_deliveries, traffic_rollup.count_attempts):
            async with conn.transaction():
                await count(conn)
    whole, own = [await visitor.get("/console/traffic") for visitor in (town.operator, town.crm)]
    for shown in (whole, own):
        assert "1 messages received 1 accepted to send 1 delivered to customers" in shown.text, shown.text[:900]
    assert [name for name in ("CRM", "Helpdesk", "Books") if name in whole.text] == ["CRM", "Helpdesk", "Books"]
    assert "Helpdesk" not in own.text
    for query, words in (
        ("?span=day", "1 messages received"),
        ("?span=week", "1 messages received"),
        (f"?number={quote(NUMBER)}", "1 messages received"),
        (f"?service={town.shop.helpdesk.id}", "0 accepted to send"),
        ("?number=%2B15559999999", "Nothing flowed"),
    ):
        assert words in (await town.operator.get(f"/console/traffic{query}")).text, query
    assert (await town.operator.get("/console/traffic?span=year")).status == 422
    alone = await log_in(town.world, town.alone.key)
    assert "Nothing flowed" in (await alone.get("/console/traffic")).text

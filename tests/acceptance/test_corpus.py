"""Payloads that nobody here wrote, posted to a whole hub: every item stored once or quarantined with a reason (B2-B5).

What a file holds is counted here by a small reader of its own, which shares nothing with the hub's parsers.
"""

import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import asyncpg
import pytest

from tests.support.wire import Wire, ask, connected
from tests.support.world import world

CORPUS = Path(__file__).parents[2].parent / "shared" / "corpus"
ITEM_LISTS = ("messages", "statuses", "message_echoes", "user_id_update")
SENDERS = {
    "+15550000001": [("whatsapp", "meta", "PHONE_NUMBER_ID"), ("sms", "twilio", "+15550000001")],
    "+15550000002": [("whatsapp", "meta", "000000000000000"), ("sms", "twilio", "MG" + "0" * 32)],
    "+15550000003": [("whatsapp", "meta", "CUSTOMER_PHONE_NUMBER")],
    "+15550000004": [("whatsapp", "meta", "123456789")],
    "+15550000005": [("whatsapp", "meta", "102944729380254"), ("sms", "twilio", "+12345678")],
    "+15550000006": [("whatsapp", "meta", "NEW_PHONE_NUMBER_ID")],
    "+15550000007": [("whatsapp", "meta", "random phone number id")],
    "+15550000008": [("whatsapp", "twilio", "MG" + "0" * 32), ("sms", "twilio", "+15550000008")],
    "+15550000009": [("whatsapp", "twilio", "+15550001111"), ("sms", "twilio", "+15550000009")],
}
"""Numbers and services that occur in the files, so that as much as possible is stored and not quarantined."""

FORGET = (
    "delete from message_status; delete from outbox; delete from message; delete from orphan_status;"
    "delete from inbound_key; delete from quarantine; delete from conversation; delete from merge_candidate;"
    "delete from contact_address; delete from contact; delete from event"
)
STORED = """
select (select count(*) from message) as messages,
       (select count(*) from event where type in ('message.edited', 'message.deleted', 'reaction.changed')) as changes,
       (select count(*) from orphan_status) + (select count(*) from message_status) as statuses,
       (select count(*) from quarantine where state = 'open' and reason <> '') as quarantined,
       (select count(*) from quarantine where state <> 'open' or reason = '') as noted,
       (select count(*) from event) as events"""


def files(folder: str) -> list[Path]:
    if not CORPUS.is_dir():
        pytest.skip("the shared corpus is not here")
    return sorted(path for path in (CORPUS / folder).rglob("*") if path.is_file())


@pytest.fixture
async def wire(database_url: str, tmp_path: Path) -> AsyncIterator[Wire]:
    async with world(database_url, tmp_path) as made:
        for e164, senders in SENDERS.items():
            listed = [dict(zip(("medium", "provider", "external_id"), sender, strict=True)) for sender in senders]
            answer = await made.call("POST", "/v1/admin/numbers", {"e164": e164, "senders": listed})
            assert answer.status == 201, answer
        yield Wire(made)


# A reader of its own ------------------------------------------------------------------------------------------------


def meta_items(document: Any) -> list[tuple[str, dict[str, Any]]]:
    """Every element of every list that may hold items: (list's name, element)."""
    found = []
    entries = document.get("entry")
    for entry in entries if isinstance(entries, list) else []:
        for change in entry.get("changes", []):
            value = change.get("value") or {}
            for name in ITEM_LISTS:
                listed = value.get(name)
                found += [(name, element) for element in listed] if isinstance(listed, list) else []
    return found


def distinct(items: list[tuple[str, dict[str, Any]]]) -> int:
    """How many different items these are by rule B4."""
    keys = set()
    for name, element in items:
        if "id" not in element:
            keys.add(json.dumps(element, sort_keys=True))
        elif name == "statuses":
            keys.add(("status", element["id"], element.get("status"), element.get("recipient_id")))
        else:
            keys.add(("message", element["id"]))
    return len(keys)


def form_of(path: Path) -> list[tuple[str, str]]:
    content = path.read_text().strip()
    if path.suffix == ".json":
        return [(name, str(part)) for name, part in json.loads(content).items()]
    return parse_qsl(content, keep_blank_values=True)


def with_ids(document: Any, mark: str) -> Any:
    """The same document with its items' own ids made different from all other files'."""
    copy = json.loads(json.dumps(document))
    for _, element in meta_items(copy):
        if isinstance(element.get("id"), str):
            element["id"] = f"{element['id']}.{mark}"
    return copy


async def stored(conn: "asyncpg.Connection[asyncpg.Record]") -> dict[str, int]:
    row = await conn.fetchrow(STORED)
    assert row is not None
    return dict(row)


def kept(counts: dict[str, int]) -> int:
    return sum(counts[name] for name in ("messages", "changes", "statuses", "quarantined"))


# The proof ----------------------------------------------------------------------------------------------------------


async def test_b4_every_meta_file_alone_and_again(wire: Wire, database_url: str) -> None:
    """Each as if the hub had never seen another: stored or quarantined, all of it, and the second time nothing."""
    wrong: dict[str, Any] = {}
    totals: Counter[str] = Counter()
    async with connected(database_url) as conn:
        for path in files("meta_webhooks"):
            body = path.read_bytes()
            await conn.execute(FORGET)
            statuses = [(await wire.meta(body)).status]
            first = await stored(conn)
            statuses.append((await wire.meta(body)).status)
            second = await stored(conn)
            items = meta_items(json.loads(body))
            expected = max(distinct(items), 1)
            if statuses != [200, 200] or kept(first) != expected or second != first:
                wrong[str(path.relative_to(CORPUS))] = (statuses, expected, first, second)
            totals.update(first)
    assert not wrong
    assert totals["messages"] > 20
    assert totals["statuses"]


async def test_b4_every_twilio_file_alone_and_again(wire: Wire, database_url: str) -> None:
    wrong: dict[str, Any] = {}
    totals: Counter[str] = Counter()
    async with connected(database_url) as conn:
        for path in files("twilio_webhooks"):
            form = form_of(path)
            is_status = dict(form).get("MessageStatus") not in {None, "", "received"}
            target = "/webhooks/twilio/status" if is_status else "/webhooks/twilio"
            await conn.execute(FORGET)
            replies = [await wire.twilio(form, path=target)]
            first = await stored(conn)
            replies.append(await wire.twilio(form, path=target))
            second = await stored(conn)
            answers = [(reply.status, reply.body) for reply in replies]
            if answers != [(200, b"<Response/>")] * 2 or kept(first) != 1 or second != first:
                wrong[str(path.relative_to(CORPUS))] = (answers, first, second)
            totals.update(first)
    assert not wrong
    assert totals["messages"] > totals["quarantined"]
    assert totals["statuses"]


async def test_b5_all_files_after_one_another_in_one_database(wire: Wire, database_url: str) -> None:
    """With ids of their own: all items of all files are there together, and posting all again adds no event."""
    bodies = [
        json.dumps(with_ids(json.loads(path.read_bytes()), str(n))).encode()
        for n, path in enumerate(files("meta_webhooks"))
    ]
    forms = []
    for n, path in enumerate(files("twilio_webhooks")):
        forms.append([(k, f"{v}.{n}" if k.endswith("Sid") and k[:2] in {"Me", "Sm"} and v[:2] == "SM" else v)
                      for k, v in form_of(path)])  # fmt: skip
    expected = sum(distinct(meta_items(json.loads(body))) for body in bodies) + len(forms)
    counts = []
    async with connected(database_url) as conn:
        for _ in range(2):
            for body in bodies:
                assert (await wire.meta(body)).status == 200
            for form in forms:
                assert (await wire.twilio(form)).status == 200
            counts.append(await stored(conn))
    assert counts[0] == counts[1]
    nothing = sum(not meta_items(json.loads(body)) for body in bodies)
    anonymous = [json.dumps(e, sort_keys=True) for b in bodies for _, e in meta_items(json.loads(b)) if "id" not in e]
    repeated = len(anonymous) - len(set(anonymous))
    assert expected - repeated <= kept(counts[0]) <= expected + nothing
    reasons = await ask(database_url, "select array_agg(distinct reason) from quarantine where state = 'open'")
    assert set(reasons) <= {"unknown_number", "no_number", "empty_change", "unexpected_shape"}


async def test_b5_what_is_quarantined_of_them_can_be_replayed_or_says_why_not(wire: Wire) -> None:
    for path in files("meta_webhooks"):
        assert (await wire.meta(path.read_bytes())).status == 200
    for entry in await wire.quarantine(state="open"):
        answer = await wire.replay(entry)
        assert (answer.status, answer.json["code"]) == (409, "still_quarantined")
        assert answer.json["reasons"] == [entry["reason"]]


def test_the_corpus_is_what_these_tests_think() -> None:
    """The reader above finds something: else all of this would prove nothing."""
    found = Counter(name for path in files("meta_webhooks") for name, _ in meta_items(json.loads(path.read_bytes())))
    assert found["messages"] > 40
    assert found["statuses"] > 5
    assert len(files("twilio_webhooks")) > 30

"""docs/providers.md names every kind of thing that providers send, and for each of them a test that there is."""

import ast
import json
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from hub.domain.events import EVENT_TYPES
from providers.twilio.codes import STATUSES
from providers.whatsapp_cloud import content, webhook

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "providers.md").read_text()
CORPUS = TESTS.parents[1] / "shared" / "corpus"
Row = tuple[str, ...]


def rows(title: str) -> list[Row]:
    """The rows of the first table under this heading."""
    part = PAGE.split(f"\n### {title}\n")[1]
    table = re.search(r"^\|.*?(?=\n\n)", part, re.MULTILINE | re.DOTALL)
    assert table
    lines = table[0].splitlines()[2:]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


META, TWILIO = rows("Meta"), rows("Twilio")


def is_listed(kind: str, table: list[Row]) -> bool:
    return any(fnmatchcase(kind, pattern) for row in table for pattern in named(row[0]))


# Kinds, by a reader of its own --------------------------------------------------------------------------------------


def meta_kinds(document: Any) -> Iterator[str]:
    for entry in document.get("entry") or []:
        for change in entry.get("changes") or []:
            field, value = change.get("field") or "messages", change.get("value") or {}
            found = list(_kinds_of(field, value))
            yield from found or ([f"{field}.nothing"] if field == "messages" else [field])


def spelled_out() -> set[str]:
    """Kinds of Meta's that the table has by name, not by a pattern."""
    return {name for row in META for name in named(row[0]) if "*" not in name}


def objects(value: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The elements of a list; none where it is no list."""
    part = value.get(name)
    return [element for element in part if isinstance(element, dict)] if isinstance(part, list) else []


def _kinds_of(field: str, value: dict[str, Any]) -> Iterator[str]:
    for name in ("messages", "message_echoes", "calls"):
        for element in objects(value, name):
            is_group = name == "messages" and element.get("group_id")
            yield f"{field}.{'group' if is_group else element.get('type') or element.get('event')}"
    for status in objects(value, "statuses"):
        yield f"{field}.status.{'group' if status.get('recipient_type') == 'group' else status.get('status')}"
    for chunk in objects(value, "history"):
        for thread in objects(chunk, "threads"):
            yield from (f"{field}.{message.get('type')}" for message in objects(thread, "messages"))
    if value.get("errors"):
        yield f"{field}.errors"


def twilio_kind(form: dict[str, str]) -> str:
    addresses = form.get("From", "") + form.get("To", "")
    if not any(form.get(name) for name in ("MessageSid", "SmsSid", "SmsMessageSid", "From")):
        return "nothing"
    medium = "whatsapp" if "whatsapp:" in addresses else "sms"
    status = form.get("MessageStatus") or form.get("SmsStatus") or "received"
    if status not in ("received", "receiving"):
        return f"{medium}.status.{status}"
    for mark, kind in (
        ("ButtonText", "button"), ("Latitude", "location"), ("ListId", "interactive"), ("ReferralSourceId", "referral"),
        ("OptOutType", "opt_out"), ("ExternalUserId", "without_phone"), ("MediaUrl0", "media"),
    ):  # fmt: skip
        if form.get(mark):
            return f"{medium}.{kind}"
    return f"{medium}.text"


def files(folder: str) -> list[Path]:
    if not CORPUS.is_dir():
        pytest.skip("the shared corpus is not here")
    return sorted(path for path in (CORPUS / folder).rglob("*") if path.is_file())


def test_every_kind_of_metas_payloads_is_in_the_table() -> None:
    kinds = {kind for path in files("meta_webhooks") for kind in meta_kinds(json.loads(path.read_bytes()))}
    assert len(kinds) > 15
    assert {kind for kind in kinds if not is_listed(kind, META)} == set()
    types = {kind for kind in kinds if re.fullmatch(r"messages\.\w+", kind)}
    assert types - spelled_out() == {"messages.unknown"}


def test_every_kind_of_twilios_payloads_is_in_the_table() -> None:
    kinds = set()
    for path in files("twilio_webhooks"):
        text = path.read_text().strip()
        kinds.add(twilio_kind(json.loads(text) if path.suffix == ".json" else dict(parse_qsl(text))))
    assert len(kinds) > 5
    assert {kind for kind in kinds if not is_listed(kind, TWILIO)} == set()


# What the parsers know ----------------------------------------------------------------------------------------------


def test_every_field_and_type_the_parsers_know_is_in_the_table() -> None:
    fields = {*webhook._WHOLES, *webhook._NOTED, "user_preferences", "user_id_update"}
    listed = {field: sorted(lists) for field, lists in webhook._READERS.items()}
    kinds = {f"{field}.text" for field, lists in listed.items() if {"messages", "message_echoes"} & set(lists)}
    kinds |= {f"messages.{kind}" for kind in (*content._READERS, "reaction", "edit", "revoke")}
    kinds |= {"calls.connect", "calls.status.ringing", *fields}
    assert {kind for kind in kinds if not is_listed(kind, META)} == set()
    assert {kind for kind in kinds if kind.startswith("messages.")} <= spelled_out()


def test_every_status_word_is_in_the_tables() -> None:
    (row,) = [row for row in TWILIO if "sms.status.*" in row[0]]
    assert set(STATUSES) <= set(named(row[1]))


# What the rows say --------------------------------------------------------------------------------------------------


@cache
def names_in(name: str) -> frozenset[str]:
    """The functions and classes of a test module."""
    (path,) = TESTS.rglob(name)
    nodes = ast.parse(path.read_text()).body
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return frozenset(node.name for node in nodes if isinstance(node, kinds))


@pytest.mark.parametrize("row", [*META, *TWILIO], ids=lambda row: row[0][:40])
def test_a_row_names_events_and_a_test_that_there_are(row: Row) -> None:
    *_, events, test = row
    assert len(row) == 5
    assert set(named(events)) <= {*EVENT_TYPES, "template.changed", "sender.health_changed"}
    (found,) = named(test)
    module, _, name = found.partition("::")
    assert name.lower().startswith("test")
    assert name in names_in(module)

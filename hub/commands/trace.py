"""`partyline trace ID`: what happened to one message, as a story."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from hub.commands.options import options, place_of
from hub.commands.running import run
from hub.domain.story import OUTCOMES


@click.command("trace")
@click.argument("what", metavar="ID")
@options
def trace(what: str, *, url: str | None, key: str | None, as_json: bool) -> None:
    """Tell what happened to one message.

    ID is a message (msg_...), an event (evt_...), a conversation (cnv_...), or what the provider calls a message
    (wamid..., SM..., MM...). A service's key shows what the service may see, the operator's masks what services wrote.
    """
    run(lambda: _trace(what, url, key, as_json=as_json))


async def _trace(what: str, url: str | None, key: str | None, *, as_json: bool) -> int:
    from hub.commands.api import opened
    from hub.printing import print_json

    async with opened(place_of(url, key)) as api:
        life = await api.get("/v1/admin/trace" if api.is_operator else "/v1/trace", {"id": what})
    if as_json:
        print_json(life)
    else:
        _print(life)
    return 0


def _print(life: Mapping[str, Any]) -> None:
    from hub.printing import print_table, say

    print_table(("", life["id"]), _facts(life))
    print_table(("at (UTC)", "what", "what happened"), [(_time(s["at"]), s["what"], s["text"]) for s in life["steps"]])
    rows = [row for event in life["events"] for row in _deliveries(event)]
    if rows:
        print_table(("event", "type", "service", "outcome", "attempts", "sees it"), rows)
    for gone in life["gone"]:
        say(f"gone: {gone['text']}")
    for other in life["also"]:
        say(f"the same in another channel: {other}")


def _facts(life: Mapping[str, Any]) -> Sequence[tuple[str, Any]]:
    message, talk, contact = life["message"] or {}, life["conversation"] or {}, life["contact"] or {}
    author = (message.get("author") or {}).get("name")
    addresses = ", ".join(address["value"] for address in contact.get("addresses", ()))
    facts = (
        ("message", " ".join(str(message[name]) for name in ("direction", "medium", "type") if name in message)),
        ("id", message.get("id") if message.get("id") != life["id"] else None),
        ("text", "masked" if message.get("masked") else message.get("text")),
        ("status", message.get("status")),
        ("author", author),
        ("provider's id", message.get("provider_id")),
        ("conversation", talk.get("id")),
        ("number", talk.get("number")),
        ("customer", " ".join(part for part in (contact.get("name"), addresses) if part)),
    )
    return [(name, value) for name, value in facts if value]


def _time(text: str) -> str:
    at = datetime.fromisoformat(text)
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03}"


def _deliveries(event: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    rows = []
    for delivery in event["deliveries"]:
        view = "masked" if delivery["masked"] else "in full"
        name = delivery["service"]["name"]
        outcome = OUTCOMES.get(delivery["outcome"], delivery["outcome"])
        rows.append((event["event_id"], event["type"], name, outcome, len(delivery["attempts"]), view))
    return rows

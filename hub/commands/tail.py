"""`partyline tail`: events as they come."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import click
import orjson

from hub.commands.options import options, place_of
from hub.commands.replay import read_time
from hub.commands.running import run
from hub.domain.events import EVENT_TYPES

Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events are printed."""

    types: tuple[str, ...] = ()
    number: str | None = None
    service: str | None = None
    conversation: str | None = None

    def takes(self, event: Event) -> bool:
        """Whether this is one of them."""
        data = event["data"]
        if self.types and event["type"] not in self.types:
            return False
        if self.number and data.get("number") != self.number:
            return False
        if self.conversation and (data.get("conversation") or {}).get("id") != self.conversation:
            return False
        return not self.service or self.service in _services(data)


def _services(data: Mapping[str, Any]) -> set[str]:
    """The services that an event is of, by id and name."""
    author = (data.get("message") or {}).get("author") or {}
    service = data.get("service") or {}
    found = {author.get("service_id"), author.get("name")}
    found |= {service.get("id"), service.get("name")} if isinstance(service, Mapping) else {service}
    return {name for name in found if name}


@click.command("tail")
@click.option(
    "--type",
    "types",
    multiple=True,
    type=click.Choice(EVENT_TYPES),
    metavar="TYPE",
    help="Of this type, as message.received; again for more.",
)
@click.option("--number", metavar="E164", help="Of this number.")
@click.option("--service", metavar="ID|NAME", help="Of what this service wrote or did.")
@click.option("--conversation", metavar="ID", help="Of this conversation (cnv_...).")
@click.option("--since", callback=read_time, metavar="TIME", help="Those since, first; else from now on.")
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after so many.")
@options
def tail(
    *, url: str | None, key: str | None, as_json: bool, since: str | None, count: int | None, **wanted: Any
) -> None:
    """Print events as they come, until Ctrl-C.

    A service's key shows its events as its webhooks would, the operator's those of all channels, masked.
    """
    run(lambda: _tail(url, key, Filter(**wanted), since, count, as_json=as_json))


async def _tail(
    url: str | None, key: str | None, wanted: Filter, since: str | None, count: int | None, *, as_json: bool
) -> int:
    from hub.commands.api import opened
    from hub.commands.following import events

    async with opened(place_of(url, key)) as api:
        left = count
        async for event in events(api, since, wanted.number):
            if not wanted.takes(event):
                continue
            _print(event, as_json=as_json)
            if left is not None:
                left -= 1
                if left == 0:
                    break
    return 0


def _print(event: Event, *, as_json: bool) -> None:
    from hub.printing import console, plain, print_json

    if as_json:
        print_json(event)
        return
    data = event["data"]
    at = datetime.fromisoformat(event["timestamp"])
    talk = (data.get("conversation") or {}).get("id") or ""
    line = f"[dim]{at:%H:%M:%S}[/] [bold]{plain(event['type']):24}[/] {plain(data.get('number')):16} {plain(talk):36} "
    console().print(line + plain(summary(data)).replace("\n", " "), soft_wrap=True)


def summary(data: Mapping[str, Any]) -> str:
    """An event in a few words."""
    message, contact = data.get("message"), (data.get("contact") or {}).get("name") or ""
    if not message:
        known = {"event_id", "number", "channel_id", "conversation", "contact", "automation", "message"}
        told = next((f"{name} {_short(_named(value))}" for name, value in data.items() if name not in known), "")
        return f"{contact} {told}".strip()
    author = (message.get("author") or {}).get("name") or contact
    what = "masked" if message.get("masked") else message.get("text") or message.get("type") or ""
    status = f" {message['status']}" if message.get("status") else ""
    return f"{author}:{status} {_short(what)}"


def _named(value: Any) -> Any:
    """What a value that has a name or a code is called; else itself."""
    return (value.get("name") or value.get("code") or value) if isinstance(value, Mapping) else value


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= 80 else f"{text[:79]}…"

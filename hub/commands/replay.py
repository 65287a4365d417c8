"""`partyline replay`: have events delivered once more, and wait until they are."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from hub.commands.options import options, place_of
from hub.commands.running import WRONG, CommandError, run

if TYPE_CHECKING:
    from hub.commands.api import Api

SHARDS: Final = 64
"""What a replay goes through, one by one."""
_LOOKS: Final = 0.5
"""Seconds between looks at how far it is."""


def read_time(_: click.Context, __: click.Parameter, text: str | None) -> str | None:
    """A time as people write it, in UTC unless it says otherwise, as the API takes it."""
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter("is no time such as 2026-01-31T12:00:00Z") from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).isoformat()


@click.command("replay")
@click.argument("events", nargs=-1, metavar="[EVENT_ID]...")
@click.option("--from", "first", metavar="EVENT_ID", help="From this event on.")
@click.option("--to", "last", metavar="EVENT_ID", help="Up to this event; with --from.")
@click.option("--since", callback=read_time, metavar="TIME", help="What happened since, as 2026-01-31T12:00:00Z.")
@click.option("--until", callback=read_time, metavar="TIME", help="What happened before; with --since or --failed.")
@click.option("--conversation", metavar="ID", help="Of this conversation only (cnv_...).")
@click.option("--failed", is_flag=True, help="What was given up: the dead letters.")
@click.option("--number", metavar="E164", help="Of this number only.")
@click.option("--service", metavar="ID", help="For this service (svc_...): with the operator's key.")
@click.option("--no-wait", is_flag=True, help="End once the replay is accepted.")
@options
def replay(*, url: str | None, key: str | None, as_json: bool, no_wait: bool, **wanted: Any) -> None:
    """Have events delivered once more, and wait until they are.

    Say which in one way: by their ids, --from and --to, --since and --until, --failed, or --conversation alone.
    """
    run(lambda: _replay(url, key, wanted, as_json=as_json, is_awaited=not no_wait))


async def _replay(
    url: str | None, key: str | None, wanted: Mapping[str, Any], *, as_json: bool, is_awaited: bool
) -> int:
    from hub.commands.api import opened

    async with opened(place_of(url, key)) as api:
        path = "/v1/admin/replays" if api.is_operator else "/v1/replays"
        asked = await api.post(path, _body(wanted, is_operator=api.is_operator))
        told = await _wait(api, path, asked) if is_awaited else asked
    _tell(told, as_json=as_json)
    return WRONG if is_awaited and told["progress"]["failed"] else 0


def _body(wanted: Mapping[str, Any], *, is_operator: bool) -> dict[str, Any]:
    """What the API is asked for. Raises `CommandError` where it is not said for whom."""
    if is_operator and not wanted["service"]:
        raise CommandError("with the operator's key say for which service: --service svc_...")
    if wanted["service"] and not is_operator:
        raise CommandError("--service is for the operator's key: a service's key replays its own events")
    body = {
        "event_ids": list(wanted["events"]) or None,
        "from_event_id": wanted["first"],
        "to_event_id": wanted["last"],
        "since": wanted["since"],
        "until": wanted["until"],
        "failed": wanted["failed"] or None,
        "conversation_id": wanted["conversation"],
        "number": wanted["number"],
        "service_id": wanted["service"],
    }
    return {name: value for name, value in body.items() if value is not None}


async def _wait(api: "Api", path: str, asked: Mapping[str, Any]) -> Any:
    """Until it is over, a bar showing how far it is."""
    from hub.printing import progress

    told: Any = asked
    with progress(f"replay {asked['id']}", SHARDS) as bar:
        while told["state"] == "running":
            await asyncio.sleep(_LOOKS)
            told = await api.get(f"{path}/{asked['id']}")
            at = told["progress"]
            bar.at(SHARDS - at["shards_left"], f"{at['events_delivered']} delivered")
    return told


def _tell(told: Mapping[str, Any], *, as_json: bool) -> None:
    from hub.printing import print_json, print_table

    if as_json:
        print_json(told)
        return
    at = told["progress"]
    rows = [
        ("service", told["service_id"]),
        ("number", told["number"]),
        ("state", told["state"]),
        ("delivered", at["events_delivered"]),
        ("failed", at["failed"]),
    ]
    print_table(("replay", told["id"]), rows)

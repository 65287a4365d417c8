"""The README's first ten minutes, typed as they stand there, but for the ports, and `make` that has run already."""

import os
import re
import shutil
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.support.commands import environment, run, running
from tests.support.serving import free_port

ROOT = Path(__file__).parents[2]
PORTS = ("8080", "9000", "9100")

pytestmark = pytest.mark.soak


def blocks() -> list[str]:
    """Everything a reader types, after `make demo`: with ports of our own."""
    typed = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)[1:]
    ports = {port: str(free_port()) for port in PORTS}
    typed[0] = typed[0].replace("END\nPARTY", "PARTYLINE_PORT=8080\nEND\nPARTY")
    typed[0] = typed[0].replace("make serve", "exec partyline serve")
    typed[2] = "export PORT=9000\n" + typed[2].replace("python examples", "exec python -u examples")
    typed[3] = typed[3].replace("partyline simulate", "exec partyline simulate --hub http://127.0.0.1:8080")
    return [re.sub(r"\b(8080|9000|9100)\b", lambda found: ports[found[0]], text) for text in typed]


async def test_the_first_ten_minutes(tmp_path: Path) -> None:
    """A hub, a service with the client library, a customer, one message traced."""
    folder = Path("/tmp") / f"readme-{os.getpid()}"
    shutil.copytree(ROOT / "examples", folder / "examples")
    env = environment() | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    options = {"env": env, "cwd": str(folder)}
    start, register, connect, write, look = blocks()
    try:
        async with AsyncExitStack() as stack:
            hub = await stack.enter_async_context(running("bash", "-ec", start, **options))
            await hub.says("Partyline listens", 60)
            service = await stack.enter_async_context(running("bash", "-ec", register + connect, **options))
            await service.says("connected as parent", 60)
            await service.says("channel.parent_changed", 30)
            customer = await stack.enter_async_context(running("bash", "-ec", write, **options))
            await service.says("message.received", 60)
            for _ in range(3):
                await service.says("message.status", 60)
            code, told = await run("bash", "-ec", look, **options)
            assert code == 0, told
            assert "the provider took it" in told
            assert "helpdesk, message.queued: accepted with 200" in told
            for command in (customer, service, hub):
                await command.stop(seconds=30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)

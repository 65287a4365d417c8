"""`partyline` and other commands as processes of their own, as a user runs them."""

import asyncio
import logging
import os
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
from click.testing import CliRunner, Result

from hub.__main__ import main

ROOT = Path(__file__).parents[2]
PARTYLINE = (sys.executable, "-m", "hub")


def environment(**settings: object) -> dict[str, str]:
    """This process's environment with these PARTYLINE_ settings and no others."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PARTYLINE_", "PG"))}
    kept |= {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
    return kept | {f"PARTYLINE_{name.upper()}": str(value) for name, value in settings.items()}


def said(*words: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """What a command says that ends before it begins, and its exit code: in this process, which costs a tenth."""
    inherited = dict.fromkeys(name for name in os.environ if name.startswith("PARTYLINE_"))
    with logs_as_before():
        result = CliRunner().invoke(main, words, env={**inherited, **(env or {})})
    return result.exit_code, result.output


async def does(*words: str, env: Mapping[str, str] | None = None, stdin: bytes = b"") -> Result:
    """Run a command to its end in this process, beside what runs in this loop; its streams stay apart. What a hub in
    this process logs meanwhile is none of it.
    """
    inherited = dict.fromkeys(name for name in os.environ if name.startswith("PARTYLINE_"))
    with logs_as_before():
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.__stderr__))
        return await asyncio.to_thread(CliRunner().invoke, main, words, env={**inherited, **(env or {})}, input=stdin)


@contextmanager
def logs_as_before() -> Iterator[None]:
    """A command sets logging up for its process: here that is taken back, or later tests would hear nothing."""
    root, known = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers, root.level
    try:
        yield
    finally:
        structlog.configure(**known)
        root.handlers = handlers
        root.setLevel(level)


@dataclass
class Command:
    """A process that runs, with what it has said so far, on either stream."""

    process: Process
    said: list[str] = field(default_factory=list)

    @property
    def output(self) -> str:
        """All of it, as one text."""
        return "\n".join(self.said)

    async def says(self, part: str, seconds: float = 30) -> str:
        """Wait for the next line with this part in it; gives the line."""
        async with asyncio.timeout(seconds):
            while line := await self._line():
                if part in line:
                    return line
        raise AssertionError(f"it ended without saying {part!r}:\n{self.output}")

    async def _line(self) -> str | None:
        assert self.process.stdout
        raw = await self.process.stdout.readline()
        if not raw:
            return None
        self.said.append(raw.decode().rstrip("\n"))
        return self.said[-1] or " "

    async def ends(self, seconds: float = 60) -> int:
        """Wait for its end; gives its exit code."""
        async with asyncio.timeout(seconds):
            while await self._line():
                pass
            return await self.process.wait()

    async def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = 10) -> int:
        """Signal it, and wait so long at most; gives its exit code."""
        self.process.send_signal(number)
        return await self.ends(seconds)


@asynccontextmanager
async def running(*command: str, env: dict[str, str] | None = None, **options: Any) -> AsyncIterator[Command]:
    """Run a command until the block ends; then it is killed, if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *command, env=env or environment(), stdin=asyncio.subprocess.DEVNULL, stdout=PIPE, stderr=STDOUT, **options
    )
    made = Command(process)
    try:
        yield made
    finally:
        if process.returncode is None:
            process.kill()
        await made.ends()


async def run(*command: str, env: dict[str, str] | None = None, **options: Any) -> tuple[int, str]:
    """Run a command to its end; gives its exit code and all it said."""
    async with running(*command, env=env, **options) as started:
        code = await started.ends()
        return code, started.output


def partyline(*words: str) -> Sequence[str]:
    """The words of a `partyline` command line."""
    return [*PARTYLINE, *words]

"""The server as a process: its command line, its start, and its end."""

import asyncio
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGQUIT, Signals
from time import monotonic
from typing import Final

from hub.store.embedded_home import Home
from hub.store.embedded_host import ENVIRONMENT, Account, Binaries, EmbeddedError
from hub.store.embedded_runtime import find_leftover, is_listening

TICK: Final = 0.02
"""Seconds between two looks at something that is about to happen."""

_SETTINGS: Final = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "300",
    "shared_buffers": "128MB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_destination": "stderr",
    "logging_collector": "off",
    "log_checkpoints": "off",
    "log_error_verbosity": "terse",  # the details of an error hold values, such as a phone number
}
_STOPPING: Final = ((SIGINT, 300.0), (SIGQUIT, 30.0), (SIGKILL, 10.0))
"""Signals and the seconds each may take: a clean stop may write a long checkpoint; the others lose no commit."""
_WATCH: Final = 0.1
_LOG_CHECK: Final = 60.0


def command_of(home: Home, binaries: Binaries, runtime: Path) -> list[str]:
    """Build the server's command line."""
    server = [str(binaries.folder / "postgres"), "-D", str(home.cluster)]
    settings = _SETTINGS | {"unix_socket_directories": str(runtime)}
    return [*_tether(home.account), *server, *(f"--{name}={value}" for name, value in settings.items())]


def spawn(command: list[str], home: Home) -> subprocess.Popen[bytes]:
    """Start the server, with its output in the log and out of the reach of a terminal's Ctrl-C.

    Not asyncio's subprocess: uvloop's takes no `user`.
    """
    with home.open_log() as output:
        return subprocess.Popen(  # noqa: S603 - our own command, no shell
            command,
            user=home.account.user,
            group=home.account.group,
            extra_groups=home.account.extra_groups,
            env=ENVIRONMENT,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


async def has_ended(child: subprocess.Popen[bytes], home: Home) -> None:
    """Wait for the end of a server, and keep its log from growing without limit meanwhile."""
    while not await _until(lambda: child.poll() is not None, _LOG_CHECK, _WATCH):
        with suppress(OSError):  # out of descriptors, say: it must not end the watch
            home.log_size()


async def end_child(child: subprocess.Popen[bytes]) -> None:
    """Stop our server, and wait until it is gone."""
    await _end(child.send_signal, lambda: child.poll() is not None)


async def end_leftover(home: Home) -> None:
    """Stop the server that an owner before us left running. Raises `data_dir_in_use` if it does not go."""
    leftover = find_leftover(home.cluster)
    if leftover is None:
        return

    def send(signal: Signals) -> None:  # as the server's user, who can stop no process but its own
        name = signal.name.removeprefix("SIG")
        home.account.run("/bin/sh", "-c", 'kill -s "$1" "$2"', "sh", name, str(leftover.pid))

    if not await _end(send, lambda: not is_listening(leftover.runtime)):
        message = f"a server left behind (pid {leftover.pid}) still runs the database in {home.cluster}"
        raise EmbeddedError("data_dir_in_use", message)


async def _end(send: Callable[[Signals], None], is_gone: Callable[[], bool]) -> bool:
    for signal, seconds in _STOPPING:
        if is_gone():
            break
        send(signal)
        await _until(is_gone, seconds, TICK)
    return is_gone()


async def _until(is_so: Callable[[], bool], seconds: float, step: float) -> bool:
    """Look every `step` seconds until it is so, or `seconds` are over."""
    deadline = monotonic() + seconds
    while not is_so() and monotonic() < deadline:  # noqa: ASYNC110 - nobody outside sets an event for us
        await asyncio.sleep(step)
    return is_so()


def _tether(account: Account) -> tuple[str, ...]:
    """What to start a program with, so that it is stopped when we are killed: Linux has it, others do without.

    A program that does it, since code run between fork and exec is not safe beside threads.
    """
    setpriv = shutil.which("setpriv")
    tether = (setpriv, "--pdeathsig", "INT") if setpriv else ()
    return tether if tether and account.run(*tether, "true").returncode == 0 else ()

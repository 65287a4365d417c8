"""The short-lived directory with the server's socket, and the server that a killed owner left behind."""

import os
import socket
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hub.store.embedded_host import OURSELVES, Account, EmbeddedError

PORT: Final = 5432
"""No TCP port: the number in the socket's name."""

_SOCKET: Final = f".s.PGSQL.{PORT}"
_PREFIX: Final = "pl-"
_BASE_BYTES: Final = 70
"""With our name and the socket's, a path of less than 100 bytes; systems take 104 or 108."""


def make_runtime(account: Account) -> Path:
    """Make a directory for the socket that only the server's user and root can enter. Raises `start_failed`."""
    own = os.environ.get("XDG_RUNTIME_DIR") if account is OURSELVES else None
    for base in filter(None, (own, "/tmp", tempfile.gettempdir())):  # noqa: S108 - mkdtemp makes it safe
        if len(os.fsencode(base)) <= _BASE_BYTES and os.access(base, os.W_OK | os.X_OK):
            runtime = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
            account.own(runtime)
            return runtime
    raise EmbeddedError("start_failed", "no directory with a short path to put the database's socket in, as /tmp")


def empty_runtime(runtime: Path) -> None:
    """Remove the socket of a server that ended without doing so."""
    for name in (_SOCKET, f"{_SOCKET}.lock"):
        (runtime / name).unlink(missing_ok=True)


def remove_runtime(runtime: Path) -> None:
    """Remove a directory of ours, unless a server listens in it or it is not as we made it."""
    if runtime.name.startswith(_PREFIX) and not is_listening(runtime):
        with suppress(OSError):
            empty_runtime(runtime)
            runtime.rmdir()


def is_listening(runtime: Path) -> bool:
    """Tell whether a server lives behind the socket, by the kernel, so that one too busy to answer counts."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.setblocking(False)
        try:
            caller.connect(str(runtime / _SOCKET))
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Leftover:
    """A server that runs without an owner."""

    pid: int
    runtime: Path


def find_leftover(cluster: Path) -> Leftover | None:
    """Find the server of this cluster that is alive: it listens on the socket which its file there names.

    The pid alone would prove nothing, and neither would a file copied here with the cluster.
    """
    try:
        lines = (cluster / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    if len(lines) < 5 or not lines[0].isdecimal() or lines[1] != str(cluster):
        return None
    runtime = Path(lines[4])
    return Leftover(int(lines[0]), runtime) if is_listening(runtime) else None

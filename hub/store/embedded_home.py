"""Where an embedded server lives: a directory with one owner, which holds the cluster and its log."""

import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hub.store.embedded_host import (
    OURSELVES,
    Account,
    Binaries,
    EmbeddedError,
    choose_account,
    find_binaries,
    within_reach,
)

USER: Final = "partyline"
"""The one role of the cluster, its superuser."""
STATE_DIR: Final = Path("/var/lib/partyline")
"""Holds the servers that root started from a directory no other user can enter, such as /root."""

_LOG_BYTES: Final = 10 * 1024 * 1024
_TAIL_BYTES: Final = 2000


@dataclass(frozen=True, slots=True)
class Home:
    """A directory of which we are the one owner, by a lock that ends with us at the latest."""

    place: Path
    account: Account
    lock: int

    @property
    def cluster(self) -> Path:
        """PostgreSQL's own data directory."""
        return self.place / "cluster"

    @property
    def log(self) -> Path:
        """What the server printed."""
        return self.place / "postgres.log"

    def release(self) -> None:
        """Let another have the directory."""
        os.close(self.lock)

    def prepare(self, given: Path | None) -> Binaries:
        """Make the cluster if there is none, and give the binaries to run it with.

        Blocks for a second at the first start. Raises what finding binaries and reaching them raises, and
        `start_failed` for initdb.
        """
        for draft in self.place.glob("initdb-*"):  # of an initdb that was interrupted
            shutil.rmtree(draft, ignore_errors=True)
        version = self.cluster / "PG_VERSION"
        major = version.read_text().strip() if version.exists() else None
        binaries = within_reach(find_binaries(given, major), self.account, self.place)
        if major is None:
            self._make_cluster(binaries)
        elif self.account is not OURSELVES and self.cluster.stat().st_uid != self.account.user:
            for path in (self.cluster, *self.cluster.rglob("*")):  # a copy made by root
                self.account.own(path)
        return binaries

    def _make_cluster(self, binaries: Binaries) -> None:
        """Run initdb beside the cluster's place: it syncs its files, and the rename makes them count."""
        draft = Path(tempfile.mkdtemp(prefix="initdb-", dir=self.place))
        self.account.own(draft)
        options = ("--encoding=UTF8", "--locale=C", "--auth=trust", "--data-checksums", "--no-instructions")
        made = self.account.run(binaries.folder / "initdb", "-D", draft, "-U", USER, *options)
        if made.returncode != 0:
            shutil.rmtree(draft, ignore_errors=True)
            raise EmbeddedError("start_failed", f"initdb failed: {made.stderr[-_TAIL_BYTES:].strip()}")
        draft.rename(self.cluster)
        folder = os.open(self.place, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    @contextmanager
    def open_log(self) -> Iterator[int]:
        """A descriptor that appends to the log, for the server to inherit."""
        descriptor = _open(self.log, os.O_WRONLY | os.O_APPEND)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def log_size(self) -> int:
        """Bytes in the log, once it has been emptied if it has grown beyond its limit."""
        with self.open_log() as descriptor:
            if os.fstat(descriptor).st_size > _LOG_BYTES:
                os.ftruncate(descriptor, 0)
            return os.fstat(descriptor).st_size

    def read_log(self, start: int) -> str:
        """The end of what was logged after the byte `start`."""
        return self.log.read_bytes()[start:][-_TAIL_BYTES:].decode(errors="replace").strip()

    def swap_note(self, runtime: Path) -> Path | None:
        """Note down our runtime directory, and give what the owner before us noted."""
        before = os.pread(self.lock, 4096, 0).decode().strip()
        os.ftruncate(self.lock, 0)
        os.pwrite(self.lock, os.fsencode(runtime), 0)
        return Path(before) if before else None


def claim_home(data_dir: Path) -> Home:
    """Become the owner of the server's directory under `data_dir`, made if it is not there.

    Raises `data_dir_in_use`, `data_dir_unreachable`, `data_dir_missing`.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    entry = data_dir / "postgres"
    account = choose_account(entry / "cluster")
    if not os.path.lexists(entry):
        _make_place(entry, account)
    place = entry.resolve()
    if not place.is_dir():
        message = f"the database of {data_dir} is kept in {place}, which is gone: bring it back, or remove {entry}"
        raise EmbeddedError("data_dir_missing", f"{message} to begin with an empty database")
    if not account.may_enter(place):
        message = f"the server's user (uid {account.user}) cannot enter {place}: let it pass through the "
        raise EmbeddedError("data_dir_unreachable", message + "directories above, or choose another DATA_DIR")
    lock = _open(place / "lock", os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise EmbeddedError("data_dir_in_use", f"another process runs the database in {place}") from None
    return Home(place, account, lock)


def _make_place(entry: Path, account: Account) -> None:
    """Make the server's directory where its user can enter it: here, or else under `STATE_DIR` with a link here.

    The link is what names the database: without it, an emptied data directory begins anew.
    """
    if account.may_enter(entry.parent):
        _make_open_folder(entry, account)
        return
    place = STATE_DIR / secrets.token_hex(8)
    _make_open_folder(STATE_DIR, account)
    _make_open_folder(place, account)
    (place / "README").write_text(f"The PostgreSQL server of {entry.parent}, reached there as {entry.name}.\n")
    entry.symlink_to(place)


def _make_open_folder(folder: Path, account: Account) -> None:
    """Make a directory of ours that the server's user may pass through; one that is there stays as it is."""
    if not folder.exists():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700 if account is OURSELVES else 0o711)


def _open(path: Path, flags: int) -> int:
    """Open a file of ours; never through a link, since root may do this in a user's directory."""
    return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

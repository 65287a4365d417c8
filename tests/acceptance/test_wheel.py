"""The wheel as the Dockerfile builds it, installed for itself, and run as the image is: on a file system that can be
written under /tmp only (where this machine lets us make one), from a folder of no interest, without a home.
"""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.serving import free_port
from tests.support.wire import until
from tests.unit.test_dockerfile import given, sources

ROOT = Path(__file__).parents[2]
READ_ONLY = (
    'mount --make-rprivate / && mount --bind /tmp /tmp && mount -o remount,ro,bind / && mount --bind "$0" "$0"'
    ' && mount -o remount,ro,bind "$0"'
)
"""In a mount namespace of its own: everything but /tmp, and of that the folder given."""
ADMIN = "plk_admin-key-of-the-wheel"


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that the image's user can reach."""
    folder = Path(tempfile.mkdtemp(prefix="wheel-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    subprocess.run(["chmod", "-R", "u+w", folder], check=True)
    shutil.rmtree(folder)


def build(place: Path) -> Path:
    """What `COPY` and `pip wheel` of the Dockerfile make."""
    tree = place / "src"
    tree.mkdir()
    for name in sources():
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tree / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*command, "--wheel-dir", place / "wheels", tree], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = (place / "wheels").glob("*.whl")
    return wheel


def install(place: Path, wheel: Path) -> Path:
    """An environment of its own that sees the dependencies of this one, but not this checkout; gives its `bin`."""
    home = place / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    command = [sys.executable, "-m", "pip", "--python", home / "bin" / "python", "install", "--quiet", "--no-index"]
    done = subprocess.run([*command, "--no-deps", "--no-compile", wheel], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (packages,) = (home / "lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text(f"{Path(pytest.__file__).parents[1]}\n")
    return home / "bin"


def test_everything_that_is_no_code_is_in_the_wheel(wheel: Path) -> None:
    """Migrations, templates, styles, scripts, settings' defaults, the documents."""
    with zipfile.ZipFile(wheel) as packed:
        there = set(packed.namelist())
    for package in ("hub", "providers", "config"):
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and path.suffix not in {".pyc", ".pyo"} and "__pycache__" not in path.parts:
                assert str(path.relative_to(ROOT)) in there
    data = f"{wheel.name.rsplit('-', 3)[0]}.data/data/share/partyline"
    for path in (ROOT / "docs").rglob("*.md"):
        assert f"{data}/{path.relative_to(ROOT)}" in there


@pytest.fixture(scope="module")
def wheel() -> Iterator[Path]:
    """Built once."""
    folder = Path(tempfile.mkdtemp(prefix="wheel-", dir="/tmp"))
    yield build(folder)
    shutil.rmtree(folder)


@pytest.mark.soak
async def test_the_installed_wheel_runs_as_the_image_does(wheel: Path, place: Path) -> None:
    """Version; serve in two processes with the embedded database; the image's own health check; then SIGTERM."""
    programs = install(place, wheel)
    port, data = free_port(), place / "data"
    data.mkdir()
    environment = {
        "PATH": f"{programs}:/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1", "PARTYLINE_DATA_DIR": str(data),
        "PARTYLINE_PORT": str(port), "PARTYLINE_ADMIN_KEY": ADMIN, "PARTYLINE_LOG_LEVEL": "info",
        "PARTYLINE_RECONCILE_INTERVAL": "0", "PARTYLINE_HEALTH_INTERVAL": "0",
    }  # fmt: skip
    options: dict[str, Any] = {"env": environment, "cwd": "/", "stdin": subprocess.DEVNULL}
    frozen = freeze(programs.parent)
    said = subprocess.run([*frozen, "partyline", "--version"], capture_output=True, text=True, **options)
    assert re.fullmatch(r"partyline, version \d+\.\d+\.\d+\S*\n", said.stdout), said
    before = files(programs.parent)
    with (place / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *frozen, "partyline", "serve", "--processes", "2", stderr=log, **options
        )
    try:
        await _answers(port, place / "log")
        (check,) = given("HEALTHCHECK")
        healthy = await asyncio.create_subprocess_exec(*json.loads(check.partition("CMD ")[2]), **options)
        assert await healthy.wait() == 0
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0, (place / "log").read_text()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert files(programs.parent) == before
    assert "Traceback" not in (place / "log").read_text()
    assert {path.name for path in data.iterdir()} >= {"postgres", "secret_key"}


def freeze(folder: Path) -> list[str]:
    """What to put before a command so that it can write under /tmp only, and not to this folder there."""
    if os.geteuid() != 0:
        subprocess.run(["chmod", "-R", "a-w", folder], check=True)
        return []
    command = ["unshare", "--mount", "sh", "-c", f'{READ_ONLY} && exec "$@"', str(folder)]
    may = subprocess.run(
        [*command, "sh", "-c", "touch /tmp/ro-$$ && rm /tmp/ro-$$ && ! touch /ro-$$"], capture_output=True
    )
    return command if may.returncode == 0 else []


def files(folder: Path) -> set[tuple[str, float]]:
    """Every file with its time."""
    return {(str(path), path.stat().st_mtime) for path in folder.rglob("*") if path.is_file()}


async def _answers(port: int, log: Path) -> None:
    """Ready; what comes out of data files is there: the tracker, the console, the documents."""
    headers = {"Authorization": f"Bearer {ADMIN}"}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=headers) as session:

        async def status(path: str) -> int:
            try:
                async with session.get(path, allow_redirects=False) as answer:
                    return answer.status
            except aiohttp.ClientError:
                return 0

        async def is_ready() -> bool:
            return await status("/readyz") == 200

        await until(is_ready, 60)
        wanted = ["/healthz", "/metrics", "/t.js", "/console/login", "/docs", "/docs/errors", "/openapi.json"]
        assert {path: await status(path) for path in wanted} == dict.fromkeys(wanted, 200), log.read_text()

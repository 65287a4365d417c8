"""`partyline demo`: the whole story, as root and as an ordinary user, and a visitor who plays along."""

import json
import os
import re
import shutil
import signal
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from hub import demo
from hub.demo_stage import NotHeldError, Stage
from hub.demo_story import STORY, Step
from tests.support.commands import ROOT, environment, partyline, run, running

NOBODY = 65534
ESCAPE = "\x1b"


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory for temporary files that every user may write."""
    folder = Path(tempfile.mkdtemp(prefix="demo-", dir="/tmp"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def assert_told(output: str, place: Path) -> None:
    """Every step held and is in the table, plainly, and nothing is left behind."""
    assert f"{len(STORY)} of {len(STORY)} steps held" in output
    for number, step in enumerate(STORY, 1):
        assert re.search(rf"│ +{number} {re.escape(step.title)} +│ held +│ +\d+ │", output), step.title
    assert ESCAPE not in output
    assert "Traceback" not in output
    assert list(place.iterdir()) == []


async def test_the_story_holds_for_an_ordinary_user(place: Path, shared: Path) -> None:
    env = environment() | {"TMPDIR": str(place), "HOME": str(place), "PYTHONUTF8": "1"}
    if os.geteuid() != 0:
        code, output = await run(*partyline("demo", "--once"), env=env)
    else:
        python = share_installation(shared)
        env |= {"PYTHONPATH": f"{shared}:{shared / 'packages'}", "LD_LIBRARY_PATH": str(shared / "lib")}
        env["PYTHONDONTWRITEBYTECODE"] = "1"
        user = {"user": NOBODY, "group": NOBODY, "extra_groups": [], "cwd": "/"}
        code, output = await run(str(python), "-m", "hub", "demo", "--once", env=env, **user)
    assert code == 0, output
    assert_told(output, place)
    assert "409 not_parent" in output
    assert re.search(r"Mia \(WhatsApp\) .* hub \d+\.\d ms ──▶ helpdesk \d+\.\d ms · CRM \d+\.\d ms · marketing", output)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that every user may read."""
    folder = Path(tempfile.mkdtemp(prefix="demo-shared-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def share_installation(folder: Path) -> Path:
    """Put Python, packages and checkout where every user can read them, as often they cannot; gives the interpreter."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    home = Path(sys.base_prefix)
    python = folder / "bin" / version
    python.parent.mkdir()
    shutil.copy(Path(sys.executable).resolve(), python)
    unneeded = shutil.ignore_patterns("site-packages", "dist-packages", "test", "config-*")
    share(home / "lib" / version, folder / "lib" / version, unneeded)
    for library in (home / "lib").glob("libpython*.so*"):
        shutil.copy(library, folder / "lib")
    share(Path(sysconfig.get_path("purelib")), folder / "packages", shutil.ignore_patterns("mypy*", "*mypyc*", "pip"))
    for package in ("hub", "providers", "config", "partyline_client", "examples"):
        share(ROOT / package, folder / package)
    return python


def share(source: Path, target: Path, unneeded: Callable[[str, list[str]], set[str]] | None = None) -> None:
    """A copy for all to read, made of links where the files are readable already."""

    def copy(file: str, into: str) -> None:
        if Path(file).stat().st_mode & 0o004:
            with suppress(OSError):
                os.link(file, into)
                return
        shutil.copy2(file, into)
        Path(into).chmod(Path(into).stat().st_mode | 0o444)

    shutil.copytree(source, target, ignore=unneeded, copy_function=copy)
    for folder in (target, *(path for path in target.rglob("*") if path.is_dir())):
        folder.chmod(0o755)


@pytest.mark.soak
async def test_a_visitor_plays_along_and_leaves(place: Path) -> None:
    """Whatever the environment says, the story holds first."""
    wrong = environment(
        env_file="/nowhere", port="abc", public_url=":", roles="none", database_url="postgresql://no/no"
    )
    env = wrong | {"TMPDIR": str(place), "PYTHONUTF8": "1", "PGHOST": "nowhere", "PGPORT": "1"}
    async with (
        running(*partyline("demo"), env=env, start_new_session=True) as shown,
        aiohttp.ClientSession() as session,
    ):
        door = (await shown.says("/simulate/sms")).split()[-1]
        await shown.says("See CRM's cards")
        async with session.post(door, data=json.dumps({"text": "Hello!", "from": "+15550100077"})) as answer:
            assert answer.status == 200, await answer.text()
        await shown.says("+15550100077 (sms) “Hello!” ──▶")
        await shown.says("Ana to +15550100077: delivered ──▶")
        async with session.post(door, data=b"[]") as answer:
            assert answer.status == 422
        os.killpg(shown.process.pid, signal.SIGINT)  # as Ctrl-C in a terminal: every process of the group gets it
        assert await shown.ends(10) == 0
    assert "nothing is left behind" in shown.said[-1]
    assert_told(shown.output, place)


async def test_a_step_that_does_not_hold_is_shown_and_counts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def broken(_: Stage) -> list[str]:
        raise NotHeldError("the moon is [b]green[/]")

    async def crashing(_: Stage) -> list[str]:
        raise KeyError("cheese")

    monkeypatch.setattr(demo, "STORY", (STORY[0], Step("A promise", broken), Step("A crash", crashing), STORY[1]))
    assert await demo.play(once=True, port=0) == 1
    output = capsys.readouterr().out
    assert "2 of 4 steps held" in output
    assert "did not hold: the moon is [b]green[/]" in output
    assert "KeyError: 'cheese'" in output
    assert re.search(r"4 Three services connect.* held", output)

"""The client as a package of its own: its wheel, its types, and the page about it, which is Python that holds."""

import ast
import re
import shutil
import subprocess
import sys
import textwrap
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "client.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
PROGRAMS = [block for block in BLOCKS if block.startswith('"""') or "asyncio.run(" in block]
SNIPPETS = [block for block in BLOCKS if block not in PROGRAMS]
CACHE = ROOT / ".mypy_cache" / "client"
"""Kept between runs: what others wrote takes the most time, and stays the same."""
KNOWN = """
import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import aiohttp
import asyncpg
from aiohttp import web

from partyline_client import *
from partyline_client import calls
from partyline_client.aiohttp import AsyncHub, webhook

NUMBER, ANA = "+15550001111", {"id": "ana", "name": "Ana"}
hub, store, receiver = AsyncHub("http://hub", "plk_"), Store(), Receiver("whsec_")
conversation_id = "cnv_1"
async def work(event: Event) -> None: ...
async def on_gap(event: Event, missing: Missing) -> None: ...
"""
REVEALED = {
    'hub.reply("cnv_1", "Hi", agent={"id": "a"})["message"]["id"]': "str",
    'hub.message("msg_1").get("status")': "str | None",
    'next(hub.timeline("cnv_1"))["sequence"]': "int | None",
    "hub.events().events[0]": "partyline_client.events.Event",
    'Receiver("whsec_").receive(b"", {}).text': "str | None",
}
WRONG = (
    'hub.reply("cnv_1", "Hi", agnet={})',
    'hub.reply("cnv_1", 7)',
    'hub.reply("cnv_1", "Hi")["mesage"]',
    'hub.resume("+1", "go")',
    "hub.connect()",
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel and what it needs, and without the hub; gives its interpreter."""
    folder = tmp_path_factory.mktemp("client")
    unneeded = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT / "partyline_client", folder / "source", ignore=unneeded)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps", "--no-index")
    subprocess.run([*pip, "--no-build-isolation", "--wheel-dir", folder, folder / "source"], check=True, cwd=folder)
    venv.create(folder / "env", symlinks=True)
    [site] = (folder / "env" / "lib").glob("python*/site-packages")
    [wheel] = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    dependencies = next(path for path in sys.path if path.endswith("site-packages"))
    (site / "dependencies.pth").write_text(dependencies + "\n")  # this finds no editable installation
    return folder / "env" / "bin" / "python"


def test_it_works_where_the_hub_is_not(installed: Path) -> None:
    code = (
        "import importlib.util, sys, partyline_client\n"
        "assert 'aiohttp' not in sys.modules, 'the core needs it not'\n"
        "import partyline_client.aiohttp, partyline_client.asgi\n"
        "for name in ('hub', 'providers', 'config'): assert importlib.util.find_spec(name) is None, name\n"
        "print(partyline_client.__file__)"
    )
    done = subprocess.run([installed, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert str(installed.parents[1]) in done.stdout
    package = Path(done.stdout.strip()).parent
    assert {path.name for path in package.glob("*.py")} == {
        path.name for path in (ROOT / "partyline_client").glob("*.py")
    }
    assert (package / "py.typed").exists()
    metadata = next(package.parent.glob("partyline_client-*.dist-info")) / "METADATA"
    needs = [line for line in metadata.read_text().splitlines() if line.startswith("Requires-Dist")]
    assert needs == ["Requires-Dist: standardwebhooks>=1.0", 'Requires-Dist: aiohttp>=3.10; extra == "aiohttp"']


def test_programs_the_page_and_the_examples_are_typed(installed: Path, tmp_path: Path) -> None:
    """Strictly, as whoever uses it would: programs of the page, its snippets, and what the types tell."""
    for number, program in enumerate(PROGRAMS):
        (tmp_path / f"program_{number}.py").write_text(program)
    bodies = [f"async def snippet_{n}(event: Event) -> None:\n{indented(code)}\n" for n, code in enumerate(SNIPPETS)]
    (tmp_path / "snippets.py").write_text(KNOWN + "".join(bodies))
    lines = [f"reveal_type({code})" for code in REVEALED] + [f"{code}  # wrong" for code in WRONG]
    small = 'from partyline_client import *\nhub = Hub("http://hub", "plk_")\n' + "\n".join(lines)
    (tmp_path / "small.py").write_text(small)
    for name in ("backend", "helpdesk", "crm", "marketing"):
        shutil.copy(ROOT / "examples" / f"{name}.py", tmp_path)
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--python-executable", installed, "--cache-dir", CACHE, "."],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    told = checked.stdout.splitlines()
    notes = [
        re.search(r'Revealed type is "(.*)"', line) for line in told if "small.py" in line and ": note: Re" in line
    ]
    assert [note and note[1] for note in notes] == list(REVEALED.values()), checked.stdout
    errors = [line for line in told if ": error: " in line]
    wrong = [number for number, line in enumerate(small.splitlines(), 1) if line.endswith("# wrong")]
    assert [int(line.split(":")[1]) for line in errors if line.startswith("small.py")] == wrong, checked.stdout
    assert len(errors) == len(wrong), checked.stdout


def indented(code: str) -> str:
    return textwrap.indent(code, "    ")


def test_the_page_quotes_the_first_service_as_it_is() -> None:
    [program] = [block for block in PROGRAMS if block.startswith('"""')]
    assert program == (ROOT / "examples" / "first_service.py").read_text()
    assert program.count("\n") < 55


def test_the_page_names_what_there_is() -> None:
    """Every method of a hub that the page calls exists; mypy said so. And every call is on the page or in the API's."""
    from partyline_client.methods import Awaitable, Blocking

    public = {name for name in vars(Blocking) if not name.startswith("_")}
    assert public == {name for name in vars(Awaitable) if not name.startswith("_")}
    made = {
        node.name
        for node in ast.parse((ROOT / "partyline_client" / "calls.py").read_text()).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }
    assert made - public == {"stream"}  # which has no end: `follow_stream`
    assert public - made == {"call", "each", "join", "rotate", "outcome"}

"""`partyline serve | migrate | check | simulate` as an operator runs them: exit codes, and what is said."""

import asyncio
import os
import re
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from click.testing import Result
from yarl import URL

from config.settings import Settings
from hub import simulate
from hub.simulate import Mix
from providers.simulator.meta_nodes import APP_ID
from tests.support.commands import does, environment, partyline, run, running, said
from tests.support.database import Server
from tests.support.world import NUMBER, PHONE_NUMBER_ID, World

ADMIN = "plk_an-admin-key-for-the-command-line"
SECRET = "app-secret"
THREE = Mix(
    messages=3, customers=1, batch=1, duplicates=0, reorder=0, twilio=0, outage=0, no_phone=0, seed=1, concurrency=1
)
CONFIGURED = {
    "port": 0,
    "public_url": "https://hub.example.com",
    "admin_key": ADMIN,
    "meta_app_secrets": SECRET,
    "meta_verify_token": "verify",
    "log_level": "warning",
}


@pytest.fixture
async def unmigrated(server: Server) -> AsyncIterator[str]:
    """The URL of an empty database."""
    name = f"cli_{uuid4().hex}"
    await server.execute(f"create database {name}")
    yield server.url(name)
    await server.execute(f"drop database {name} with (force)")


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that the database's user can enter: pytest's own ones are closed to all but us."""
    folder = Path(tempfile.mkdtemp(prefix="cli-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def settings(database_url: str, data_dir: Path, **more: object) -> dict[str, str]:
    return environment(**{**CONFIGURED, "database_url": database_url, "data_dir": data_dir, **more})


def row(output: str, check: str) -> tuple[str, str]:
    """What `check` says in one line of its table: level and finding."""
    found = re.search(rf"^│ {re.escape(check)} +│ (ok|warn|fail) +│ (.*?) *│", output, re.MULTILINE)
    assert found, f"no line {check!r} in\n{output}"
    return found[1], found[2]


def said_by(result: Result) -> tuple[int, str]:
    """The exit code of a command that ran in this process, and all it said."""
    return result.exit_code, result.output


def unfolded(output: str, column: int = 2) -> str:
    """A column of the table that `check` prints, its folded lines put together."""
    rows = [line.split("│")[1:-1] for line in output.splitlines() if line.startswith("│")]
    return " ".join(cells[column].strip() for cells in rows)


# serve ---------------------------------------------------------------------------------------------------------------


async def test_serve_says_where_it_listens_and_ends_cleanly(database_url: str, tmp_path: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        async with running(*partyline("serve"), env=settings(database_url, tmp_path)) as hub:
            url = (await hub.says("Partyline listens on")).split()[-1]
            async with aiohttp.ClientSession(url) as session, session.get("/readyz") as answer:
                assert answer.status == 200
            assert await hub.stop(number, seconds=10) == 0
        assert "Traceback" not in hub.output


async def test_serve_answers_who_is_being_served_before_it_ends(database_url: str, tmp_path: Path) -> None:
    """A request that came before SIGTERM, and whose body ends after it, is carried out and answered."""
    async with running(*partyline("serve"), env=settings(database_url, tmp_path)) as hub:
        url = URL((await hub.says("Partyline listens on")).split()[-1])
        reader, writer = await asyncio.open_connection(url.host, url.port)
        body = b'{"name": "late", "plan": "bundle"}'
        head = f"POST /v1/admin/services HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {ADMIN}\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n".encode())
        assert b"100 Continue" in await reader.readuntil(b"\r\n\r\n")
        hub.process.send_signal(signal.SIGTERM)
        writer.write(body)
        assert b" 201 " in await reader.readline()
        writer.close()
        assert await hub.ends(10) == 0


def test_every_fault_of_the_settings_is_named(tmp_path: Path) -> None:
    wrong = environment(port="high", public_url="nonsense", log_level="loud", roles="gateway,clown", data_dir=tmp_path)
    for command in ("serve", "migrate", "check", "simulate"):
        code, output = said(command, env=wrong)
        assert code == 1
        for name in ("PORT", "PUBLIC_URL", "LOG_LEVEL", "ROLES"):
            assert f"PARTYLINE_{name}: " in output
        assert "Traceback" not in output
    code, output = said("serve", env=environment(env_file=tmp_path / "none.env"))
    assert code == 1
    assert "which is not a file" in output


def test_a_wrong_command_line_is_2() -> None:
    for words in (["dance"], ["simulate", "--duplicates", "2"], ["simulate", "nothing"], ["demo", "--port", "99999"]):
        code, output = said(*words)
        assert code == 2
        assert "Usage:" in output


# migrate -------------------------------------------------------------------------------------------------------------


@pytest.mark.soak
async def test_migrate_before_serve(unmigrated: str, tmp_path: Path) -> None:
    env = settings(unmigrated, tmp_path)
    code, output = await run(*partyline("serve"), env=env)
    assert code == 1
    assert "migrations_missing: run 'partyline migrate' first" in output
    assert "Traceback" not in output
    code, output = said_by(await does("check", env=env))
    assert code == 1
    assert row(output, "migrations")[0] == "fail"
    code, output = said_by(await does("migrate", env=env))
    assert code == 0
    assert "ran 0001_initial" in output
    code, output = said_by(await does("migrate", env=env))
    assert (code, output) == (0, "the schema is up to date\n")
    async with running(*partyline("serve"), env=env) as hub:
        await hub.says("Partyline listens on")
        assert await hub.stop() == 0


# check ---------------------------------------------------------------------------------------------------------------


async def test_check_of_a_sound_configuration(database_url: str, tmp_path: Path, hub_world: World) -> None:
    """It also asks the providers about the registered senders: what keeps messages away fails."""
    simulator = hub_world.simulator
    meta = {"meta_app_secrets": simulator.meta_app_secrets[0], "meta_access_token": simulator.meta_access_token}
    twilio = {
        "twilio_account_sid": simulator.twilio_account_sid,
        "twilio_auth_token": simulator.twilio_auth_token,
        "twilio_api_url": simulator.url,
    }
    meta |= {"meta_app_id": APP_ID, "meta_api_url": simulator.url}
    simulator.meta_api.nodes.fields -= {"standby", "security"}
    simulator.twilio_api.nodes.number_fields[NUMBER] = {"sms_url": "https://elsewhere.example.com/sms"}
    fresh = tmp_path / "fresh"
    code, output = said_by(await does("check", env=settings(database_url, fresh, **meta, **twilio)))
    assert code == 1, output
    for check in (
        *("settings", "PUBLIC_URL", "ADMIN_KEY", "SECRET_KEYS", "ELIGIBILITY_FILE", "ALLOW_PRIVATE_ENDPOINTS"),
        *("Meta", "Twilio", "DATA_DIR", "database", "migrations", "Meta's API", "Twilio's API", "clock"),
        "sms +15550002222",
    ):
        assert row(output, check)[0] == "ok", check
    assert "https://hub.example.com/webhooks/meta" in output
    level, found = row(output, f"whatsapp {NUMBER}")
    assert (level, found.split()[0]) == ("warn", "fields_missing:")
    assert "Webhook fields are missing: standby, security" in unfolded(output)
    assert "subscribe the app to: messages, standby" in unfolded(output, 3)
    level, found = row(output, f"sms {NUMBER}")
    assert (level, found.split()[0]) == ("fail", "webhook_elsewhere:")
    assert "elsewhere.example.com/sms" in unfolded(output)
    assert "set there: https://hub.example.com/webhooks/twilio" in unfolded(output, 3)
    assert not fresh.exists(), "check makes nothing"


async def test_check_names_every_fault_with_its_cure(tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text("rule = ")
    readable = tmp_path / "data" / "admin_key"
    readable.parent.mkdir()
    readable.write_text("plk_x")
    readable.chmod(0o644)
    nowhere = "http://127.0.0.1:1"
    env = environment(
        data_dir=tmp_path / "data",
        database_url="postgresql://x@127.0.0.1:1/none",
        public_url="https://localhost",
        secret_keys="short",
        eligibility_file=rules,
        allow_private_endpoints="everywhere",
        meta_access_token="t",
        meta_api_url=nowhere,
    )
    code, output = said_by(await does("check", env=env))
    assert code == 1
    levels = {check: row(output, check)[0] for check in ("PUBLIC_URL", "ADMIN_KEY", "Meta", "Twilio", "Meta's API")}
    assert set(levels.values()) == {"warn"}, levels
    for check in ("SECRET_KEYS", "ELIGIBILITY_FILE", "ALLOW_PRIVATE_ENDPOINTS", "database"):
        assert row(output, check)[0] == "fail", check
    assert "chmod 600" in output
    assert "META_APP_SECRETS, META_VERIFY_TOKEN" in output
    assert "Traceback" not in output


@pytest.mark.soak
async def test_check_beside_the_embedded_database(place: Path) -> None:
    env = environment(data_dir=place / "data", port=0, log_level="warning")
    code, output = said_by(await does("check", env=env))
    assert code == 0
    assert "made at the first start" in row(output, "database")[1]
    assert list(place.iterdir()) == []
    async with running(*partyline("serve"), env=env) as hub:
        await hub.says("Partyline listens on")
        code, output = said_by(await does("check", env=env))
        assert code == 0
        assert row(output, "database") == ("ok", "embedded, and running: its hub answers for it at /readyz")
        assert await hub.stop() == 0
    code, output = said_by(await does("check", env=env))
    assert code == 0
    assert row(output, "migrations") == ("ok", "all have run")


# simulate ------------------------------------------------------------------------------------------------------------


async def test_simulate_posts_what_a_hub_takes(database_url: str, tmp_path: Path) -> None:
    env = settings(database_url, tmp_path)
    async with running(*partyline("serve"), env=env) as hub:
        url = (await hub.says("Partyline listens on")).split()[-1]
        words = ("simulate", "--hub", url, "--messages", "200", "--duplicates", "0.2", "--seed", "7")
        code, output = said_by(await does(*words, env=env))
        assert code == 1
        assert "the hub has no number with a sender at Meta" in output
        await call(url, "POST", "/v1/admin/numbers", {"e164": NUMBER, "senders": [
            {"medium": "whatsapp", "provider": "meta", "external_id": PHONE_NUMBER_ID}
        ]})  # fmt: skip
        for _ in range(2):  # the second time they are repeats, and welcome
            code, output = said_by(await does(*words, env=env))
            assert code == 0, output
            assert re.search(r"answered 200 +│ +\d+ +│", output)
            assert re.search(r"p99 +│ +\d+\.\d ms +│", output)
        events = await call(url, "GET", "/v1/admin/events?limit=200")
        assert len(events["items"]) == 200
        code, output = said_by(await does(*words, env=env | {"PARTYLINE_META_APP_SECRETS": "another"}))
        assert code == 1
        assert re.search(r"answered 403 +│", output)
        assert await hub.stop() == 0


async def test_simulate_says_what_it_lacks(
    tmp_path: Path, hub_world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ends(hub_url: str, **given: Any) -> str:
        settings, mix = Settings(data_dir=tmp_path / "data"), asdict(THREE) | given
        assert await simulate.traffic(settings, scenario="mixed", hub_url=hub_url, **mix) == 1
        return "".join(capsys.readouterr())

    for name in [name for name in os.environ if name.startswith("PARTYLINE_")]:
        monkeypatch.delenv(name)
    assert "META_APP_SECRETS" in await ends(hub_world.hub.url)
    monkeypatch.setenv("PARTYLINE_META_APP_SECRETS", SECRET)
    assert "ADMIN_KEY" in await ends(hub_world.hub.url)
    assert re.search(r"answered never +│", await ends("http://127.0.0.1:1", phone_number_id="1"))
    assert not (tmp_path / "data").exists()


async def call(url: str, method: str, path: str, body: Any = None) -> Any:
    """Call the operator's API."""
    headers = {"Authorization": f"Bearer {ADMIN}"}
    async with (
        aiohttp.ClientSession(url) as session,
        session.request(method, path, json=body, headers=headers) as answer,
    ):
        assert answer.status < 300, await answer.text()
        return await answer.json()

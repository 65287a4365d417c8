"""Is it alive and ready, who may read metrics, and how keys and secrets are kept (rules E3, H3)."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from pydantic import SecretStr

from hub.app import running
from tests.support.talk import MIA, roster, writes
from tests.support.wire import ask, connected, until
from tests.support.world import ADMIN, NUMBER, World, settings_for, world


class Line:
    """The way to the database, which can be cut and mended."""

    def __init__(self, database_url: str) -> None:
        parts = urlsplit(database_url)
        self._socket = f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.5432"
        self._user, self._name = parts.netloc.partition("@")[0], parts.path
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._port = 0

    @property
    def url(self) -> str:
        return f"postgresql://{self._user}@127.0.0.1:{self._port}{self._name}?sslmode=disable"

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        if self._server:
            self._server.close()
        for writer in self._open:
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server:
            await self._server.wait_closed()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        far_reader, far_writer = await asyncio.open_unix_connection(self._socket)
        ends = {writer, far_writer}
        self._open |= ends
        with suppress(OSError):
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        self._open -= ends
        for end in ends:
            end.transport.abort()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(65_536):
        target.write(data)
        await target.drain()
    target.close()


@asynccontextmanager
async def line_to(database_url: str) -> AsyncIterator[Line]:
    line = Line(database_url)
    await line.mend()
    try:
        yield line
    finally:
        await line.cut()


async def test_a_hub_that_runs_is_alive_and_ready(hub_world: World) -> None:
    for path, word in (("/healthz", "alive"), ("/readyz", "ready")):
        async with hub_world.session.get(hub_world.hub.url + path) as answer:
            assert (answer.status, await answer.json()) == (200, {"status": word})


async def test_without_its_database_it_is_alive_not_ready_and_comes_back(database_url: str, tmp_path: Path) -> None:
    async with line_to(database_url) as line, world(line.url, tmp_path) as made:
        (helpdesk,) = await made.connected("helpdesk")
        await line.cut()
        answer = await made.call("GET", "/readyz")
        assert answer.status == 503
        assert answer.json["status"] == "not_ready"
        assert "database" in answer.json["problems"]
        assert (await made.call("GET", "/healthz")).status == 200
        refused = await helpdesk.call("GET", f"/v1/numbers/{NUMBER}")
        assert (refused.status, refused.json["code"]) == (503, "unavailable")
        assert refused.headers["Retry-After"]
        assert await until(lambda: _problems(made, "loop:"))
        await line.mend()
        assert await until(lambda: _is_ready(made), 15)
        await writes(made.customer(MIA), helpdesk)


async def _problems(made: World, kind: str) -> bool:
    answer = await made.call("GET", "/readyz")
    return any(problem.startswith(kind) for problem in answer.json.get("problems", []))


async def _is_ready(made: World) -> bool:
    return (await made.call("GET", "/readyz")).status == 200


async def test_without_its_migrations_it_is_not_ready(hub_world: World, database_url: str) -> None:
    await ask(database_url, "delete from schema_migration where version = (select max(version) from schema_migration)")
    answer = await hub_world.call("GET", "/readyz")
    assert (answer.status, answer.json["problems"]) == (503, ["migrations"])


async def test_metrics_need_the_operator_s_key_unless_open(database_url: str, tmp_path: Path) -> None:
    async with world(database_url, tmp_path, open_metrics=False) as made:
        service = await made.service("helpdesk")
        async with made.session.get(made.hub.url + "/metrics") as answer:
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        for key in (service.key, "plk_wrong"):
            refused = await made.call("GET", "/metrics", key=key)
            assert (refused.status, refused.json["code"]) == (403, "operator_only")
        given = await made.call("GET", "/metrics")
        assert given.status == 200
        assert b"partyline_webhooks" in given.json


async def test_open_metrics_are_for_everybody(hub_world: World) -> None:
    async with hub_world.session.get(hub_world.hub.url + "/metrics") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain")
        text = await answer.text()
    assert "partyline_delivery_attempts" in text
    assert NUMBER not in text


ROUTES = [
    ("GET", "/v1/numbers"),
    ("GET", f"/v1/numbers/{NUMBER}"),
    ("PUT", f"/v1/numbers/{NUMBER}/connection"),
    ("DELETE", f"/v1/numbers/{NUMBER}/connection"),
    ("POST", f"/v1/numbers/{NUMBER}/connection/rotate-secret"),
    ("GET", "/v1/conversations"),
    ("GET", "/v1/conversations/cnv_x"),
    ("GET", "/v1/conversations/cnv_x/messages"),
    ("POST", "/v1/conversations/cnv_x/messages"),
    ("GET", "/v1/messages/msg_x"),
    ("GET", "/v1/deliveries"),
]
OPERATOR = [
    ("POST", "/v1/admin/services"),
    ("GET", "/v1/admin/services"),
    ("POST", "/v1/admin/numbers"),
    ("GET", "/v1/admin/numbers"),
    ("GET", "/v1/admin/quarantine"),
    ("POST", "/v1/admin/quarantine/1/replay"),
    ("GET", "/v1/admin/events"),
    ("GET", "/v1/admin/audit"),
]


async def test_every_path_needs_a_key(hub_world: World, database_url: str) -> None:
    service = await hub_world.service("helpdesk")
    revoked = await hub_world.service("revoked")
    removed = await hub_world.service("removed")
    await ask(database_url, "update api_key set revoked_at = now() where hint = $1", revoked.key[-4:])
    await ask(database_url, "update service set removed_at = now() where name = 'removed'")
    bad = ["plk_wrong", service.key[:-1], service.key + "x", service.key.upper(), revoked.key, removed.key, "ключ", " "]
    for method, path in (*ROUTES, *OPERATOR):
        async with hub_world.session.request(method, hub_world.hub.url + path) as answer:
            assert answer.status == 401, (method, path)
            assert (await answer.json())["code"] == "unauthorized"
        async with hub_world.session.request(
            method, hub_world.hub.url + path, headers={"Authorization": f"Basic {service.key}"}
        ) as answer:
            assert answer.status == 401, (method, path)
    for method, path in ROUTES:
        for key in (*bad, ADMIN):
            answer = await hub_world.call(method, path, {} if method in {"PUT", "POST"} else None, key=key)
            assert (answer.status, answer.json["code"]) == (401, "unauthorized"), (method, path, key)
            assert key.strip() not in str(answer.json) or not key.strip()
    for method, path in OPERATOR:
        for key in (*bad, service.key):
            answer = await hub_world.call(method, path, {} if method == "POST" else None, key=key)
            assert answer.status in {401, 403}, (method, path, key)
    assert (await roster(service))["role"] is None


async def test_the_scheme_of_a_key_is_not_case_sensitive(hub_world: World) -> None:
    service = await hub_world.service("helpdesk")
    answer = await service.call("GET", "/v1/numbers", Authorization=f"bearer  {service.key}")
    assert answer.status == 200


async def test_h3_keys_are_stored_hashed_and_secrets_sealed(hub_world: World, database_url: str) -> None:
    """Read every column of every table: neither the key nor the secret is there, in any spelling of its bytes."""
    services = await hub_world.connected("helpdesk", "crm")
    rotated = await services[0].call("POST", f"/v1/numbers/{NUMBER}/connection/rotate-secret")
    services[0].endpoint.secret = rotated.json["signing_secret"]
    await writes(hub_world.customer(MIA), *services)
    plain = [service.key for service in services] + [ADMIN]
    plain += [service.connection["signing_secret"] for service in services] + [rotated.json["signing_secret"]]
    hidden = {form for secret in plain for form in _spellings(secret)}
    read = 0
    async with connected(database_url) as conn:
        tables = await conn.fetch(
            """select oid::regclass::text as name from pg_class
               where relnamespace = 'public'::regnamespace and relkind = 'r'"""
        )
        for table in tables:
            rows = await conn.fetch(f"select t::text as line from {table['name']} t")
            read += len(rows)
            for row in rows:
                assert not [form for form in hidden if form in row["line"]], table["name"]
        hashes = await conn.fetch("select secret_hash from api_key")
        assert all(len(row["secret_hash"]) == 32 for row in hashes)
        sealed = await conn.fetchval("select count(*) from subscription_secret")
    assert read > 80
    assert sealed == 3


def _spellings(secret: str) -> set[str]:
    forms = {secret.encode()}
    if secret.startswith("whsec_"):
        forms |= {base64.b64decode(secret.removeprefix("whsec_")), secret.removeprefix("whsec_").encode()}
    return {form.hex() for form in forms} | {form.decode() for form in forms if form.isascii()}


async def test_h3_sealed_secrets_outlive_a_restart_with_a_new_first_key(database_url: str, tmp_path: Path) -> None:
    old, new = (SecretStr(base64.b64encode(bytes([n]) * 32).decode()) for n in (1, 2))
    async with world(database_url, tmp_path, secret_keys=(old,), roles=("gateway",)) as made:
        (helpdesk,) = await made.connected("helpdesk")
        await made.customer(MIA).says("Hello")
        settings = settings_for(made.simulator, database_url, tmp_path, secret_keys=(new, old), roles=("fanout",))
        async with running(settings):
            await helpdesk.endpoint.hears("message.received")
        assert not helpdesk.endpoint.refused


async def test_generated_keys_are_private_files(database_url: str, tmp_path: Path) -> None:
    async with world(database_url, tmp_path, admin_key=SecretStr(ADMIN)):
        key = tmp_path / "secret_key"
        assert key.stat().st_mode & 0o777 == 0o600
        assert not (tmp_path / "admin_key").exists()


async def test_what_is_not_there_is_a_problem_document(hub_world: World) -> None:
    for path in ("/", "/v1", "/v2/numbers", "/v1/admin", "/metrics/"):
        answer = await hub_world.call("GET", path)
        assert (answer.status, answer.json["code"]) == (404, "not_found"), path
    wrong = await hub_world.call("POST", "/healthz", {})
    assert (wrong.status, wrong.json["code"]) == (405, "method_not_allowed")

"""`partyline check` with every misconfiguration really made: what is found, how bad it is, and that a cure is named."""

import asyncio
import ipaddress
import json
import shutil
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr

from config.settings import Settings
from hub import check, check_config, check_providers, check_reach, check_stored
from hub.check_findings import Finding
from providers.simulator.meta_nodes import APP_ID
from tests.support.commands import does, environment
from tests.support.wire import Wire, connected, envelope, text, value
from tests.support.world import NUMBER, Open, World, settings_for


async def found(world: World, url: str | None, folder: Path, **more: Any) -> dict[str, dict[str, str]]:
    """What `check --json` says, by code; that every level but ok names a cure."""
    settings = settings_for(world.simulator, url, folder, **{"port": world.session_port, **more})  # type: ignore[attr-defined]
    shown: list[Finding] = []
    known, check.show = check.show, lambda findings, as_json: shown.extend(findings)  # type: ignore[assignment]
    try:
        code = await check.report(settings, as_json=True)
    finally:
        check.show = known
    assert code == int(any(each.level == "fail" for each in shown))
    assert all(each.cure for each in shown if each.level != "ok"), shown
    return {each.code: {"level": each.level, "found": each.found, "cure": each.cure} for each in shown}


def levels(findings: dict[str, dict[str, str]], *codes: str) -> list[str]:
    """The levels of these codes; `-` where one is not told."""
    return [findings[code]["level"] if code in findings else "-" for code in codes]


@asynccontextmanager
async def server(answer: Any, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Something that answers whatever it is asked; gives its port."""
    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def certificates(folder: Path, days: int) -> tuple[Path, ssl.SSLContext]:
    """An authority of our own, and a server's context with a certificate of its for so many days."""
    now, keys = datetime.now(UTC), [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]) for name in ("authority", "127.0.0.1")]

    def made(number: int) -> x509.CertificateBuilder:
        built = x509.CertificateBuilder().subject_name(names[number]).issuer_name(names[0])
        built = built.public_key(keys[number].public_key()).serial_number(x509.random_serial_number())
        begins = now - timedelta(days=30)
        return built.not_valid_before(begins).not_valid_after(now + timedelta(days=days if number else 300))

    root = made(0).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    paths = [folder / f"{name}{days}.pem" for name in ("root", "leaf")]
    paths[0].write_bytes(root.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    leaf = made(1).add_extension(address, critical=False).sign(keys[0], hashes.SHA256())
    form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    secret = keys[1].private_bytes(serialization.Encoding.PEM, *form)
    paths[1].write_bytes(secret + leaf.public_bytes(serialization.Encoding.PEM))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(paths[1])
    return paths[0], context


async def answers(status: int, seconds: float = 0.0) -> Any:
    """A handler that answers so."""

    async def handle(request: web.BaseRequest) -> web.Response:
        await asyncio.sleep(seconds)
        return web.Response(status=status)

    return handle


async def test_a_provider_that_is_busy_says_nothing_of_credentials(tmp_path: Path) -> None:
    """Too many requests, in Meta's words and Twilio's, are no reason to make a deployment fail its check."""
    said: list[tuple[int, Any]] = [(400, {"error": {"code": 4}}), (429, {"code": 20429, "status": 429}), (500, {})]

    async def busy(_: web.BaseRequest) -> web.Response:
        return web.json_response(said[0][1], status=said[0][0])

    async with server(busy) as port:
        url = f"http://127.0.0.1:{port}"
        settings = Settings(
            data_dir=tmp_path, meta_api_url=url, meta_access_token=SecretStr("t"), meta_app_secrets=(SecretStr("s"),),
            meta_app_id="1", twilio_api_url=url, twilio_account_sid="AC1", twilio_auth_token=(SecretStr("t"),),
        )  # fmt: skip
        while said:
            async with aiohttp.ClientSession() as session:
                codes = {each.code: each.level for each in await check_providers.look(session, settings)}
            assert set(codes) <= {"meta_api", "twilio_api", "clock"}, (said[0], codes)
            del said[0]


async def test_what_waits_and_what_is_wrong_around_a_hub_that_runs(
    open_world: Open, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await open_world(
        public_url="http://127.0.0.1:1", secret_keys=("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",)
    )
    port = int(world.hub.url.rpartition(":")[2])
    world.session_port = port  # type: ignore[attr-defined]
    base = {
        "public_url": world.hub.url,
        "meta_app_id": APP_ID,
        "secret_keys": ("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",),
    }
    monkeypatch.setattr(check_reach, "_SLOW", 0.2)
    services = {name: await world.service(name) for name in ("fine", "slow", "gone", "down", "login")}
    async with (
        server(await answers(405)) as fine, server(await answers(200, 0.3)) as slow, server(await answers(404)) as gone,
        server(await answers(401)) as login,
    ):  # fmt: skip
        for name, at in (("fine", fine), ("slow", slow), ("gone", gone), ("down", 1), ("login", login)):
            await services[name].connect(endpoint_url=f"http://127.0.0.1:{at}/hook")
        await services["login"].call("POST", f"/v1/numbers/{NUMBER}/connection/pause")
        assert (await Wire(world).meta(envelope(value([text("?")], number_id="9")))).status == 200
        async with connected(database_url) as conn:
            await conn.execute("insert into dead_letter (subscription_id, event_id, attempts) "
                               "select id, 1, 9 from subscription limit 1")  # fmt: skip
        (tmp_path / "spool").mkdir(exist_ok=True)
        (tmp_path / "spool" / "1").write_bytes(b"x")

        whole = await found(world, database_url, tmp_path, **base)
    assert levels(whole, "hub", "public_url_answers", "database", "migrations", "stored_secrets") == ["ok"] * 5
    assert levels(whole, "meta_token", "meta_app_secret", "twilio_auth_token", "endpoint") == ["ok"] * 4
    told = ("endpoint_slow", "endpoint_not_found", "endpoint_refuses", "quarantine_waiting", "dead_letters")
    assert levels(whole, *told, "subscription_paused", "spool_waiting") == ["warn"] * 7
    assert levels(whole, "endpoint_unreachable") == ["fail"]
    assert "/hook" in whole["endpoint_unreachable"]["found"]
    assert world.simulator.meta_access_token not in json.dumps(whole)

    # Where the database is the running hub's own, the hub is asked.
    settings = settings_for(world.simulator, None, tmp_path, port=port)
    stored = await check_stored._of_running(settings, "database")
    assert {sender.probe.e164 for sender in stored.senders or ()} >= {NUMBER}
    assert len(stored.subscriptions or ()) == 5
    assert {each.code for each in stored.findings} == {"database", "quarantine_waiting", "subscription_paused"}

    # Wrong secrets, each of them.
    wrong = await found(
        world, database_url, tmp_path, **base | {"meta_app_secrets": ("another",), "twilio_auth_token": ("another",),
                                                 "secret_keys": ("YWJjZGVmZ2hpamFiY2RlZmdoaWphYmNkZWZnaGlqYWI=",),
                                                 "allow_private_endpoints": "off"},
    )  # fmt: skip
    assert levels(wrong, "meta_app_secret_wrong", "twilio_auth_token_wrong", "secret_keys_do_not_fit") == ["fail"] * 3
    assert levels(wrong, "endpoint_not_allowed") == ["fail"]
    world.simulator.meta_api.is_revoked = True
    world.simulator.meta_api.nodes.fields -= {"messages"}
    world.simulator.twilio_api.nodes.account_status = "suspended"
    wrong = await found(world, database_url, tmp_path, **base | {"meta_app_id": "1"})
    assert levels(wrong, "meta_token_invalid", "twilio_account_inactive") == ["fail"] * 2
    world.simulator.meta_api.is_revoked = False
    wrong = await found(world, database_url, tmp_path, **base)
    assert levels(wrong, "fields_missing", "webhook_elsewhere") == ["fail"] * 2

    # URLs that lead elsewhere.
    async with server(await answers(200)) as other:
        elsewhere = f"http://127.0.0.1:{other}"
        wrong = await found(world, database_url, tmp_path, **base | {"public_url": f"{elsewhere}/hub"})
        assert levels(wrong, "public_url_port", "public_url_elsewhere") == ["fail"] * 2
        sites = {"link_base_url": elsewhere, "site_domains": ("shop.example",)}
        wrong = await found(world, database_url, tmp_path, **base | sites)
        assert levels(wrong, "link_host_elsewhere", "link_host_foreign") == ["fail", "warn"]
    wrong = await found(world, database_url, tmp_path, **base | {"public_url": "http://127.0.0.1:1"})
    assert levels(wrong, "public_url_unreachable") == ["fail"]
    wrong = await found(world, database_url, tmp_path, **base | {"meta_verify_token": "another"})
    assert levels(wrong, "public_url_other_hub") == ["fail"]
    wrong = await found(world, database_url, tmp_path, **base | {"link_base_url": "http://go.shop.invalid"})
    assert levels(wrong, "link_host_unreachable", "link_host_not_https", "site_domains_missing") == [
        "fail",
        "fail",
        "warn",
    ]

    # Certificates: taken but soon over, over, of nobody's.
    for days, code in ((3, "certificate_expiring"), (-1, "certificate_invalid"), (90, "certificate")):
        root, context = certificates(tmp_path, days)
        monkeypatch.setenv("SSL_CERT_FILE", str(root))
        async with server(await answers(200), context) as port_of:
            seen = await check_reach._certificate("127.0.0.1", port_of, ssl.create_default_context())
        assert seen is not None
        assert (seen.code, bool(seen.cure)) == (code, days < 14)


def test_what_the_settings_and_the_machine_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def codes(**more: Any) -> dict[str, str]:
        made = settings_for(_simulator(), None, more.pop("data_dir", tmp_path), **{"port": 8080, **more})
        return {each.code: each.level for each in check_config.look(made)}

    assert codes(roles=("gateway",))["roles_embedded"] == "fail"
    assert "roles_embedded" not in codes()
    assert codes(public_url="http://localhost:9999")["public_url_port"] == "fail"
    assert codes(public_url="https://x.example/hub")["public_url_path"] == "warn"
    links = {"link_base_url": "https://go.shop.example", "site_domains": ("shop.example",)}
    assert codes(**links)["links"] == "ok"
    assert codes(**links, collector_base_url="https://c.other.example")["collector_foreign"] == "warn"
    assert codes(**links | {"public_url": "https://go.shop.example"})["link_host_shared"] == "warn"
    assert codes(site_domains=("shop.example",))["links_off"] == "warn"
    memory = Path("/dev/shm") / "partyline-check"
    assert codes(data_dir=memory)["data_dir_volatile"] == "fail"
    assert not memory.exists()
    monkeypatch.setattr(check_config.resource, "getrlimit", lambda _: (1024, 4096))
    assert codes()["few_files"] == "warn"
    for free, code in ((10 * 1024**2, "disk_full"), (500 * 1024**2, "disk_nearly_full"), (10 * 1024**3, "disk")):
        usage = SimpleNamespace(free=free, total=100 * 1024**3 if code != "disk" else 20 * 1024**3)
        monkeypatch.setattr(shutil, "disk_usage", lambda _, usage=usage: usage)
        assert code in codes()


def _simulator() -> Any:
    return SimpleNamespace(
        meta_app_secrets=["s"], meta_verify_token="v", meta_access_token="t", url="http://127.0.0.1:1",
        twilio_account_sid="AC1", twilio_auth_token="t",
    )  # fmt: skip


async def test_json_is_a_document_a_finding(tmp_path: Path) -> None:
    env = environment(data_dir=tmp_path / "data", database_url="postgresql://x@127.0.0.1:1/none", port=0)
    result = await does("check", "--json", env=env)
    documents: Sequence[dict[str, str]] = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 1
    assert all(set(each) == {"code", "check", "level", "found", "cure"} for each in documents)
    assert ("database_unreachable", "fail") in {(each["code"], each["level"]) for each in documents}

"""`/t.js`: what it may weigh and hold, and how it is served."""

import gzip
import re
import tomllib
import zlib
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from examples.shop import hub as shop
from hub.domain.errors import Invalid
from hub.domain.site_signature import SignedIdentify, sign, verify
from hub.domain.tracking import ConsentMode, Tracking
from hub.http import tracker
from hub.http.context import CONTEXT
from hub.http.tracker import script_for, takes_gzip

ROOT = Path(__file__).parents[2]
MODES = get_args(ConsentMode)


@pytest.mark.parametrize("mode", MODES)
def test_it_is_under_three_kilobytes(mode: ConsentMode) -> None:
    script = script_for(mode)
    assert len(script.compressed) < 3000
    assert gzip.decompress(script.compressed) == script.plain
    proxy = zlib.compressobj(6, zlib.DEFLATED, 31)  # the usual level of proxies that compress by themselves
    assert len(proxy.compress(script.plain) + proxy.flush()) < 3000


def test_each_mode_is_filled_in_once() -> None:
    texts = {mode: script_for(mode).plain.decode() for mode in MODES}
    for mode, text in texts.items():
        assert text.count(f'const MODE = "{mode}";') == 1
    assert len({script_for(mode).tag for mode in MODES}) == len(MODES)


def test_it_runs_under_a_strict_content_security_policy() -> None:
    text = script_for("required").plain.decode()
    for word in ("eval", "Function(", "innerHTML", "outerHTML", "document.write", "insertAdjacent", "createElement"):
        assert word not in text
    assert not re.search(r"setTimeout\(\s*[\"'`]", text)


def test_it_knows_no_host_but_the_one_it_came_from() -> None:
    text = script_for("required").plain.decode()
    assert not re.search(r"(?<!:)//(?! )|https?:|[\"'`]//|\b(?:import|require)\b *\(", text)
    assert len(re.findall(r"\bfetch\(|sendBeacon\?\.\(|XMLHttpRequest|WebSocket|EventSource|Image\(", text)) == 2
    assert text.count("new URL(") == 1


def test_an_installed_hub_has_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["package-data"]["hub.http"] == ["*.js", "docs/*"]


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        ("", False), ("gzip", True), ("GZIP", True), ("gzip, deflate, br, zstd", True), ("br;q=1, gzip;q=0.8", True),
        ("gzip;q=0", False), ("gzip; q=0.000", False), ("gzip;q=0.001", True), ("*", True), ("*;q=0", False),
        ("identity", False), ("br", False), ("x-gzip", False),
    ],
)  # fmt: skip
def test_gzip_goes_to_who_takes_it(header: str, taken: bool) -> None:
    assert takes_gzip(header) is taken


async def test_how_it_is_served() -> None:
    app = web.Application()
    app[CONTEXT] = SimpleNamespace(tracking=Tracking(consent="implied"))  # type: ignore[assignment]
    tracker.add_routes(app)
    async with TestClient(TestServer(app), auto_decompress=False) as client:
        plain = await client.get("/t.js", headers={"Accept-Encoding": "identity"})
        assert plain.status == 200
        assert plain.headers["Content-Type"] == "text/javascript; charset=utf-8"
        assert plain.headers["Cache-Control"] == "public, max-age=3600"
        assert plain.headers["X-Content-Type-Options"] == "nosniff"
        assert plain.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
        assert "Content-Encoding" not in plain.headers
        assert 'const MODE = "implied";' in await plain.text()
        packed = await client.get("/t.js", headers={"Accept-Encoding": "gzip"})
        assert packed.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(await packed.read()) == await plain.read()
        assert "Accept-Encoding" in packed.headers["Vary"]
        assert packed.headers["ETag"] != plain.headers["ETag"]
        for first, accepts in ((plain, "identity"), (packed, "gzip")):
            for known in (first.headers["ETag"], f'"other", W/{first.headers["ETag"]}', "*"):
                again = await client.get("/t.js", headers={"Accept-Encoding": accepts, "If-None-Match": known})
                assert (again.status, await again.read()) == (304, b"")
                assert again.headers["ETag"] == first.headers["ETag"]
        changed = await client.get("/t.js", headers={"If-None-Match": '"older"'})
        assert changed.status == 200
        head = await client.head("/t.js")
        assert (head.status, await head.read()) == (200, b"")


# What backends sign ---------------------------------------------------------------------------------------------------

GUIDE = (ROOT / "docs" / "tracker.md").read_text()


def test_the_guide_and_the_shop_sign_what_the_hub_takes() -> None:
    code = next(code for code in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL) if "def signed" in code)
    names: dict[str, Any] = {}
    exec(code, names)  # what a reader copies
    for sign_it in (names["signed"], shop.signed):
        for given in ({"email": "mia@example.com"}, {"phone": "+4915112345678", "consents": ["sms", "email"]}, {}):
            made = SignedIdentify(**sign_it("secret", "HANDLE", **given))
            verify(["other", "secret"], made, datetime.now(UTC))
            with pytest.raises(Invalid):
                verify(["other"], made, datetime.now(UTC))


def test_the_guides_example_is_right() -> None:
    secret, handle, at, nonce, email, phone, *consents = re.findall(r"`([^`]+)`", GUIDE.split("To check one")[1])[:8]
    said = SignedIdentify(handle, int(at), nonce, "", email, phone, consents)
    assert f"`{sign(secret, said)}`." in GUIDE

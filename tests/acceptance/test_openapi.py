"""The API is what its document says: tried with requests made of the document. `make soak` makes many more.

That every answer of every other test fits the document is seen to by `tests/support/contract.py`.
"""

import json
from collections.abc import Mapping
from typing import Any

from tests.support import fuzz
from tests.support.world import ADMIN, Open, World

LINKS = {"link_base_url": "https://l.shop.example", "site_domains": ("shop.example",)}


async def test_h1_no_request_finds_a_5xx_or_an_undocumented_answer(open_world: Open) -> None:
    town = await fuzz.settle(await open_world(**LINKS))
    requests = 0
    for who in ("service", "operator", "open"):
        found = await town.attack(who, max_examples=1, phases=("fuzzing",))
        assert not found.problems, "\n\n".join(found.problems)
        requests += found.requests
    assert requests > 100


async def get(world: World, path: str, key: str | None = None, **headers: str) -> tuple[int, Mapping[str, str], bytes]:
    """GET without following."""
    auth = {"Authorization": f"Bearer {key}"} if key else {}
    url = world.hub.url + path
    async with world.session.get(url, headers=auth | headers, allow_redirects=False) as answer:
        return answer.status, answer.headers, await answer.read()


async def test_the_document_and_the_pages_are_there_for_those_who_may_read(hub_world: World) -> None:
    status, headers, body = await get(hub_world, "/openapi.json")
    assert (status, json.loads(body)["openapi"]) == (200, "3.1.0")
    status, _, body = await get(hub_world, "/openapi.json", **{"If-None-Match": headers["ETag"]})
    assert (status, body) == (304, b"")
    crm = await hub_world.service("crm")
    for key in (ADMIN, crm.key):
        for path in ("/docs", "/docs/errors", "/docs/adr/0001-embedded-postgresql"):
            status, headers, body = await get(hub_world, path, key)
            assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8"), path
            assert headers["Content-Security-Policy"].startswith("default-src 'none'")
            assert b"<script" not in body
            assert b" style=" not in body
    status, _, body = await get(hub_world, "/docs/errors", crm.key)
    assert b'<h3 id="not_parent">' in body
    status, headers, _ = await get(hub_world, "/docs/errors", Accept="text/html")
    assert (status, headers["Location"]) == (303, "/console/login?next=/docs/errors")
    assert (await get(hub_world, "/docs"))[0] == 401
    assert (await get(hub_world, "/docs", "plk_wrong"))[0] == 401
    for path in ("/docs/nowhere", "/docs/../README", "/docs/%2e%2e/README", "/docs/adr/..%2f..%2fREADME"):
        assert (await get(hub_world, path, ADMIN))[0] == 404, path


async def test_open_documents_need_no_key(open_world: Open) -> None:
    world = await open_world(open_docs=True)
    assert (await get(world, "/docs"))[0] == 200
    assert (await get(world, "/docs/rules"))[0] == 200


async def test_what_a_path_does_not_know_is_told_with_what_it_does(hub_world: World) -> None:
    for method in ("PUT", "PATCH", "TRACE", "OPTIONS"):
        answer: Any = await hub_world.call(method, "/v1/conversations")
        assert (answer.status, answer.json["code"]) == (405, "method_not_allowed")
        assert set(answer.headers["Allow"].replace(" ", "").split(",")) == {"GET", "HEAD"}
    status, _, body = await get(hub_world, "/v1/nowhere", ADMIN)
    assert (status, json.loads(body)["code"]) == (404, "not_found")

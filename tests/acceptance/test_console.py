"""The console over HTTP: who gets in and how long, forms, what each may see, headers, and hints that pages are old."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from hub.store import console_sessions
from tests.support.console_forms import Visitor, log_in
from tests.support.talk import MIA, writes
from tests.support.world import ADMIN, Open, Service, World

SECRET = "Between the two of us"
CSP = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
GUARDS = {
    "Content-Security-Policy": CSP, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY", "Cache-Control": "no-store",
}  # fmt: skip


async def fetch(world: World, method: str, path: str, **more: Any) -> tuple[int, Any, str]:
    """One request of the console's, without following: status, headers, text."""
    url = world.hub.url + path
    async with world.session.request(method, url, allow_redirects=False, **more) as answer:
        return answer.status, answer.headers, await answer.text()


async def enter(world: World, key: str, **more: Any) -> tuple[int, Any, str]:
    """Post the login form."""
    return await fetch(world, "POST", "/console/login", data={"key": key}, **more)


def token_in(page: str) -> str:
    """The CSRF token of a page's forms."""
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found, page
    return found[1]


# In and out -----------------------------------------------------------------------------------------------------------


async def test_h3_the_way_in_and_out(hub_world: World) -> None:
    world = hub_world
    status, headers, _ = await fetch(world, "GET", "/console/search?q=Mia%20K")
    assert (status, headers["Location"]) == (303, "/console/login?next=/console/search%3Fq%3DMia%2520K")
    _, _, page = await fetch(world, "GET", headers["Location"])
    assert '<input type="hidden" name="next" value="/console/search?q=Mia%20K">' in page
    assert "PARTYLINE_ADMIN_KEY" in page

    status, headers, page = await enter(world, "plk_nobody-has-this")
    assert (status, "Set-Cookie" in headers, "plk_nobody" in page) == (401, False, False)

    planted = {"Cookie": f"__Host-partyline={'A' * 43}"}
    status, headers, _ = await enter(world, ADMIN, headers=planted)
    cookie, *attributes = headers["Set-Cookie"].split("; ")
    assert (status, headers["Location"]) == (303, "/console")
    assert cookie.startswith("__Host-partyline=")
    assert "A" * 43 not in cookie
    assert set(attributes) == {"Secure", "HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=28800"}

    mine = {"Cookie": cookie}
    status, _, page = await fetch(world, "GET", "/console", headers=mine)
    assert status == 200
    assert ADMIN not in page
    assert cookie.split("=")[1] not in page
    status, headers, _ = await fetch(world, "GET", "/console/login?next=/console/numbers", headers=mine)
    assert (status, headers["Location"]) == (303, "/console/numbers")

    again = (await enter(world, ADMIN, headers=mine))[1]["Set-Cookie"].partition(";")[0]
    assert again != cookie
    assert (await fetch(world, "GET", "/console", headers=mine))[0] == 303  # the earlier session is over
    mine = {"Cookie": again}

    data = {"csrf": token_in((await fetch(world, "GET", "/console", headers=mine))[2])}
    status, headers, _ = await fetch(world, "POST", "/console/logout", headers=mine, data=data)
    assert (status, headers["Location"]) == (303, "/console/login")
    assert "Max-Age=0" in headers["Set-Cookie"]
    assert (await fetch(world, "GET", "/console", headers=mine))[0] == 303


async def test_h3_no_way_out_of_the_console_and_none_in_by_a_bearer(hub_world: World) -> None:
    for onward, expected in {
        "/console/numbers": "/console/numbers", "/docs/errors": "/docs/errors", "//evil.example": "/console",
        "https://evil.example/console": "/console", "/\\evil.example": "/console", "/v1/numbers": "/console",
    }.items():  # fmt: skip
        data = {"key": ADMIN, "next": onward}
        status, headers, _ = await fetch(hub_world, "POST", "/console/login", data=data)
        assert (status, headers["Location"]) == (303, expected)
    bearer = {"Authorization": f"Bearer {ADMIN}"}
    assert (await fetch(hub_world, "GET", "/console", headers=bearer))[0] == 303
    status, _, page = await fetch(hub_world, "POST", "/console/login", json={"key": ADMIN})
    assert (status, "this takes a form" in page) == (422, True)


async def test_h4_ten_wrong_keys_a_minute_from_one_address(open_world: Open) -> None:
    world = await open_world(trusted_proxies=("127.0.0.0/8",), public_url="http://hub.example.com")
    guesser, other = {"X-Forwarded-For": "198.51.100.7"}, {"X-Forwarded-For": "198.51.100.8"}
    answers = await asyncio.gather(*(enter(world, f"plk_guess-{n}", headers=guesser) for n in range(14)))
    assert sorted(status for status, _, _ in answers) == [401] * 10 + [429] * 4
    status, headers, page = await enter(world, ADMIN, headers=guesser)
    assert status == 429
    assert 1 <= int(headers["Retry-After"]) <= 60
    assert "rule H4" in page
    status, headers, _ = await enter(world, ADMIN, headers=other)
    assert status == 303
    cookie, *attributes = headers["Set-Cookie"].split("; ")
    assert cookie.startswith("partyline_session=")
    assert "Secure" not in attributes


async def test_h3_a_session_ends_with_its_time_its_key_and_its_service(hub_world: World) -> None:
    world = hub_world
    helpdesk = await world.service("helpdesk")
    operator, own = await log_in(world), await log_in(world, helpdesk.key)
    assert (await own.get("/console")).status == 200

    # The service's rights are those of now.
    await world.call("PATCH", f"/v1/admin/services/{helpdesk.id}", {"scopes": ["reply"]})
    page = await own.get("/console")
    assert page.status == 403
    assert "lacks the scope" in page.text
    await world.call("PATCH", f"/v1/admin/services/{helpdesk.id}", {"scopes": ["read"]})
    assert (await own.get("/console")).status == 200

    async with world.hub.database.transaction() as conn:  # eight hours later; whatever was looked at meanwhile
        lasts = "select max(expires_at - created_at) from console_session"
        assert await conn.fetchval(lasts) == timedelta(hours=8)
        await conn.execute("update console_session set expires_at = now() where operator_proof is not null")
    assert "API key" in (await operator.get("/console/numbers")).text
    async with world.hub.database.transaction() as conn:
        assert await console_sessions.prune_sessions(conn) == 1
        assert await console_sessions.prune_sessions(conn) == 0

    async with following(world, own) as stream:
        await stream.hears("*")
        keys = (await world.call("GET", f"/v1/admin/services/{helpdesk.id}/keys")).json["items"]
        await world.call("DELETE", f"/v1/admin/services/{helpdesk.id}/keys/{keys[0]['id']}")
        await stream.ends()
    assert (await fetch(world, "GET", "/console", headers={"Cookie": own.cookie}))[0] == 303
    assert (await fetch(world, "GET", "/console/live", headers={"Cookie": own.cookie}))[0] == 401


async def test_h3_an_operator_s_session_ends_with_the_operator_s_key(open_world: Open) -> None:
    world = await open_world()
    operator = await log_in(world)
    async with world.hub.database.transaction() as conn:
        kept = await conn.fetchrow("select * from console_session")
        assert ADMIN.encode() not in b"".join(v for v in kept.values() if isinstance(v, bytes))
        await conn.execute("update console_session set operator_proof = $1", b"of another key".ljust(32))
    assert (await fetch(world, "GET", "/console", headers={"Cookie": operator.cookie}))[0] == 303


# Forms ----------------------------------------------------------------------------------------------------------------


async def test_h3_forms_are_taken_from_our_own_pages_only(hub_world: World) -> None:
    world = hub_world
    visitor = await log_in(world)
    csrf = (await visitor.get("/console")).form("/console/logout").fields["csrf"]
    own = f"http://{urlsplit(world.hub.url).netloc}"
    for data, headers in (
        ({}, {}),
        ({"csrf": "x"}, {}),
        ({"csrf": csrf + "x"}, {}),
        ({"csrf": csrf}, {"Sec-Fetch-Site": "cross-site"}),
        ({"csrf": csrf}, {"Sec-Fetch-Site": "same-site"}),
        ({"csrf": csrf}, {"Origin": "https://evil.example"}),
        ({"csrf": csrf}, {"Origin": "http://[bad"}),
        ({"csrf": csrf}, {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"}),
    ):
        page = await visitor.post("/console/logout", data, **headers)
        assert page.status == 403, (data, headers)
        assert {name: page.headers[name] for name in GUARDS} == GUARDS
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert (await enter(world, ADMIN, headers=headers))[0] == 403
    assert (await visitor.get("/console")).status == 200
    headers = {"Origin": own, "Sec-Fetch-Site": "same-origin"}
    page = await visitor.post("/console/logout", {"csrf": csrf}, follow=False, **headers)
    assert page.status == 303
    other = await log_in(world)
    assert (await other.post("/console/logout", {"csrf": csrf})).status == 403  # of another session


# What each may see ----------------------------------------------------------------------------------------------------


async def test_c1_a_service_sees_its_reach_and_masked_entries(hub_world: World) -> None:
    world = hub_world
    helpdesk, crm = await world.connected("helpdesk", "crm")
    stranger = await world.service("stranger")
    await stranger.connect("+15550002222")
    conversation = await writes(world.customer(MIA), helpdesk, crm)
    sent = (await crm.reply(conversation, SECRET, agent="Chris", query="?wait=5")).json["message"]
    event = (await helpdesk.endpoint.hears("message.queued"))[0].data["event_id"]
    paths = [f"/console/conversations/{conversation}", f"/console/messages/{sent['id']}", f"/console/events/{event}"]
    lists = ["/console", "/console/conversations", f"/console/search?q={sent['id']}"]

    desk, author, foreign, operator = [await log_in(world, key) for key in (helpdesk.key, crm.key, stranger.key, ADMIN)]
    for path in paths + lists:
        for visitor in (desk, operator):
            page = await visitor.get(path)
            assert page.status == 200, path
            assert SECRET not in page.html, path
        page = await author.get(path)
        assert (page.status, SECRET in page.html) == (200, path != "/console"), path
    for path in paths:
        page = await foreign.get(path)
        assert (page.status, "chris" in page.text.lower()) == (404, False), path
    for path in lists:
        page = await foreign.get(path)
        assert (page.status, conversation in page.html, "Mia" in page.html) == (200, False, False), path
    assert "masked" in (await desk.get(paths[0])).text

    # In full for a reason, which is written down; by nobody but the operator.
    place = f"{paths[1]}/reveal"
    shown = await operator.fill(paths[1], place, {"reason": "the customer asked"})
    assert (shown.status, SECRET in shown.html) == (200, True)
    rows = (await world.call("GET", "/v1/admin/audit?limit=200")).json["items"]
    (row,) = [row for row in rows if row["action"] == "message.revealed"]
    assert (row["subject"], row["details"]["reason"]) == (sent["id"], "the customer asked")
    assert SECRET not in (await operator.get(place)).html  # its address leads back
    refused = await operator.fill(paths[1], place, {"reason": "  "})
    assert refused.status == 200
    assert "Not done." in refused.text
    assert SECRET not in refused.html
    assert "Not done." not in (await operator.get(paths[1])).text  # said once
    csrf = (await desk.get("/console")).form("/console/logout").fields["csrf"]
    page = await desk.post(place, {"csrf": csrf, "reason": "curious", "back": paths[1]})
    assert "operator" in page.text
    assert SECRET not in page.html
    rows = (await world.call("GET", "/v1/admin/audit?limit=200")).json["items"]
    assert len([row for row in rows if row["action"] == "message.revealed"]) == 1


async def test_every_answer_of_the_console_is_guarded(open_world: Open) -> None:
    world = await open_world(link_base_url="https://go.example.com")
    helpdesk = (await world.connected("helpdesk"))[0]
    operator, own = await log_in(world), await log_in(world, helpdesk.key)
    nothing = "cnv_" + "0" * 32
    paths = {
        "/console": 200, "/console/login": 303, "/console/conversations": 200, "/console/search": 200,
        "/console/search?q=%00": 200, f"/console/search?q={'x' * 300}": 422, "/console/nowhere": 404,
        f"/console/conversations/{nothing}": 404, "/console/conversations/%3Cscript%3E": 404,
        "/console/conversations?before=x": 422, "/console/conversations?show=x": 422, "/console/messages/1": 404,
        "/console/events/evt_1": 200, "/console/events/evt_zz": 404, "/console/events/evt_ffff": 404,
        "/console/static/nothing.css": 404,
    }  # fmt: skip
    for path, expected in paths.items():
        status, headers, text = await fetch(world, "GET", path, headers={"Cookie": operator.cookie})
        assert status == expected, path
        if not path.startswith("/console/static"):
            assert {name: headers[name] for name in GUARDS} == GUARDS, path
            assert "Traceback" not in text
            assert "<script>" not in text
    page = await own.get("/console/quarantine")
    assert page.status == 403
    assert "operator" in page.text
    assert "/console" in page.links
    html = (await operator.get("/console")).html
    assert "Register a number" not in html
    assert "Register a service" not in html
    for url in set(re.findall(r'"(/console/static/[^"]+)"', html)):
        status, headers, _ = await fetch(world, "GET", url)
        assert (status, headers["Cache-Control"]) == (200, "public, max-age=31536000, immutable")
    for path in ("/console", "/console/login", "/console/live"):
        assert (await fetch(world, "GET", path, headers={"Host": "go.example.com"}))[0] == 421


# Live -----------------------------------------------------------------------------------------------------------------


class Stream:
    """An open stream of hints."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        self.seen: set[str] = set()

    async def _line(self) -> str:
        async with asyncio.timeout(10):
            return (await self._answer.content.readline()).decode().strip()

    async def hears(self, topic: str) -> set[str]:
        """Wait for a topic; gives all that were heard until then."""
        while topic not in self.seen:
            line = await self._line()
            assert line or not self._answer.content.at_eof(), "the stream ended"
            if line.startswith("data: "):
                self.seen |= set(line.removeprefix("data: ").split())
        return self.seen

    async def ends(self) -> None:
        """Wait until the hub says that the session is over, and closes."""
        while (line := await self._line()) != "event: end":
            assert line or not self._answer.content.at_eof()
        while not self._answer.content.at_eof():
            await self._line()


@asynccontextmanager
async def following(world: World, visitor: Visitor, query: str = "") -> AsyncIterator[Stream]:
    """The stream of somebody who is logged in."""
    headers = {"Cookie": visitor.cookie}
    async with world.session.get(f"{world.hub.url}/console/live{query}", headers=headers) as answer:
        assert (answer.status, answer.content_type) == (200, "text/event-stream"), await answer.text()
        yield Stream(answer)


async def spoken(service: Service, text: str) -> str:
    """The conversation in which Mia says this."""
    return await writes(service.world.customer(MIA), service, text=text)


async def test_a4_hints_name_what_one_may_see_and_nothing_else(hub_world: World) -> None:
    world = hub_world
    helpdesk, crm = await world.connected("helpdesk", "crm")
    stranger = await world.service("stranger")
    await stranger.connect("+15550002222")
    conversation = await spoken(helpdesk, "Hello")
    visitors = [await log_in(world, key) for key in (ADMIN, helpdesk.key, stranger.key)]
    async with (
        following(world, visitors[0]) as operator,
        following(world, visitors[1], f"?topics=conversation:{conversation},quarantine") as own,
        following(world, visitors[2]) as foreign,
    ):
        for stream in (operator, own, foreign):
            await stream.hears("*")
        sent = (await crm.reply(conversation, SECRET)).json["message"]["id"]
        assert await own.hears(f"conversation:{conversation}") == {"*", f"conversation:{conversation}"}
        await operator.hears(f"message:{sent}")
        await operator.hears(f"conversation:{conversation}")
        await operator.hears("deliveries")
        # Somebody else's are told to somebody else; what comes after is heard, so nothing else was on the way.
        await stranger.call("POST", "/v1/numbers/+15550002222/connection/pause")
        heard = await foreign.hears("roster")
        assert not {topic for topic in heard if topic.startswith(("conversation", "message", "contact"))}
        assert "quarantine" not in own.seen


async def test_a_session_follows_few_pages_at_once(hub_world: World) -> None:
    visitor = await log_in(hub_world)
    headers = {"Cookie": visitor.cookie}
    async with asyncio.timeout(20):
        answers = [await hub_world.session.get(f"{hub_world.hub.url}/console/live", headers=headers) for _ in range(7)]
        assert [answer.status for answer in answers] == [200] * 6 + [429]
        for answer in answers:
            answer.close()
        while True:  # their places are free again as soon as it is noticed that they went
            again = await hub_world.session.get(f"{hub_world.hub.url}/console/live", headers=headers)
            again.close()
            if again.status == 200:
                break
            await asyncio.sleep(0.05)

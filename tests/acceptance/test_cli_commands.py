"""`partyline trace | tail | replay | verify | completion` against a hub that runs, with the operator's and a service's
key: what they print, on which stream, and how they end.
"""

import asyncio
import json
import re
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner

from hub.__main__ import main
from hub.commands import following
from hub.commands.following import find_last, frames
from tests.support.commands import does, environment, partyline, running, said
from tests.support.talk import MIA, ends, writes
from tests.support.wire import until
from tests.support.world import ADMIN, NUMBER, World


def lines(text: str) -> list[Any]:
    """JSON documents, one a line."""
    return [json.loads(line) for line in text.splitlines()]


async def test_trace_tail_and_replay(hub_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["hub.commands.replay"], "_LOOKS", 0.02)
    monkeypatch.setattr(following, "_LOOKS", 0.02)
    world, url = hub_world, hub_world.hub.url
    crm, helpdesk = await world.connected("crm", "helpdesk")
    operator = {"PARTYLINE_URL": url, "PARTYLINE_ADMIN_KEY": ADMIN}
    service = {"PARTYLINE_URL": url, "PARTYLINE_KEY": crm.key}
    conversation = await writes(world.customer(MIA), crm, helpdesk, text="Hello \x1b[31mred")
    sent = (await crm.reply(conversation, "A secret of the crm's")).json["message"]["id"]
    await ends(crm, sent, "read")

    # trace: a table, whole lines however long; JSON; each key sees its own.
    result = await does("trace", sent, env=service)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "A secret of the crm's" in result.stdout
    assert re.search(r"provider_call +│ attempt 1: the provider took it after \d+ ms", result.stdout)
    assert not re.search("\x1b", result.stdout)
    masked = await does("trace", sent, env=operator)
    assert "A secret" not in masked.stdout
    assert "helpdesk" in masked.stdout
    (document,) = lines((await does("trace", sent, "--json", env=operator)).stdout)
    assert document["id"] == sent
    received = crm.endpoint.of("message.received")[0].data["message"]["id"]
    assert "\x1b" not in (await does("trace", received, env=service)).stdout
    assert f"{sent}: text by agent of crm, read" in (await does("trace", conversation, env=service)).stdout

    # tail: those since, then as they come; filtered; as JSON.
    began = datetime(2020, 1, 1, tzinfo=UTC).isoformat()
    for env in (operator, service):
        result = await does("tail", "--since", began, "--type", "message.received", "--count", "1", "--json", env=env)
        assert result.exit_code == 0, result.output
        (event,) = lines(result.stdout)
        assert (event["type"], event["data"]["number"]) == ("message.received", NUMBER)
        task = asyncio.create_task(
            does("tail", "--count", "1", "--number", NUMBER, "--type", "message.received", env=env)
        )
        while not task.done():  # it hears only of what comes once it listens
            await world.customer(MIA).says("Later")
            await asyncio.wait([task], timeout=0.1)
        result = await task
        assert re.match(r"\d\d:\d\d:\d\d message.received +\+15550001111 +cnv_\w{32} Mia: Later\n$", result.stdout)
    result = await does(
        "tail", "--since", began, "--service", "crm", "--type", "message.queued", "--count", "1", "--json", env=operator
    )
    assert lines(result.stdout)[0]["data"]["message"]["author"]["name"] == "crm"

    # replay: of one's own; of a service by the operator; what is not there.
    event_id = crm.endpoint.of("message.received")[0].data["event_id"]
    before = len(crm.endpoint.of("message.received"))
    result = await does("replay", event_id, env=service)
    assert result.exit_code == 0, result.output
    assert re.search(r"state +│ finished", result.stdout)
    assert re.search(r"delivered +│ 1 ", result.stdout)
    await until(lambda: len(crm.endpoint.of("message.received")) > before)
    result = await does("replay", "--from", event_id, "--service", helpdesk.id, "--json", env=operator)
    assert lines(result.stdout)[0]["state"] == "finished"
    result = await does("replay", "--failed", "--no-wait", "--json", env=service)
    assert (result.exit_code, lines(result.stdout)[0]["state"] in {"running", "finished"}) == (0, True)

    # What goes wrong is said on standard error, with its exit code.
    for words, env, code, text in (
        (("replay", event_id), operator, 1, "say for which service"),
        (("replay", event_id, "--service", crm.id), service, 1, "--service is for the operator's key"),
        (("replay",), service, 1, "say which events in one way"),
        (("trace", "msg_nothing"), service, 1, "not_found"),
        (("trace", sent), service | {"PARTYLINE_KEY": "plk_wrong"}, 1, "unauthorized"),
        (("trace", sent, "--url", "http://127.0.0.1:1"), service, 3, "no hub answers at http://127.0.0.1:1"),
        (("trace", sent, "--url", crm.endpoint.url), service, 3, "no Partyline hub"),
        (("trace", sent, "--url", "nonsense"), service, 2, "is no URL"),
        (("tail", "--since", "yesterday"), service, 2, "is no time"),
        (("trace", sent), {"PARTYLINE_URL": url, "PARTYLINE_DATA_DIR": str(tmp_path)}, 1, "no key"),
    ):
        result = await does(*words, env=env)
        assert (result.exit_code, result.stdout) == (code, ""), (words, result.output)
        assert text in re.sub(r"\s*[│╭╰].*", "", result.stderr), (words, result.stderr)

    # Ctrl-C ends a tail, cleanly; whoever reads its output may go.
    async with running(*partyline("tail", "--since", began), env=environment(url=url, key=crm.key)) as tail:
        await tail.says("message.received")
        assert await tail.stop(signal.SIGINT) == 130
        assert "Traceback" not in tail.output
    piped = f"{' '.join(partyline('tail', '--since', began, '--type', 'message.received'))} | head -1"
    async with running("bash", "-c", f"set -o pipefail; {piped}; echo ended ${{PIPESTATUS[0]}}",
                       env=environment(url=url, key=crm.key)) as shell:  # fmt: skip
        await shell.says("message.received")
        await world.customer(MIA).says("For whom nobody reads")
        await shell.says("ended 0")
        assert "Traceback" not in shell.output


async def test_where_a_log_begins_is_found_by_halving() -> None:
    for size in (0, 1, 2, 7, 8, 1000):
        asked = []

        async def is_before(after: int, size: int = size) -> bool:
            asked.append(after)  # noqa: B023
            return after < size

        assert await find_last(is_before) == size
        assert len(asked) < 30


async def test_frames_of_a_stream() -> None:
    async def wire() -> Any:
        for line in (
            b"retry: 1\n",
            b": hello\n",
            b"\n",
            b"id: 7\n",
            b"event: a\n",
            b'data: {"x":1}\r\n',
            b"\n",
            b"id: 8\ndata: ",
            b"x" * 200_000,
            b"\n\nid: 9\n",
        ):
            yield line

    assert [frame async for frame in frames(wire())] == [("", "", ""), ("7", "a", '{"x":1}'), ("8", "", "x" * 200_000)]


async def test_a_tail_goes_on_over_a_hub_that_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is, whoever stands before it answers 502 or 503; an event may be as long as it likes; and a terminal may
    be one that cannot show all letters, which leaves JSON as it is.
    """
    monkeypatch.setattr(following, "_AGAIN", (0.01,))
    event = {"event_id": "evt_1", "type": "x", "timestamp": "2026-01-31T12:00:00Z", "data": {"text": "é" * 200_000}}
    frame = f"id: 1\ndata: {json.dumps(event)}\n\n"
    away, left = ({"code": code, "detail": "so"} for code in ("unavailable", "forbidden"))
    answers = [web.Response(status=502, text="<html>"), web.Response(text=frame), web.json_response(away, status=503),
               web.Response(text=frame), web.json_response(left, status=403)]  # fmt: skip

    async def stream(_: web.Request) -> web.Response:
        return answers.pop(0)

    async def numbers(request: web.Request) -> web.Response:
        return web.json_response({}, status=403 if "admin" in request.path else 200)

    async def life(_: web.Request) -> web.Response:
        message, nothing = {"text": "Żółć"}, dict.fromkeys(("conversation", "contact"))
        empty: dict[str, Any] = {name: [] for name in ("steps", "events", "gone", "also")}
        return web.json_response({"id": "msg_1", "message": message, **nothing, **empty})

    app = web.Application()
    app.add_routes([web.get("/v1/events/stream", stream), web.get("/v1/trace", life), web.get("/{path:.*}", numbers)])
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        env = {"PARTYLINE_URL": url, "PARTYLINE_KEY": "plk_x"}
        told = await does("tail", "--json", env=env)
        old = CliRunner(charset="ascii")
        table, document = [
            await asyncio.to_thread(old.invoke, main, ["trace", "msg_1", *more], env=env) for more in ((), ("--json",))
        ]
    finally:
        await runner.cleanup()
    assert lines(told.stdout) == [event, event]
    assert (told.exit_code, told.stderr.count("Trying again")) == (1, 2)
    assert (table.exit_code, "????" in table.stdout) == (0, True)
    assert json.loads(document.stdout_bytes)["message"]["text"] == "Żółć"


def test_verify_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hub.domain.signing import sign

    body, secret = b'{"type":"x","timestamp":"t","data":{}}', "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
    (tmp_path / "body").write_bytes(body)
    (tmp_path / "secret").write_text(f"{secret}\n")
    signature = sign([b"01234567890123456789012345678901"], "msg_1", 1_800_000_000, body)
    (tmp_path / "headers").write_text(
        f"POST /hook HTTP/1.1\nWebhook-Id: msg_1\nWebhook-Timestamp: 1800000000\nwebhook-signature: {signature}\n"
    )
    words = ["verify", "--headers", str(tmp_path / "headers"), "--at", "2027-01-15T08:00:00Z"]
    words += ["--secret-file", str(tmp_path / "secret")]
    code, output = said(*words, "--body", str(tmp_path / "body"))
    assert (code, output) == (0, "verifies: Standard Webhooks, as the hub signs what it posts to services\n")
    (tmp_path / "body").write_bytes(body + b"\n")
    code, output = said(*words, "--body", str(tmp_path / "body"), "--json")
    assert code == 1
    assert [each["code"] for each in json.loads(output)["findings"]] == ["body_line_ends"]
    code, output = said(*words, "--body", str(tmp_path / "body"))
    assert "a line break was added at the end" in output
    assert secret not in output
    (tmp_path / "noise").write_bytes(b"whsec_\xff\n")
    noise = ("verify", "--secret-file", str(tmp_path / "noise"), "--headers", str(tmp_path / "noise"))
    for wrong, status, text in (
        ((*noise, "-H", "webhook-signature: v1,x", "--body", str(tmp_path / "body")), 1, "does not verify"),
        (("verify", "--body", str(tmp_path / "none"), "-H", "webhook-id: 1", "--secret", "x"), 1, "No such file"),
        (("verify", "-H", "webhook-id: 1"), 1, "give the signing secret"),
        (("verify", "-H", "a: b"), 2, "no header of a signature"),
    ):
        code, output = said(*wrong)
        assert (code, text in output) == (status, True), output
    code, output = said(
        "verify", "-H", "X-Hub-Signature-256: sha256=" + "0" * 64, env={"PARTYLINE_META_APP_SECRETS": "s"}
    )
    assert (code, "wrong_secret" in output) == (1, True)
    code, output = said("verify", "-H", "X-Twilio-Signature: AAAA", env={"PARTYLINE_TWILIO_AUTH_TOKEN": "t"})
    assert (code, "url_differs" in output) == (1, True)


@pytest.mark.parametrize("shell", ["bash", "fish", "zsh"])
def test_completion_is_a_script(shell: str) -> None:
    code, output = said("completion", shell)
    assert (code, "_PARTYLINE_COMPLETE" in output) == (0, True)

"""Files: uploaded once, sent often, fetched by whoever has a signed address and by nobody else (rule E10)."""

import hashlib
import io
import os
from collections.abc import AsyncIterator
from pathlib import Path
from time import time
from typing import Any

import aiohttp
from aiohttp import MultipartWriter

from hub.domain.ids import parse_id
from hub.domain.kinds import MB
from hub.domain.media_links import MediaLinks
from providers.simulator import Fault
from tests.support.talk import MIA, ends, timeline, writes
from tests.support.wire import ask, raw_http
from tests.support.world import Answer, Service, World, world

PUBLIC = "https://hub.example.com"
PDF = b"%PDF-1.7 " + bytes(range(256)) * 300
AGENT = {"origin": "agent", "agent": {"id": "7", "name": "Ana"}}


async def upload(service: Service, data: Any, **headers: str) -> Answer:
    """Upload a file as the whole body; `filename` goes into the query."""
    path = "/v1/media" + (f"?filename={headers.pop('filename')}" if "filename" in headers else "")
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    session, url = service.world.session, service.world.hub.url
    body = io.BytesIO(data) if isinstance(data, bytes) else data
    auth = {"Authorization": f"Bearer {service.key}"}
    async with session.post(url + path, data=body, headers=auth | headers) as answer:
        return Answer(answer.status, await answer.json(), dict(answer.headers))


def form(*parts: tuple[bytes, str | None, str | None]) -> MultipartWriter:
    """A form with these files: bytes, type, name."""
    writer = MultipartWriter("form-data")
    for data, mime_type, name in parts:
        part = writer.append(data, {"Content-Type": mime_type} if mime_type else {})  # type: ignore[arg-type]
        part.set_content_disposition(
            "form-data", quote_fields=False, name="file", **({"filename": name} if name else {})
        )
    return writer


async def send(service: Service, conversation: str, kind: str, media: Any, **fields: Any) -> Answer:
    """Send files."""
    body = AGENT | {"type": kind, "media": media} | fields
    return await service.call("POST", f"/v1/conversations/{conversation}/messages", body)


def on_disk(folder: Path) -> list[Path]:
    """Every file below, finished or not."""
    return sorted(path for path in (folder / "media").rglob("*") if path.is_file())


async def test_e10_a_file_is_uploaded_once_and_sent_often(hub_world: World, database_url: str, tmp_path: Path) -> None:
    helpdesk, crm = await hub_world.connected("helpdesk", "crm")
    customer = hub_world.customer(MIA)
    conversation = await writes(customer, helpdesk, crm)
    made = await upload(crm, form((PDF, "application/pdf", "Übersicht.pdf")))
    sha256 = hashlib.sha256(PDF).hexdigest()
    media_id = made.json.pop("id")
    facts = {"mime_type": "application/pdf", "filename": "Übersicht.pdf", "size": len(PDF)}
    assert (made.status, made.json) == (201, facts | {"sha256": sha256})
    again = await upload(crm, PDF, Content_Type="application/pdf", filename="x/y.pdf")
    assert (again.status, again.json["filename"], again.json["sha256"]) == (201, "y.pdf", sha256)
    turned = await upload(crm, PDF, Content_Type="application/pdf", filename="a%E2%80%AEfdp.exe%C2%85.pdf")
    assert turned.json["filename"] == "afdp.exe.pdf"
    assert again.json["id"] != media_id
    (path,) = on_disk(tmp_path)
    assert (path.name, path.read_bytes(), path.stat().st_mode & 0o777) == (sha256, PDF, 0o600)
    assert path.parent.parent.stat().st_mode & 0o777 == 0o700

    for text in ("first", "second"):
        answer = await send(crm, conversation, "document", {"id": media_id}, text=text)
        assert answer.status == 202, answer
        assert answer.json["message"]["media"] == [{"id": media_id, **facts}]
        sent = await customer.hears()
        uploads = hub_world.simulator.uploads
        (kept,) = uploads.values()
        assert (kept.content, kept.mime_type, kept.filename) == (PDF, "application/pdf", "Übersicht.pdf")
        assert sent.body["document"] == {"id": kept.provider_id, "caption": text, "filename": "Übersicht.pdf"}
    (seen, _) = [item for item in await timeline(helpdesk, conversation) if item["direction"] == "outbound"]
    assert (seen["masked"], "media" in seen, "text" in seen) == (True, False, False)
    events = str([d.data for d in helpdesk.endpoint.deliveries])
    assert "sicht.pdf" not in events
    assert media_id not in events

    # What the provider is about to forget is uploaded anew; a name for one message goes with it.
    await ask(database_url, "update media_upload set expires_at = now() + interval '30 minutes'")
    answer = await send(crm, conversation, "document", {"id": media_id, "filename": "new.pdf"})
    assert answer.json["message"]["media"] == [{"id": media_id, **facts, "filename": "new.pdf"}]
    sent = await customer.hears()
    assert len(uploads) == 2
    assert sent.body["document"] == {"id": list(uploads)[1], "filename": "new.pdf"}

    # What the provider has forgotten before its time is uploaded anew, too, and the message goes once.
    await ask(database_url, "update media_upload set expires_at = expires_at - interval '1 hour'")
    hub_world.simulator.meta_api.extras.media.clear()
    answer = await send(crm, conversation, "document", {"id": media_id})
    sent = await customer.hears()
    assert (sent.hub_id, sent.body["document"]["id"]) == (answer.json["message"]["id"], next(iter(uploads)))

    # Another type than the one it was uploaded as, and another's upload.
    answer = await send(crm, conversation, "image", {"id": media_id})
    assert (answer.status, answer.json["code"]) == (422, "media_type_unsupported")
    answer = await send(helpdesk, conversation, "document", {"id": media_id})
    assert (answer.status, answer.json["code"]) == (422, "unknown_media")
    answer = await send(crm, conversation, "media", {"id": media_id})
    assert answer.json["message"]["type"] == "document"
    await customer.hears()

    path.unlink()
    await ask(database_url, "delete from media_upload")
    lost = await send(crm, conversation, "document", {"id": media_id})
    failed = await ends(crm, lost.json["message"]["id"], "failed")
    assert failed["error"]["code"] == "media_unavailable"


async def test_e8_an_upload_that_fails_is_tried_again_and_the_message_goes_once(hub_world: World) -> None:
    (crm,) = await hub_world.connected("crm")
    customer = hub_world.customer(MIA)
    conversation = await writes(customer, crm)
    media_id = (await upload(crm, PDF, Content_Type="application/pdf")).json["id"]
    simulator = hub_world.simulator
    simulator.fail_next_asked(Fault.bare(502, taken=True))
    answer = await send(crm, conversation, "document", {"id": media_id})
    sent = await customer.hears()
    assert sent.hub_id == answer.json["message"]["id"]
    assert len(simulator.attempts) == 1
    assert sent.body["document"]["id"] == list(simulator.uploads)[-1]
    simulator.fail_next_asked(Fault.refused(131053))
    other = (await upload(crm, PDF, Content_Type="application/pdf")).json["id"]
    answer = await send(crm, conversation, "document", {"id": other})
    failed = await ends(crm, answer.json["message"]["id"], "failed")
    assert failed["error"]["code"] == "media_unavailable"
    assert len(simulator.attempts) == 1


async def test_e10_twilio_fetches_a_file_at_a_signed_address(hub_world: World, tmp_path: Path) -> None:
    (crm,) = await hub_world.connected("crm")
    customer = hub_world.customer(MIA, provider="twilio", medium="sms")
    conversation = await writes(customer, crm)
    picture = b"\x89PNG" + os.urandom(300_000)
    first = await upload(crm, picture, Content_Type="image/png", filename="b%C3%BC%22%0D%0Ad.png")
    second = await upload(crm, PDF, filename="a.pdf", Content_Type="application/octet-stream")
    files = [{"id": first.json["id"]}, {"id": second.json["id"]}, {"url": "https://x.org/c.png"}]
    answer = await send(crm, conversation, "media", files, text="three")
    assert (answer.status, answer.json["message"]["type"]) == (202, "image")
    *signed, foreign = (await customer.hears()).body["MediaUrl"]
    assert foreign == "https://x.org/c.png"

    async def get(url: str, method: str = "GET", **headers: str) -> tuple[int, Any, bytes]:
        address = url.replace(PUBLIC, hub_world.hub.url)
        async with aiohttp.request(method, address, headers=headers) as found:
            return found.status, found.headers, await found.read()

    for url, content, mime_type, name in (
        (signed[0], picture, "image/png", "b_d.png"),
        (signed[1], PDF, "application/pdf", "a.pdf"),
    ):
        assert url.startswith(f"{PUBLIC}/media/med_")
        status, headers, body = await get(url)
        assert (status, body, headers["Content-Type"]) == (200, content, mime_type)
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Disposition"].startswith(f'attachment; filename="{name}"; filename*=')
        assert headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    status, _, body = await get(signed[0], Range="bytes=10-19")
    assert (status, body) == (206, picture[10:20])
    assert (await get(signed[0], "HEAD"))[::2] == (200, b"")

    head, _, query = signed[0].partition("?")
    for url in (
        head,
        f"{head}?{query}0",
        signed[0].replace("expires=1", "expires=2"),
        signed[0].replace(first.json["id"], second.json["id"]),
        f"{head}?expires=&signature=",
        f"{PUBLIC}/media/../../etc/passwd?{query}",
        link(tmp_path, first.json["id"], -1),
        link(tmp_path, "med_" + "0" * 32, 60),
    ):
        status, _, body = await get(url)
        assert (status, picture in body) == (404, False), url
    assert (await get(link(tmp_path, first.json["id"], 60)))[0] == 200


def link(data_dir: Path, name: str, seconds: int) -> str:
    """An address signed with the hub's own key, good for so long."""
    key = (data_dir / "secret_key").read_text().strip()
    return MediaLinks(PUBLIC, [key], seconds).url(parse_id("med", name), time())


async def test_e10_what_cannot_be_uploaded_leaves_nothing_behind(database_url: str, tmp_path: Path) -> None:
    abandoned = tmp_path / "media" / ".part-of-a-killed-process"
    abandoned.parent.mkdir()
    abandoned.touch()
    os.utime(abandoned, (0, 0))
    async with world(database_url, tmp_path, media_max_bytes=100_000) as made:
        crm, reader = await made.service("crm"), await made.service("reader", scopes=["read"])

        async def pieces(count: int) -> AsyncIterator[bytes]:
            for _ in range(count):
                yield b"x" * 1000

        cases: list[tuple[Service, Any, dict[str, str], int, str]] = [
            (reader, b"x", {"Content_Type": "text/plain"}, 403, "missing_scope"),
            (crm, b"x" * 100_001, {"Content_Type": "text/plain"}, 413, "too_large"),
            (crm, pieces(101), {"Content_Type": "text/plain"}, 413, "too_large"),
            (crm, form((b"x" * 100_001, "text/plain", "a.txt")), {}, 413, "too_large"),
            (crm, b"x" * 300_000, {"Content_Type": "text/plain"}, 413, "too_large"),
            (crm, b"", {"Content_Type": "text/plain"}, 422, "invalid_request"),
            (crm, b"<b>", {"Content_Type": "text/html"}, 422, "media_type_unsupported"),
            (crm, b"MZ", {"Content_Type": "application/octet-stream", "filename": "a.exe"}, 422,
             "media_type_unsupported"),
            (crm, form((b"<b>", "text/html", "a.pdf")), {}, 422, "media_type_unsupported"),
            (crm, b"x", {"Content_Type": "text/plain", "Content_Encoding": "gzip"}, 422, "invalid_request"),
            (crm, form((b"x", "text/plain", "a"), (b"y", "text/plain", "b")), {}, 422, "invalid_request"),
            (crm, form(), {}, 422, "invalid_request"),
            (crm, b"no form", {"Content_Type": "multipart/form-data; boundary=x"}, 422, "invalid_request"),
            (crm, b"no form", {"Content_Type": "multipart/form-data"}, 422, "invalid_request"),
            (crm, b"--x\r\nX: " + b"y" * 20_000 + b"\r\n\r\nz\r\n--x--\r\n",
             {"Content_Type": "multipart/form-data; boundary=x"}, 422, "invalid_request"),
        ]  # fmt: skip
        for service, data, headers, status, code in cases:
            answer = await upload(service, data, **headers)
            assert (answer.status, answer.json["code"]) == (status, code), (headers, answer)
            assert on_disk(tmp_path) == []
        cut = await raw_http(made.hub.url, "POST", "/v1/media", [
            ("Authorization", f"Bearer {crm.key}".encode()), ("Content-Type", b"text/plain"),
            ("Transfer-Encoding", b"chunked"),
        ], b"5\r\nhello\r\nzzz\r\n")  # fmt: skip
        assert cut.status in {400, 422}
        assert on_disk(tmp_path) == []
        assert (await upload(crm, b"x" * 100_000, Content_Type="text/plain")).status == 201
        assert (await upload(crm, pieces(100), Content_Type="text/plain")).json["filename"] == "file.txt"
        assert len(on_disk(tmp_path)) == 1


async def test_e10_a_file_may_be_too_large_for_what_it_is_sent_as(hub_world: World) -> None:
    (crm,) = await hub_world.connected("crm")
    conversation = await writes(hub_world.customer(MIA), crm)
    made = await upload(crm, b"\xff\xd8" + bytes(5 * MB), Content_Type="image/jpeg")
    assert (made.status, made.json["filename"]) == (201, "file.jpg")
    answer = await send(crm, conversation, "image", {"id": made.json["id"]})
    assert (answer.status, answer.json["code"]) == (422, "media_too_large")
    assert [fault["pointer"] for fault in answer.json["errors"]] == ["/media/0"]
    assert (await send(crm, conversation, "document", {"id": made.json["id"]})).status == 202

"""Files of customers: fetched at once from either provider, kept once, given to whoever may see the message (E10)."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from time import time
from typing import Any

import aiohttp
import pytest

from hub.domain.ids import parse_id
from hub.domain.media_links import MediaLinks
from providers.simulator import InboundFile, MediaFault, Person
from tests.support.talk import MIA, automates, conversation_of, leaves, timeline, writes
from tests.support.wire import ask, until
from tests.support.world import Answer, Service, World, world

PUBLIC = "https://hub.example.com"
PICTURE = b"\x89PNG\r\n" + bytes(range(256)) * 40
OTTO = Person("+4915187654321", name="Otto")


@pytest.fixture(name="hub")
async def _hub(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with world(database_url, tmp_path, media_max_bytes=50_000) as made:
        yield made


async def get(hub: World, url: str, method: str = "GET", **headers: str) -> tuple[int, Any, bytes]:
    """What lies at a signed address."""
    async with aiohttp.request(method, url.replace(PUBLIC, hub.hub.url), headers=headers) as found:
        return found.status, found.headers, await found.read()


async def refusal(hub: World, url: str) -> dict[str, Any]:
    """Status, code and reason of an address that gives no file."""
    async with aiohttp.request("GET", url.replace(PUBLIC, hub.hub.url)) as found:
        problem = await found.json()
        return {"status": found.status, "code": problem["code"], "reason": problem.get("reason")}


async def heard_file(service: Service, count: int = 1) -> dict[str, Any]:
    """The file in the newest message a service heard of, once it has heard of so many with files."""

    def told() -> list[dict[str, Any]]:
        return [d.data["message"] for d in service.endpoint.of("message.received") if d.data["message"].get("media")]

    await service.endpoint.wait(lambda _: len(told()) >= count)
    return dict(told()[-1]["media"][0])


def newest(hub: World) -> InboundFile:
    """The last file that a customer sent, as the provider knows it."""
    return list(hub.simulator.media.values())[-1]


def on_disk(folder: Path) -> list[str]:
    """The names of all files that are kept, or begun."""
    return sorted(path.name for path in (folder / "media").rglob("*") if path.is_file())


async def test_e10_a_customers_file_is_there_at_once_for_each_service(
    hub: World, database_url: str, tmp_path: Path
) -> None:
    helpdesk, crm = await hub.connected("helpdesk", "crm")
    alone = await hub.service("alone", plan="standalone")
    await alone.connect()
    mia = hub.customer(MIA)
    await mia.sends_file("image", PICTURE, "image/png", caption="look")
    sha256 = hashlib.sha256(PICTURE).hexdigest()
    seen = [await heard_file(service) for service in (helpdesk, crm, alone)]
    for service, file in zip((helpdesk, crm, alone), seen, strict=True):
        assert file.keys() == {"id", "mime_type", "sha256", "url"}
        assert (file["id"], file["mime_type"], file["sha256"]) == (seen[0]["id"], "image/png", sha256)
        assert file["url"].startswith(f"{PUBLIC}/media/{file['id']}?service={service.id}&expires=")
        status, headers, body = await get(hub, file["url"])
        assert (status, body, headers["Content-Type"]) == (200, PICTURE, "image/png")
        assert headers["Content-Disposition"] == "attachment; filename=\"file.png\"; filename*=UTF-8''file.png"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert (newest(hub).lookups, newest(hub).downloads) == (1, 1)  # once for all channels
    assert on_disk(tmp_path) == [sha256]

    # Nothing of where the provider keeps it leaves the hub.
    told = str([d.data for service in (helpdesk, crm, alone) for d in service.endpoint.deliveries])
    assert newest(hub).id not in told
    assert hub.simulator.url not in told

    # In parts, and its head.
    url = seen[0]["url"]
    for wanted, status, content_range, part in (
        ("bytes=10-19", 206, f"bytes 10-19/{len(PICTURE)}", PICTURE[10:20]),
        ("bytes=-5", 206, f"bytes {len(PICTURE) - 5}-{len(PICTURE) - 1}/{len(PICTURE)}", PICTURE[-5:]),
        (f"bytes={len(PICTURE)}-", 416, f"bytes */{len(PICTURE)}", b""),
        ("bytes=0-1,4-5", 200, None, PICTURE),
    ):
        answer = await get(hub, url, Range=wanted)
        assert (answer[0], answer[1].get("Content-Range"), answer[2]) == (status, content_range, part), wanted
    status, headers, body = await get(hub, url, "HEAD")
    assert (status, headers["Content-Length"], body) == (200, str(len(PICTURE)), b"")

    # In every view: timeline, message, feed, the operator's; each with an address for who looks.
    conversation = conversation_of(crm, "look")
    (message,) = await timeline(crm, conversation)
    (file,) = message["media"]
    assert (file["state"], file["size"], file["id"]) == ("kept", len(PICTURE), seen[0]["id"])
    one = await crm.call("GET", f"/v1/messages/{message['id']}")
    feed = await crm.call("GET", "/v1/events")
    listed = next(e for e in feed.json["items"] if e["type"] == "message.received")["data"]["message"]["media"][0]
    operated = await hub.call("GET", f"/v1/admin/messages/{message['id']}")
    logged = await hub.call("GET", "/v1/admin/events")
    entries = [e["data"]["message"]["media"][0] for e in logged.json["items"] if e["type"] == "message.received"]
    exported = await hub.call("GET", f"/v1/admin/contacts/{await contact_of(crm, conversation)}/export")
    talks = [talk["messages"][0]["media"][0] for talk in exported.json["conversations"]]
    for address, whom in (
        (file["url"], crm.id),
        (one.json["media"][0]["url"], crm.id),
        (listed["url"], crm.id),
        (operated.json["media"][0]["url"], "operator"),
        *((entry["url"], "operator") for entry in (*entries, *talks)),
    ):
        assert f"service={whom}&" in address
        assert (await get(hub, address))[::2] == (200, PICTURE)
    assert (await get(hub, file["url"].replace(crm.id, helpdesk.id)))[0] == 404

    # Judged when it is fetched: who leaves has it no more (A4).
    known = await crm.call("GET", f"/v1/media/{file['id']}")
    assert (known.status, known.json["state"], known.json["sha256"]) == (200, "kept", sha256)
    await leaves(crm)
    assert (await get(hub, seen[1]["url"]))[0] == 404
    assert (await crm.call("GET", f"/v1/media/{file['id']}")).status == 404
    assert (await get(hub, url))[0] == 200
    assert (await hub.call("DELETE", f"/v1/admin/services/{alone.id}")).status in {200, 204}
    assert (await get(hub, seen[2]["url"]))[0] == 404

    # Twilio's, two in one message, one of them the same bytes again.
    otto = hub.customer(OTTO, provider="twilio", medium="sms")
    await otto.sends_mms("two", [(PICTURE, "image/png"), (b"GIF89a" * 9, "image/gif")])
    await heard_file(helpdesk, 2)
    pair = [d.data["message"]["media"] for d in helpdesk.endpoint.of("message.received")][-1]
    assert [await get(hub, f["url"]) for f in pair][1][2] == b"GIF89a" * 9
    assert [(await get(hub, f["url"]))[2] == PICTURE for f in pair] == [True, False]
    assert len({seen[0]["id"], *(f["id"] for f in pair)}) == 3
    assert len(on_disk(tmp_path)) == 2
    assert "api.twilio.com" not in str([d.data for d in helpdesk.endpoint.deliveries])
    assert await ask(database_url, "select count(*) from media_fetch where next_at is not null") == 0


async def contact_of(service: Service, conversation: str) -> str:
    """Whom a conversation is with."""
    answer = await service.call("GET", f"/v1/conversations/{conversation}")
    return str(answer.json["contact"]["id"])


async def test_e10_what_cannot_be_had_says_so_and_can_be_asked_for_again(hub: World, database_url: str) -> None:
    (helpdesk,) = await hub.connected("helpdesk")
    mia, simulator = hub.customer(MIA), hub.simulator

    async def state(media_id: str, wanted: str, error: str | None) -> Answer:
        async def is_so() -> Answer | None:
            found = await helpdesk.call("GET", f"/v1/media/{media_id}")
            return found if (found.json["state"], found.json["error"]) == (wanted, error) else None

        answer = await until(is_so)
        assert isinstance(answer, Answer)
        return answer

    # One that takes its time is waited for a moment; then it is "not yet".
    simulator.fail_next_media(MediaFault.slow(1.4))
    await mia.sends_file("document", b"%PDF slow", "application/pdf", filename="../ä b.pdf")
    file = await heard_file(helpdesk)
    assert file["filename"] == "../ä b.pdf"
    status, headers, body = await get(hub, file["url"])
    assert (status, headers["Retry-After"], b"media_pending" in body) == (503, "1", True)
    await state(file["id"], "kept", None)
    status, headers, body = await get(hub, file["url"])
    assert (status, body) == (200, b"%PDF slow")
    assert headers["Content-Disposition"].endswith("filename*=UTF-8''%C3%A4%20b.pdf")

    # A failure is tried again by itself, later; and at once for who asks.
    simulator.fail_next_media(MediaFault.failing(503))
    await mia.sends_file("image", b"one", "image/png")
    file = await heard_file(helpdesk, 2)
    failed = await state(file["id"], "pending", await last_error(database_url))
    assert failed.json["error"]
    assert (await refusal(hub, file["url"]))["status"] == 503
    again = await helpdesk.call("POST", f"/v1/media/{file['id']}/refetch")
    assert (again.status, again.json["state"], again.json["error"]) == (202, "pending", None)
    await state(file["id"], "kept", None)
    again = await helpdesk.call("POST", f"/v1/media/{file['id']}/refetch")
    assert (again.status, again.json["state"]) == (200, "kept")

    # What the provider has no more, is too large, or of a type that is not taken, is final until somebody asks again.
    for content, mime_type, reason in (
        (b"x" * 50_001, "image/png", "media_too_large"),
        (b"<b>", "text/html; charset=utf-8", "media_type_refused"),
        (b"gone", "image/png", "media_unavailable"),
    ):
        count = len([d for d in helpdesk.endpoint.of("message.received") if d.data["message"].get("media")])
        known = simulator.shelf.add(content, mime_type)
        known.is_expired = content == b"gone"
        await mia.sends({"type": "document", "document": {"id": known.id, "mime_type": mime_type}})
        file = await heard_file(helpdesk, count + 1)
        await state(file["id"], "unavailable", reason)
        assert await refusal(hub, file["url"]) == {"status": 410, "code": "media_unavailable", "reason": reason}
        assert known.lookups == (reason == "media_too_large")
        known.is_expired = False
        again = await helpdesk.call("POST", f"/v1/media/{file['id']}/refetch")
        assert again.status == 202
        await state(file["id"], *(("kept", None) if content == b"gone" else ("unavailable", reason)))
    seen = [m["media"][0] for m in await timeline(helpdesk, conversation_of_file(helpdesk))]
    assert [entry["state"] for entry in seen] == ["kept", "unavailable", "unavailable", "kept", "kept"]
    assert ["size" in entry for entry in seen] == [True, False, False, True, True]

    # Nobody else's: no file, no such id, no key.
    stranger = await hub.service("stranger")
    for path in (f"/v1/media/{file['id']}", "/v1/media/med_" + "0" * 32, "/v1/media/x"):
        assert (await stranger.call("GET", path)).status == 404
        assert (await stranger.call("POST", f"{path}/refetch")).status == 404
    assert (await hub.call("GET", f"/v1/admin/media/{file['id']}")).json["state"] == "kept"
    assert (await hub.call("POST", f"/v1/admin/media/{file['id']}/refetch")).status == 200


async def last_error(database_url: str) -> str:
    """Why a file is not there yet, once that is known."""
    sql = "select error from media where state = 'pending' and error is not null"
    return str(await until(lambda: ask(database_url, sql)))


def conversation_of_file(service: Service) -> str:
    """The conversation of the newest file a service heard of."""
    events = [d.data for d in service.endpoint.of("message.received") if d.data["message"].get("media")]
    return str(events[-1]["conversation"]["id"])


async def test_c1_a_masked_file_is_nobodys_and_an_erased_one_is_gone(
    hub: World, database_url: str, tmp_path: Path
) -> None:
    crm, helpdesk = await hub.connected("crm", "helpdesk")
    mia = hub.customer(MIA)
    conversation = await writes(mia, crm, helpdesk)
    made = await upload(crm, PICTURE)
    sent = await automates(crm, conversation, "see", type="image", media={"id": made["id"]})
    assert sent.status == 202, sent
    (queued,) = await crm.endpoint.hears("message.queued")
    (file,) = queued.data["message"]["media"]
    assert (await get(hub, file["url"]))[::2] == (200, PICTURE)
    (masked,) = await helpdesk.endpoint.hears("message.queued")
    assert "media" not in masked.data["message"]
    links = MediaLinks(PUBLIC, [(tmp_path / "secret_key").read_text().strip()])
    signed = links.with_urls({"media": [{"id": made["id"]}]}, parse_id("svc", helpdesk.id), time())["media"][0]["url"]
    assert (await get(hub, signed))[0] == 404  # also with an address as the hub makes them
    await crm.connect(share="all")
    await helpdesk.connect(display="full")
    later = await automates(crm, conversation, "once more", type="image", media={"id": made["id"]})
    assert later.status == 202
    await helpdesk.endpoint.hears("message.queued", 2)
    shown = helpdesk.endpoint.of("message.queued")[1].data["message"]["media"][0]
    assert (await get(hub, shown["url"]))[::2] == (200, PICTURE)
    await crm.connect(share="none")
    assert (await get(hub, shown["url"]))[0] == 404
    assert (await get(hub, file["url"]))[0] == 200
    reveal = f"/v1/admin/messages/{later.json['message']['id']}/reveal"
    revealed = await hub.call("POST", reveal, {"reason": "the test"})
    assert (await get(hub, revealed.json["media"][0]["url"]))[::2] == (200, PICTURE)

    # Erased: what the customer sent and what was sent to them only, while a fetch is under way.
    await mia.sends_file("image", b"mine", "image/png", filename="mia.png")
    mine = await heard_file(crm)
    assert (await get(hub, mine["url"]))[::2] == (200, b"mine")
    hub.simulator.fail_next_media(MediaFault.slow(0.4))
    await mia.sends_file("image", b"late" * 100, "image/png", filename="late.png")
    late = await heard_file(crm, 2)
    await until(lambda: newest(hub).requests)
    contact = await contact_of(crm, conversation)
    erased = await hub.call("DELETE", f"/v1/admin/contacts/{contact}")
    assert erased.status == 200, erased
    for address in (mine["url"], late["url"], file["url"]):
        assert (await refusal(hub, address))["status"] == 410
    await until(lambda: not on_disk(tmp_path))
    rows = await ask(database_url, "select string_agg(distinct state || filename || mime_type, ' ') from media")
    assert rows == "erasedapplication/octet-stream"
    assert await ask(database_url, "select count(*) from media_fetch") == 0
    assert await ask(database_url, "select count(*) from media where sha256 is not null") == 0


async def upload(service: Service, content: bytes) -> dict[str, Any]:
    """Upload a picture."""
    headers = {"Authorization": f"Bearer {service.key}", "Content-Type": "image/png"}
    url = f"{service.world.hub.url}/v1/media"
    async with service.world.session.post(url, data=content, headers=headers) as answer:
        assert answer.status == 201
        return dict(await answer.json())

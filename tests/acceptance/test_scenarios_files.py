"""Customers' files; played over Meta, judged over HTTP only."""

import hashlib
import json
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from providers.simulator import MediaFault
from tests.support.scenario_stage import JUDGED, MAIN, PNG, Json, Stage, image, known, message, phone, registered
from tests.support.wire import unique

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def pictured(stage: Stage, content: bytes, **more: Any) -> Json:
    """A customer sends a picture; the event as the CRM hears it."""
    file = stage.simulator.add_inbound_media(content, "image/png")
    item = message(more.pop("who", phone()), image(file, "see", content))
    await stage.posts("messages", {"messages": [item]})
    return await stage.received(item["id"])


async def test_a_file_is_fetched_at_once_and_its_address_is_one_services_own(stage: Stage) -> None:
    content = PNG + unique("file").encode()
    event = await pictured(stage, content)
    (mine,) = event["message"]["media"]
    (theirs,) = (await stage.received(event["message"]["provider_id"], stage.desk))["message"]["media"]
    assert mine["id"] == theirs["id"]
    assert mine["url"] != theirs["url"]
    assert mine["id"].startswith("med_")
    assert "simulated-access-token" not in json.dumps(event)
    got = await stage.fetch(mine["url"])
    assert (got.status, got.body) == (200, content)
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in got.headers["content-security-policy"]
    part = await stage.fetch(mine["url"], Range="bytes=0-7")
    assert (part.status, part.body) == (206, content[:8])
    head = await stage.fetch(mine["url"], "HEAD")
    assert (head.status, head.body) == (200, b"")
    for wrong in (
        mine["url"].replace(stage.crm.id, stage.desk.id),
        mine["url"][:-4] + "0000",
        mine["url"].replace("expires=", "expires=1"),
        mine["url"].partition("?")[0],
    ):
        assert (await stage.fetch(wrong)).status == 404
    kept = await known(stage, mine["id"], "kept")
    assert (kept["size"], kept["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


async def test_c1_a_masked_message_gives_no_file_and_a_service_that_left_gets_none(stage: Stage) -> None:
    event = await pictured(stage, PNG + unique("left").encode())
    conversation = event["conversation"]["id"]
    books = await registered(stage.world, "books")
    await books.connect(MAIN.e164, endpoint_url=None)
    entry = (await stage.timeline(conversation, service=books))[-1]
    address = entry["media"][0]["url"]
    assert (await stage.fetch(address)).status == 200

    form = aiohttp.FormData()
    form.add_field("file", b"%PDF-1.7 secret", filename="secret.pdf", content_type="application/pdf")
    headers = {"Authorization": f"Bearer {stage.desk.key}"}
    async with stage.world.session.post(f"{stage.world.hub.url}/v1/media", data=form, headers=headers) as answer:
        assert answer.status == 201
        upload = (await answer.json())["id"]
    wanted = {"origin": "agent", "agent": {"id": "a", "name": "Ana"}, "type": "document"}
    sent = await stage.desk.call(
        "POST", f"/v1/conversations/{conversation}/messages", wanted | {"media": {"id": upload}, "text": "for you"}
    )
    await stage.went(sent)
    hidden = await stage.view(sent.json["message"]["id"], books)
    assert hidden["masked"] is True
    assert not {"media", "text", "filename"} & set(hidden)
    assert "secret" not in json.dumps(hidden)
    assert (await books.call("GET", f"/v1/media/{upload}")).status == 404
    own = (await stage.view(sent.json["message"]["id"], stage.desk))["media"][0]
    if "url" in own:
        assert (await stage.fetch(own["url"].replace(stage.desk.id, books.id))).status == 404

    assert (await books.call("DELETE", f"/v1/numbers/{quote(MAIN.e164)}/connection")).status == 204
    assert (await stage.fetch(address)).status == 404
    assert (await stage.fetch(event["message"]["media"][0]["url"])).status == 200


async def test_a4_a_service_of_another_number_knows_nothing_of_a_file(stage: Stage) -> None:
    event = await pictured(stage, PNG + unique("other").encode())
    (kept,) = event["message"]["media"]
    await known(stage, kept["id"], "kept")
    other = await registered(stage.world, "other")
    await other.connect(JUDGED.e164, endpoint_url=None)
    for method, path in (("GET", ""), ("POST", "/refetch")):
        answer = await other.call(method, f"/v1/media/{kept['id']}{path}")
        assert (answer.status, answer.json["code"]) == (404, "not_found")
    assert (await stage.fetch(kept["url"].replace(stage.crm.id, other.id))).status == 404


async def test_a_file_that_expired_is_told_and_can_be_fetched_again(stage: Stage) -> None:
    content = PNG + unique("expired").encode()
    file = stage.simulator.add_inbound_media(content, "image/png")
    stage.simulator.media[file].is_expired = True
    item = message(phone(), image(file, content=content))
    await stage.posts("messages", {"messages": [item]})
    (kept,) = (await stage.received(item["id"]))["message"]["media"]
    assert (await known(stage, kept["id"], "unavailable"))["error"] == "media_unavailable"
    gone = await stage.fetch(kept["url"])
    told = json.loads(gone.body)
    assert (gone.status, told["code"], told["state"]) == (410, "media_unavailable", "unavailable")
    stage.simulator.media[file].is_expired = False
    assert (await stage.desk.call("POST", f"/v1/media/{kept['id']}/refetch")).status in {200, 202}
    await known(stage, kept["id"], "kept")
    assert (await stage.fetch(kept["url"])).body == content


async def test_a_file_on_a_foreign_host_is_not_asked_for(stage: Stage) -> None:
    stage.simulator.fail_next_media(MediaFault.address("http://169.254.169.254/latest/meta-data"))
    event = await pictured(stage, PNG + unique("foreign").encode())
    (kept,) = event["message"]["media"]
    assert (await known(stage, kept["id"], "unavailable"))["error"] == "media_host_refused"
    assert "169.254" not in json.dumps((await stage.crm.call("GET", f"/v1/media/{kept['id']}")).json)
    assert (await stage.desk.call("POST", f"/v1/media/{kept['id']}/refetch")).status in {200, 202}
    await known(stage, kept["id"], "kept")


async def test_a_page_is_no_file_to_keep(stage: Stage) -> None:
    file = stage.simulator.add_inbound_media(b"<script>alert(1)</script>", "text/html", "a.html")
    item = message(phone(), {"type": "document", "document": {"id": file, "mime_type": "text/html", "filename": "a"}})
    await stage.posts("messages", {"messages": [item]})
    (kept,) = (await stage.received(item["id"]))["message"]["media"]
    assert (await known(stage, kept["id"], "unavailable"))["error"] == "media_type_refused"


async def test_a_download_that_fails_is_tried_again_by_itself(stage: Stage) -> None:
    content = PNG + unique("again").encode()
    stage.simulator.fail_next_media(MediaFault.failing(503))
    event = await pictured(stage, content)
    (kept,) = event["message"]["media"]
    early = await stage.fetch(kept["url"])
    assert (early.status, json.loads(early.body)["code"]) == (503, "media_pending")
    assert int(early.headers["retry-after"]) >= 1
    await known(stage, kept["id"], "kept")
    assert (await stage.fetch(kept["url"])).body == content

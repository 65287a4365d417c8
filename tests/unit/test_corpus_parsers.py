"""The parsers against payloads that nobody here wrote, read in place (they are not part of the project)."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from providers.base import MessageReceived, StatusReported, Unparsed, WebhookRequest
from providers.twilio import webhook as twilio
from providers.whatsapp_cloud import webhook as meta

CORPUS = Path(__file__).parents[2].parent / "shared" / "corpus"
ITEM_LISTS = ("messages", "statuses", "message_echoes")

pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason="the shared corpus is not here")


def files(folder: str) -> list[Any]:
    paths = sorted(path for path in (CORPUS / folder).rglob("*") if path.is_file())
    return [pytest.param(path, id=str(path.relative_to(CORPUS))) for path in paths]


def meta_elements(document: Any) -> list[Any]:
    """Every message, status and echo of a webhook, as far as it has the documented shape."""
    entries = document["entry"] if isinstance(document["entry"], list) else []
    values = [change.get("value") or {} for entry in entries for change in entry["changes"]]
    lists = [value.get(name, []) for value in values for name in ITEM_LISTS]
    return [element for part in lists if isinstance(part, list) for element in part]


@pytest.mark.parametrize("path", files("meta_webhooks"))
def test_meta_webhooks(path: Path) -> None:
    body = path.read_bytes()
    request = WebhookRequest("/webhooks/meta", {"content-type": "application/json"}, body)
    items = meta.parse(request)
    elements = meta_elements(json.loads(body))
    assert len(items) == max(len(elements), 1)
    for element, item in zip(elements, items, strict=False):
        assert not isinstance(item, Unparsed)
        assert isinstance(item, StatusReported) == ("status" in element)
        assert item.customer.is_known
        if "id" in element:
            assert element["id"] in item.key
        if isinstance(item, MessageReceived):
            assert (item.type == "unsupported") == (element["type"] == "unknown")
            assert item.type in ("unsupported", element["type"])
    for item in items:
        isolated = WebhookRequest(request.path, request.headers, meta.envelopes(request)[item.key])
        assert [alone.key for alone in meta.parse(isolated)] == [item.key]


@pytest.mark.parametrize("path", files("twilio_webhooks"))
def test_twilio_webhooks(path: Path) -> None:
    body = path.read_bytes().strip()
    if path.suffix == ".json":
        body = urlencode(json.loads(body)).encode()
    headers = {"content-type": "application/x-www-form-urlencoded"}
    item, *notes = twilio.parse(WebhookRequest("/webhooks/twilio", headers, body))
    assert isinstance(item, StatusReported if b"MessageStatus=" in body else MessageReceived)
    assert item.customer.is_known or b"&To=" not in body
    assert item.sender.external_ids
    assert len(notes) == (b"%00" in body)


def vectors() -> list[Any]:
    path = CORPUS / "twilio_signatures" / "known_answer_vectors.json"
    return (
        [pytest.param(vector, id=vector["source"]) for vector in json.loads(path.read_text())] if path.exists() else []
    )


def pairs(params: Any) -> Iterable[tuple[str, str]]:
    return params.items() if isinstance(params, dict) else map(tuple, params)


@pytest.mark.parametrize("vector", vectors())
def test_twilio_signatures(vector: dict[str, Any]) -> None:
    url = urlsplit(vector["url"])
    is_json = "body" in vector
    body = vector["body"].encode() if is_json else urlencode(list(pairs(vector["params"]))).encode()
    headers = {
        "content-type": "application/json" if is_json else "application/x-www-form-urlencoded",
        "x-twilio-signature": vector["signature"],
    }
    request = WebhookRequest(vector["url"].removeprefix(f"{url.scheme}://{url.netloc}"), headers, body)
    public_url = f"{url.scheme}://{url.netloc}"
    assert twilio.verify(request, ["other", vector["token"]], public_url) is vector["ok"]
    assert not twilio.verify(request, ["other"], public_url)
    tampered = WebhookRequest(request.path, headers, body + b"&x=1")
    assert not twilio.verify(tampered, [vector["token"]], public_url)

"""What the set-up pages tell somebody to enter is what the hub reads: settings, fields, permissions, codes."""

import json
import re
from pathlib import Path

import pytest

from config.settings import Settings
from providers.whatsapp_cloud.subscriptions import RECOMMENDED_FIELDS, REQUIRED_FIELDS
from tests.unit.test_docs import DOCS, ROOT, sections

PAGES = sorted(DOCS.glob("setup*.md"))
OPERATED = [*PAGES, DOCS / "operations.md", DOCS / "privacy.md", DOCS / "security.md"]
META = (DOCS / "setup-meta.md").read_text()
TWILIO = (DOCS / "setup-twilio.md").read_text()


@pytest.mark.parametrize("path", OPERATED, ids=lambda path: path.name)
def test_every_setting_named_exists(path: Path) -> None:
    known = {name.upper() for name in Settings.model_fields} | {"ENV_FILE", "META_", "TWILIO_"}
    assert set(re.findall(r"PARTYLINE_([A-Z0-9_]+)", path.read_text())) <= known


def test_the_webhook_fields_are_those_the_hub_checks_for() -> None:
    table = META.split("*Webhook fields*")[1].split("Of use as well")[0]
    named = {name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert named == set(REQUIRED_FIELDS)
    also = META.split("Of use as well")[1].split("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", also)) == set(RECOMMENDED_FIELDS)


def test_the_permissions_are_those_the_hub_checks_for() -> None:
    named = set(re.findall(r"`(whatsapp_business_\w+)`", META))
    code = "".join(path.read_text() for path in (ROOT / "providers" / "whatsapp_cloud").glob("*.py"))
    assert named == set(re.findall(r'"(whatsapp_business_(?:messaging|management))"', code))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_codes_that_are_promised_exist(path: Path) -> None:
    """Words such as `webhook_elsewhere`, where `partyline check` or an answer is said to give them."""
    told = set(re.findall(r"(?:\(|409 |403 |with |quarantine, |of it |as )`([a-z]+_[a-z_]+)`", path.read_text()))
    assert told - {"external_id", "content_sid", "account"} <= set(sections("docs/errors.md")) | set(REQUIRED_FIELDS)


def test_providers_are_given_the_addresses_that_are_served() -> None:
    assert "https://hub.example.com/webhooks/meta" in META
    for url in re.findall(r"`(https://hub\.example\.com/webhooks/[^`]+)`", META + TWILIO):
        path = url.removeprefix("https://hub.example.com").split("#")[0].split("?")[0]
        assert path in {"/webhooks/meta", "/webhooks/twilio", "/webhooks/twilio/status"}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_bodies_to_be_sent_are_json(path: Path) -> None:
    for body in re.findall(r"-d '(\{.*?\})'", path.read_text(), re.DOTALL):
        json.loads(body)

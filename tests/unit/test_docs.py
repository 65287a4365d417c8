"""What the documents say is what the code does: settings, events, error codes, paths, links."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from config.settings import DEFAULT_ELIGIBILITY_FILE, Settings
from hub.app import build_app, connect_providers
from hub.domain import errors
from hub.domain.events import EVENT_TYPES
from providers.twilio.errors import REFUSED as TWILIO_REFUSED
from providers.whatsapp_cloud.errors import REFUSED as META_REFUSED

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def text_of(page: str) -> str:
    return (ROOT / page).read_text()


def prose_of(path: Path) -> str:
    """A page without its code blocks, where a hash is no heading and a bracket no link."""
    return FENCE.sub("", path.read_text())


def anchors_of(path: Path) -> set[str]:
    """The anchors that Git hosts give a page's headings."""
    found: set[str] = set()
    for heading in HEADING.findall(prose_of(path)):
        bare = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", bare).replace(" ", "-")
        number = 1
        anchor = slug
        while anchor in found:
            anchor, number = f"{slug}-{number}", number + 1
        found.add(anchor)
    return found


# Settings -----------------------------------------------------------------------------------------------------------


def shown(default: object) -> str:
    if default is None or default in ("", ()):
        return ""
    if default == DEFAULT_ELIGIBILITY_FILE:
        return "`config/eligibility.toml`"
    if isinstance(default, tuple):
        return f"`{','.join(map(str, default))}`"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def test_the_readme_has_every_setting_with_its_default() -> None:
    rows = re.findall(r"^\| `PARTYLINE_(\w+)` \| (.*?) ?\|", text_of("README.md"), re.MULTILINE)
    wanted = {name.upper(): shown(field.default) for name, field in Settings.model_fields.items()}
    assert dict(rows) == wanted | {"ENV_FILE": ""}
    assert len(rows) == len(dict(rows))


# Events -------------------------------------------------------------------------------------------------------------


def sections(page: str) -> dict[str, str]:
    """The text under each heading of the third level."""
    parts = re.split(r"^### (.+)$", text_of(page), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_event_type_has_its_section() -> None:
    assert list(sections("docs/events.md")) == list(EVENT_TYPES)


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_an_event_is_shown_as_it_is_sent(kind: str) -> None:
    examples = [json.loads(code) for _, code in FENCE.findall(sections("docs/events.md")[kind])]
    assert examples
    for example in examples:
        assert list(example) == ["type", "timestamp", "data"]
        assert example["type"] == kind
        assert {"event_id", "number", "channel_id"} <= set(example["data"])
        if kind.startswith("message."):
            assert {"automation", "conversation", "contact", "message"} <= set(example["data"])


# Errors -------------------------------------------------------------------------------------------------------------

REFUSALS = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
SEND_ERRORS = {"Refused", "NotTaken", "OutcomeUnknown"}
START_ERRORS = {"EmbeddedError", "MigrationError"}
MESSAGE_ONLY = {"expired"}
"""Refusals of the sender alone: no request is answered with them."""


def calls(folder: str, names: set[str]) -> Iterator[ast.Call]:
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
                yield node


def texts(node: ast.AST) -> set[str]:
    return {part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)}


def api_codes() -> set[str]:
    """The classes' own codes, and every `code=` a refusal is made with."""
    found = {getattr(errors, name).code for name in REFUSALS}
    for call in calls("hub", REFUSALS):
        for keyword in call.keywords:
            if keyword.arg == "code":
                found |= texts(keyword.value)
    return found - {errors.Forbidden.code, errors.Conflict.code} - MESSAGE_ONLY  # bare ones: see the next test


def start_codes() -> set[str]:
    return {code for call in calls("hub", START_ERRORS) for code in texts(call.args[0])}


def send_codes() -> set[str]:
    """What a provider's refusal, or our own sender, may give as the reason of a failed or unknown message."""
    found = {*TWILIO_REFUSED.values(), *META_REFUSED.values(), *MESSAGE_ONLY}
    for folder in ("hub", "providers/twilio", "providers/whatsapp_cloud"):
        for call in calls(folder, SEND_ERRORS):
            found |= {code for code in texts(call.args[0]) if not code.startswith("HTTP")}
    return found


def test_forbidden_and_conflict_always_say_which() -> None:
    for call in calls("hub", {"Forbidden", "Conflict"}):
        assert "code" in {keyword.arg for keyword in call.keywords}


def documented(title: str) -> list[str]:
    """The headings of the third level under one of the second."""
    part = re.split(r"^## (.+)$", text_of("docs/errors.md"), flags=re.MULTILINE)
    return re.findall(r"^### (\w+)$", dict(zip(part[1::2], part[2::2], strict=True))[title], re.MULTILINE)


def test_every_error_code_has_its_section() -> None:
    headings = documented("What the API answers")
    assert set(headings) == api_codes()
    assert len(headings) == len(set(headings))


def test_every_start_code_has_its_section() -> None:
    assert set(documented("Why the hub does not start")) == start_codes()


def test_every_reason_of_a_failed_message_has_its_row() -> None:
    part = text_of("docs/errors.md").split("## Why a message failed")[1].split("\n## ")[0]
    rows = set(re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE))
    assert send_codes() <= rows


# Paths --------------------------------------------------------------------------------------------------------------


async def test_every_path_is_in_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Settings, "model_config", Settings.model_config | {"env_prefix": "PARTYLINE_NONE_"})
    connected = await connect_providers(Settings())
    try:
        app = build_app(
            SimpleNamespace(  # type: ignore[arg-type]
                routes={route.path: (provider.name, route) for provider in connected for route in provider.routes},
                handshakes=[handshake for provider in connected for handshake in provider.handshakes],
            )
        )
    finally:
        for provider in connected:
            await provider.close()
    served = {(r.method, r.resource.canonical) for r in app.router.routes() if r.resource and r.method != "HEAD"}
    listed = {
        tuple(entry.split()) for entry in re.findall(r"^### `(\w+ [^`]+)`$", text_of("docs/api.md"), re.MULTILINE)
    }
    assert listed == served


# Links --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(path)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        page = (path.parent / name).resolve() if name else path
        if not page.exists() or (anchor and anchor not in anchors_of(page)):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_json_examples_are_json(path: Path) -> None:
    for language, code in FENCE.findall(path.read_text()):
        if language == "json":
            json.loads(code)

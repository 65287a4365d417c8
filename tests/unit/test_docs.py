"""What the documents say is what the code does: settings, events, error codes, paths, links."""

import ast
import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest

from config.settings import DEFAULT_ELIGIBILITY_FILE, Settings
from hub.app import build_app, connect_providers
from hub.domain import errors
from hub.domain.collision import Code as Collision
from hub.domain.events import EVENT_TYPES
from hub.domain.sender_health import CODES as HEALTH_CODES
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


def test_every_setting_has_its_row_with_its_default() -> None:
    rows = re.findall(r"^\| `PARTYLINE_(\w+)` \| (.*?) ?\|", text_of("docs/settings.md"), re.MULTILINE)
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
START_ERRORS = {"EmbeddedError", "MigrationError", "Unfit"}
MESSAGE_ONLY = {"expired"}
"""Refusals of the sender alone: no request is answered with them."""
PARSERS_OWN = {"parser_failed", "no_number", "no_customer", "empty_change", "charset", "text_cleaned", "not_storable"}
"""Reasons that reach what makes an entry in a variable."""
FETCHING = {"media_host_refused", "media_unavailable"}
"""What `Provider.fetch` promises to refuse with."""


@cache
def all_calls(folder: str) -> list[ast.Call]:
    """Every call in the modules of a folder."""
    trees = (ast.parse(path.read_text()) for path in sorted((ROOT / folder).rglob("*.py")))
    return [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]


def calls(folder: str, names: set[str]) -> Iterator[ast.Call]:
    for node in all_calls(folder):
        if isinstance(node.func, ast.Name) and node.func.id in names:
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


def words(node: ast.AST) -> set[str]:
    """The texts that may be codes."""
    return {text for text in texts(node) if re.fullmatch(r"[a-z]+(_[a-z]+)+|[a-z]{5,}", text)}


def quarantine_codes() -> set[str]:
    """The reasons that items are kept for: the first word given to what makes an entry, or a second behind its key."""
    found = {word for call in calls("providers", {"unparsed_bytes", "_unparsed"}) for word in words(call.args[0])}
    found |= {word for call in methods("providers", {"unparsed"}) for word in words(call.args[0])}
    found |= {word for call in calls("hub", {"Unparsed"}) for word in words(call.args[1])}
    return found | {word for call in methods("hub", {"isolated"}) for word in words(call.args[1])}


def delivery_codes() -> set[str]:
    """Why there was no answer to a delivery."""
    found = {word for call in calls("hub/fanout", {"DialError"}) for word in words(call.args[0])}
    for call in methods("hub/fanout", {"drop", "_give_up", "call_later"}):
        found |= {word for argument in call.args for word in words(argument)}
    tree = ast.parse((ROOT / "hub/fanout/dialing.py").read_text())
    (judge,) = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "_problem"]
    return found | {word for n in ast.walk(judge) if isinstance(n, ast.Return) and n.value for word in words(n.value)}


def file_codes() -> set[str]:
    """Why a customer's file was not fetched, besides what providers answer to everything."""
    found = {word for call in calls("hub/workers", {"_Outcome"}) for part in call.args[1:2] for word in words(part)}
    found |= {word for call in calls("hub/workers", {"Failure"}) for word in words(call.args[0])}
    return found | {word for call in calls("hub/store", {"Failure"}) for word in words(call.args[0])} | FETCHING


def warning_codes() -> set[str]:
    """What answers warn of: the values of `code` beside `agent`."""
    found: set[str] = set(Collision.__args__)
    for path in (ROOT / "hub" / "actions").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Dict):
                pairs = {k.value: v for k, v in zip(node.keys, node.values, strict=True) if isinstance(k, ast.Constant)}
                if {"code", "since"} <= set(pairs):
                    found |= words(pairs["code"])
    return found


def methods(folder: str, names: set[str]) -> Iterator[ast.Call]:
    """Calls of methods so named."""
    for node in all_calls(folder):
        if isinstance(node.func, ast.Attribute) and node.func.attr in names:
            yield node


def test_forbidden_and_conflict_always_say_which() -> None:
    for call in calls("hub", {"Forbidden", "Conflict"}):
        assert "code" in {keyword.arg for keyword in call.keywords}


def documented(title: str) -> list[str]:
    """The headings of the third level under one of the second."""
    part = re.split(r"^## (.+)$", text_of("docs/errors.md"), flags=re.MULTILINE)
    return re.findall(r"^### (\w+)$", dict(zip(part[1::2], part[2::2], strict=True))[title], re.MULTILINE)


def test_every_error_code_has_its_section() -> None:
    assert set(documented("What the API answers")) == api_codes()


def test_every_start_code_has_its_section() -> None:
    assert set(documented("Why the hub does not start")) == start_codes()


def test_every_reason_of_a_quarantine_has_its_section() -> None:
    here = {*documented("Why something is quarantined"), "invalid_json", "no_such_route"}
    assert here == quarantine_codes() | PARSERS_OWN


@pytest.mark.parametrize(
    "codes", [send_codes, delivery_codes, file_codes, warning_codes, lambda: set(HEALTH_CODES)],
    ids=["sends", "deliveries", "files", "warnings", "health"],
)  # fmt: skip
def test_every_reason_has_its_section(codes: Callable[[], set[str]]) -> None:
    """Anywhere on the page: a code has one anchor, whatever uses it."""
    assert codes()
    assert codes() <= set(sections("docs/errors.md"))


def test_each_code_stands_once_with_its_cause_and_its_cure() -> None:
    found = sections("docs/errors.md")
    headings = re.findall(r"^### (.+)$", text_of("docs/errors.md"), re.MULTILINE)
    assert len(headings) == len(set(headings))
    for code, rest in found.items():
        text = rest.split("\n## ")[0]
        assert re.search(r"^\*\*Cause\.\*\* \S", text, re.MULTILINE), code
        assert re.search(r"^\*\*Cure\.\*\* \S", text, re.MULTILINE), code


def test_where_the_api_answers_a_code_its_status_is_told() -> None:
    found = sections("docs/errors.md")
    for code in documented("What the API answers"):
        assert re.match(r"\s*[45]\d\d", found[code]), code


def test_what_a_problem_is_called_leads_to_its_section() -> None:
    """`type` of a problem document: `/docs/errors#code`."""
    anchors = anchors_of(DOCS / "errors.md")
    assert api_codes() <= anchors


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
    served = {(method, path) for method, path in served if not path.startswith("/console")}  # pages, not an API
    listed = {
        tuple(entry.split()) for entry in re.findall(r"^### `(\w+ [^`]+)`$", text_of("docs/api.md"), re.MULTILINE)
    }
    assert listed == served


# Log ----------------------------------------------------------------------------------------------------------------


def test_log_lines_worth_knowing_are_logged() -> None:
    table = text_of("docs/operations.md").split("## Log lines worth knowing")[1]
    named = {name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\S+)`", row)}
    logged = {
        text for call in methods("hub", {"info", "warning", "error", "exception", "critical"}) for text in texts(call)
    }
    assert named <= logged


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

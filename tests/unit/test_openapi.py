"""The OpenAPI document: every route is in it, it is valid, and it is made of what handlers read."""

import ast
import json
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from hub.app import build_app
from hub.domain.errors import Refusal
from hub.domain.events import EVENT_TYPES
from hub.http import docs_text, params
from hub.http.docs_pages import document_of
from hub.http.operations import operation_of
from hub.http.problem_codes import STATUSES
from hub.http.reference import reference_of
from tests.support.fuzz import UNSAID

ROOT = Path(__file__).parents[2]
HTTP = ROOT / "hub" / "http"
PAGES = ("/console", "/webhooks/")
"""Not for integrators: pages for people, and what providers call in their own words (docs/providers.md)."""


@pytest.fixture(scope="module")
def app() -> web.Application:
    return build_app(SimpleNamespace(routes={}, handshakes=[]))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def document(app: web.Application) -> dict[str, Any]:
    return document_of(app)


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By method and path."""
    return {
        f"{method.upper()} {path}": told
        for path, methods in document["paths"].items()
        for method, told in methods.items()
    }


def test_it_is_valid(document: dict[str, Any]) -> None:
    assert [error.message for error in OPENAPI_31_VALIDATOR.iter_errors(document)] == []
    refs = set(re.findall(r'"\$ref": ?"#/components/(\w+)/([^"]+)"', json.dumps(document)))
    assert all(name in document["components"][kind] for kind, name in refs)


def test_every_route_is_in_it(app: web.Application, document: dict[str, Any]) -> None:
    served = {f"{r.method} {r.resource.canonical}" for r in app.router.routes() if r.resource and r.method != "HEAD"}
    assert {one for one in served if not one.partition(" ")[2].startswith(PAGES)} == set(operations(document))


def test_it_says_what_docs_api_says(document: dict[str, Any]) -> None:
    listed = set(re.findall(r"^### `([A-Z]+ /[^`]*)`$", (ROOT / "docs/api.md").read_text(), re.MULTILINE))
    assert {one for one in listed if not one.partition(" ")[2].startswith(PAGES)} == set(operations(document))


def test_operations_are_told_apart_and_told(document: dict[str, Any]) -> None:
    told = operations(document).values()
    ids = Counter(one["operationId"] for one in told)
    assert [name for name, times in ids.items() if times > 1] == []
    assert [one["operationId"] for one in told if not one["summary"] or not one["description"]] == []


def test_every_parameter_of_a_path_is_described(document: dict[str, Any]) -> None:
    for name, told in operations(document).items():
        described = {one["name"] for one in told.get("parameters", ()) if one["in"] == "path"}
        assert described == set(re.findall(r"\{(\w+)\}", name)), name


def test_every_event_is_in_it(document: dict[str, Any]) -> None:
    assert list(document["webhooks"]) == list(EVENT_TYPES)


def test_codes_are_those_of_the_documents() -> None:
    text = (ROOT / "docs/errors.md").read_text().partition("## What the API answers")[2]
    explained = dict(re.findall(r"^### (\w+)\n\n.*?\b(\d{3})\b", text.partition("\n## ")[0], re.MULTILINE))
    of_pages = {"csrf", "too_many_logins"}
    assert {code: int(status) for code, status in explained.items() if code not in of_pages} == STATUSES


def test_what_api_md_shows_is_valid(app: web.Application, document: dict[str, Any]) -> None:
    """Each example there is one of the body or of an answer, by their models: most are found in the document."""
    shown = [name for name, values in docs_text.read_examples().items() if values]
    with_example = [
        name
        for name, told in operations(document).items()
        if any("example" in one for one in _contents(told)) and tuple(name.split()) in shown
    ]
    without = {" ".join(name) for name in shown} - set(with_example) - set(PARTIAL)
    assert without == set()


PARTIAL: tuple[str, ...] = ()
"""Where the example is of a part."""


def _contents(told: dict[str, Any]) -> list[dict[str, Any]]:
    bodies = [told.get("requestBody", {}), *told["responses"].values()]
    return [content for body in bodies for content in body.get("content", {}).values()]


def test_the_reference_shows_all_of_it(document: dict[str, Any]) -> None:
    reference = reference_of(document, "https://hub.example.com")
    entries = [entry for entries in reference.tags.values() for entry in entries]
    assert len(entries) == len(operations(document))
    (pick_up,) = [entry for entry in entries if entry.id == "post_pickup"]
    assert pick_up.curl.startswith("curl -X POST 'https://hub.example.com/v1/conversations/cnv_")
    assert '-H "Authorization: Bearer $PARTYLINE_KEY"' in pick_up.curl


def test_handlers_read_parameters_only_where_they_are_described() -> None:
    """By hub.http.params alone; `schemas` reads the query of the console's pages, `ingress` that of providers."""
    own = {"params.py", "ingress.py", "schemas.py"}
    readers = set()
    for path in HTTP.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in {"query", "query_string", "rel_url"}:
                readers.add(path.name)
    assert readers - own == set()


# Parameters ---------------------------------------------------------------------------------------------------------

CASES = [
    (params.LIMIT, "", 50),
    (params.LIMIT, "?limit=200", 200),
    (params.LIMIT, "?limit=0", "invalid_request"),
    (params.LIMIT, "?limit=%D9%A3", "invalid_request"),
    (params.LIMIT, "?limit=99999999999999999999", "invalid_request"),
    (params.NUMBER, "?number=%2B4915112345678", "+4915112345678"),
    (params.NUMBER, "?number=+4915112345678", "+4915112345678"),
    (params.NUMBER, "?number=abc", "invalid_request"),
    (params.after_id("cnv"), "?after=cnv_1", "not_found"),
    (params.flag("waiting", "?"), "", False),
    (params.flag("waiting", "?"), "?waiting=true", True),
    (params.flag("waiting", "?"), "?waiting=1", "invalid_request"),
    (params.event("after", "?"), "?after=evt_0000000000000010", 16),
    (params.event("after", "?"), "?after=16", "invalid_request"),
    (params.time("since", "?"), "?since=yesterday", "invalid_request"),
    (params.word("id", "what", is_required=True), "", "invalid_request"),
    (params.choice("sort", "?", ("a", "b"), default="a"), "?sort=c", "invalid_request"),
]


@pytest.mark.parametrize(("parameter", "query", "wanted"), CASES, ids=range(len(CASES)))
def test_a_parameter_is_read_as_it_is_described(parameter: params.Parameter[Any], query: str, wanted: Any) -> None:
    request = make_mocked_request("GET", f"/{query}")
    if isinstance(wanted, str) and wanted in STATUSES:
        with pytest.raises(Refusal) as refused:
            parameter.read(request)
        assert refused.value.code == wanted
        assert wanted in (parameter.codes or ("invalid_request",))
    else:
        assert parameter.read(request) == wanted


def test_exceptions_of_the_fuzz_are_operations(document: dict[str, Any]) -> None:
    assert set(operations(document)) >= UNSAID


def test_a_handler_that_says_nothing_is_known_by_that() -> None:
    assert operation_of(lambda: None) is None


# Pages --------------------------------------------------------------------------------------------------------------


def test_links_of_the_pages_lead_to_pages_and_sections() -> None:
    broken = []
    for name in docs_text.page_names():
        page = docs_text.read_page(name)
        assert page
        for target, anchor in re.findall(r'href="/docs/([^"#]+)#?([^"]*)"', page.html):
            other = docs_text.read_page(target)
            if other is None or (anchor and f'id="{anchor}"' not in other.html):
                broken.append((name, target, anchor))
    assert broken == []


def test_the_type_of_every_problem_leads_to_its_section() -> None:
    page = docs_text.read_page("errors")
    assert page
    assert [code for code in STATUSES if f'<h3 id="{code}">' not in page.html] == []


def test_what_is_written_in_documents_is_no_markup() -> None:
    assert docs_text.markdown("<script>x</script> [a](javascript:x)") == (
        "<p>&lt;script&gt;x&lt;/script&gt; [a](javascript:x)</p>\n"
    )
    assert docs_text.read_page("../README") is None

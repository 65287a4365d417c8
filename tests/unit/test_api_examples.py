"""What `docs/api.md` shows under an operation is a body that it takes or an answer that it gives (`/openapi.json`)."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import jsonschema_rs

from hub.app import build_app
from hub.http.docs_pages import document_of
from hub.http.docs_text import read_examples


def schemas_of(operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Of the body, and of all answers that have one."""
    for part in (operation.get("requestBody", {}), *operation["responses"].values()):
        yield from (content["schema"] for content in part.get("content", {}).values() if "schema" in content)


def test_every_example_of_the_reference_fits() -> None:
    document = document_of(build_app(SimpleNamespace(routes={}, handshakes=[])))  # type: ignore[arg-type]
    components = {"schemas": document["components"]["schemas"]}
    shown, unfit = 0, []
    for (method, path), examples in read_examples().items():
        operation = document["paths"].get(path, {}).get(method.lower())
        if not operation or not examples:
            continue
        any_of = {"anyOf": list(schemas_of(operation)), "components": components}
        fits = jsonschema_rs.Draft202012Validator(any_of, validate_formats=True).is_valid
        shown += len(examples)
        unfit += [(method, path, example) for example in examples if not fits(example)]
    assert not unfit
    assert shown > 60

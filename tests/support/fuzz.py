"""Requests that schemathesis makes of the OpenAPI document, against a hub that runs, and what it finds wrong."""

import asyncio
import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import from_schema
from schemathesis.engine.events import NonFatalError, ScenarioFinished

from tests.support.talk import MIA, writes
from tests.support.world import ADMIN, NUMBER, Service, World

UNSAID = frozenset({
    # a condition between fields, or of a field's own, that JSON Schema does not say in the document
    "POST /v1/messages", "POST /v1/conversations/{id}/messages", "POST /v1/conversations/{id}/pass", "POST /v1/links",
    "PUT /v1/numbers/{e164}/connection", "POST /v1/replays", "POST /v1/admin/replays", "POST /v1/admin/numbers",
    "POST /v1/admin/numbers/{e164}/senders", "PATCH /v1/admin/numbers/{e164}/senders/{medium}",
    "POST /v1/admin/services", "PATCH /v1/admin/services/{id}", "PUT /v1/admin/numbers/{e164}/parent",
    "PUT /v1/consents/{medium}/{address}", "PUT /v1/admin/consents/{medium}/{address}", "POST /v1/identify",
    "GET /v1/consents/{medium}/{address}", "GET /v1/admin/consents/{medium}/{address}", "POST /v1/media",
    "POST /v1/contacts/{id}/merge", "POST /v1/admin/contacts/{id}/merge", "POST /collect", "GET /v1/contacts",
    "GET /v1/admin/contacts", "POST /v1/admin/quarantine/replay", "GET /v1/trace", "GET /v1/admin/trace",
    # a cursor, that only the hub can make, or two parameters of which there may be one
    "GET /v1/events", "GET /v1/deliveries", "GET /v1/admin/deliveries", "GET /v1/conversations/{id}/messages",
    "GET /v1/admin/conversations/{id}/messages", "GET /v1/contacts/{id}/timeline", "GET /v1/visitors/{id}",
    "GET /v1/admin/visitors/{id}", "GET /v1/admin/audit", "GET /v1/numbers/{e164}/templates",
    "GET /v1/messages/{id}/links", "GET /v1/campaigns/{name}/links",
    "GET /v1/campaigns", "GET /v1/admin/campaigns", "GET /v1/admin/campaigns/{name}/links", "GET /v1/admin/events",
})  # fmt: skip
"""Operations that may refuse with 422 what the document allows: all others must take it (`positive_data_acceptance`).
"""
CHECKS = (
    "positive_data_acceptance",
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
    "negative_data_rejection",
)
"""`missing_required_header`: there is none. `use_after_free`, `ensure_resource_availability`: what is deleted here can
mostly be read on, and ids are not made by POST and PUT alone. `object_level_authorization`: needs two users that may do
the same; who reaches what is the subject of most acceptance tests.
"""
_KEYS = re.compile(r"^\^([a-z]+)_\[0-9a-f\]\{32\}\$$")


@dataclass
class Findings:
    """How many requests were made, and what was wrong, each with a command line that shows it."""

    requests: int = 0
    problems: list[str] = field(default_factory=list)


def aimed(document: Mapping[str, Any], known: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """A copy of the document in which ids are those `known` by their prefix, or the name of their parameter, and in
    which nobody waits for anything.
    """
    made: dict[str, Any] = copy.deepcopy(dict(document))
    for methods in made["paths"].values():
        for told in methods.values():
            told["parameters"] = [one for one in told.get("parameters", ()) if one["name"] != "wait"]
            for parameter in told["parameters"]:
                match = _KEYS.match(parameter["schema"].get("pattern", ""))
                name = match[1] if match else parameter["name"]
                if parameter["in"] == "path" and name in known:
                    parameter["schema"] = {"type": "string", "enum": [*known[name]]}
                    parameter.pop("example", None)
    return made


ENDLESS = "/v1/events/stream"
"""An answer that ends when its reader leaves; tests of the feed read it."""


def of(document: Mapping[str, Any], who: str) -> dict[str, Any]:
    """The part of a document that a key of this kind, or (`open`) nobody's, is for, but what has no end."""
    paths: dict[str, Any] = {}
    for path, methods in document["paths"].items():
        for method, told in methods.items() if path != ENDLESS else ():
            needed = next((name for one in told["security"] for name in one), "open")
            if needed == who:
                paths.setdefault(path, {})[method] = told
    return {**document, "paths": paths}


def attack(
    document: Mapping[str, Any], url: str, key: str | None, *, max_examples: int, phases: Sequence[str], seed: int = 7
) -> Findings:  # fmt: skip
    """Make requests of every operation of a document, and check the answers; blocks."""
    config: dict[str, Any] = {
        "seed": seed,
        "headers": {"Authorization": f"Bearer {key}"} if key else {},
        "base-url": url,
        "generation": {
            "max-examples": max_examples, "deterministic": True, "no-shrink": True, "database": "none",
        },
        "phases": {name: {"enabled": name in phases} for name in ("examples", "coverage", "fuzzing", "stateful")},
        "checks": {name: {"enabled": True} for name in CHECKS},
    }  # fmt: skip
    for name in ("missing_required_header", "use_after_free", "ensure_resource_availability"):
        config["checks"][name] = {"enabled": False}
    schema = schemathesis.openapi.from_dict(dict(document), config=SchemathesisConfig.from_dict(config))
    found = Findings()
    for event in from_schema(schema).execute():
        if isinstance(event, NonFatalError):
            found.problems.append(f"schemathesis: {event.label}: {event.value!r}"[:1500])
        if isinstance(event, ScenarioFinished):
            found.requests += len(event.recorder.interactions)
            found.problems += _failures(event)
    return found


def _failures(event: ScenarioFinished) -> Iterator[str]:
    for nodes in event.recorder.checks.values():
        for node in nodes:
            is_unsaid = node.name == "positive_data_acceptance" and event.recorder.label in UNSAID
            if node.failure_info and not is_unsaid:
                failure = node.failure_info.failure
                text = f"{event.recorder.label}: {node.name}: {failure.title}: {failure.message}"
                yield f"{text}\n{node.failure_info.code_sample}"[:2500]


# What there is to ask for -------------------------------------------------------------------------------------------

SCOPES = ["read", "reply", "automate", "profiles"]


@dataclass
class Town:
    """A hub with a little of everything, and the ids of it by their prefix, or the name of the parameter."""

    world: World
    service: Service
    known: dict[str, list[str]]

    async def attack(self, who: str, **how: Any) -> Findings:
        """Attack with the service's key, the operator's, or (`open`) with none."""
        async with self.world.session.get(f"{self.world.hub.url}/openapi.json") as answer:
            document = await answer.json()
        key = {"service": self.service.key, "operator": ADMIN, "open": None}[who]
        part = aimed(of(document, who), self.known)
        return await asyncio.to_thread(attack, part, self.world.hub.url, key, **how)


async def settle(world: World) -> Town:
    """A service and its customer, who talk; a file, a link, a replay, a profile, and something in quarantine."""
    crm, other = await world.service("crm", scopes=SCOPES), await world.service("other", scopes=SCOPES)
    await crm.connect()
    await other.connect()
    conversation = await writes(world.customer(MIA), crm)
    sent = await crm.reply(conversation, "See https://www.shop.example/sale")
    made = {
        "lnk": await crm.call("POST", "/v1/links", {"url": "https://www.shop.example/sale"}),
        "rpl": await crm.call("POST", "/v1/replays", {"conversation_id": conversation}),
        "con": await crm.call("POST", "/v1/identify", {"email": "mia@example.com", "external_id": "4711"}),
    }
    assert sent.status == 202, sent
    assert [answer.status for answer in made.values()] == [201, 202, 200], made
    profile = made["con"].json
    known = {
        "e164": [NUMBER, "+15559999999"],
        "svc": [other.id],
        "cnv": [conversation],
        "msg": [sent.json["message"]["id"]],
        "lnk": [made["lnk"].json["id"]],
        "rpl": [made["rpl"].json["id"]],
        "con": [profile["contact"]["id"]],
        "op": [profile["operation_id"]],
        "med": [await _file(world, crm)],
        "medium": ["whatsapp", "sms", "email"],
        "address": ["+4915112345678", "mia@example.com"],
        "page": ["errors", "api", "nowhere"],
    }
    return Town(world, crm, known)


async def _file(world: World, service: Service) -> str:
    headers = {"Authorization": f"Bearer {service.key}", "Content-Type": "text/plain"}
    async with world.session.post(f"{world.hub.url}/v1/media", data=b"Hello", headers=headers) as answer:
        assert answer.status == 201, await answer.text()
        return str((await answer.json())["id"])

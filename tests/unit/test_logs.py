"""What a log line may hold (style.md: never bodies, secrets or whole phone numbers)."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config import logs
from hub.store.sealing import new_api_key

PHONE = "+4915112345678"
DIGITS = "4915112345678"


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@dataclass
class Lines:
    """What is written to standard error."""

    stream: io.StringIO

    def text(self) -> str:
        return self.stream.getvalue()

    def one(self) -> dict[str, Any]:
        (line,) = self.text().splitlines()
        return dict(json.loads(line))


def configured(monkeypatch: pytest.MonkeyPatch, level: str, form: str) -> Lines:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    logs.configure(level, form)
    return Lines(stream)


@pytest.fixture(params=["json", "console"])
def lines(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Lines:
    return configured(monkeypatch, "debug", request.param)


@pytest.fixture
def json_lines(monkeypatch: pytest.MonkeyPatch) -> Lines:
    return configured(monkeypatch, "info", "json")


def logger() -> Any:
    """A logger of its own: those of the hub's modules would remember this configuration."""
    return structlog.get_logger()


def test_a_line_is_one_json_object_with_time_and_level(json_lines: Lines) -> None:
    logger().info("delivery.attempted", attempts=3, at=datetime(2026, 1, 1, tzinfo=UTC), subscription=UUID(int=7))
    line = json_lines.one()
    assert (line["event"], line["level"], line["attempts"]) == ("delivery.attempted", "info", 3)
    assert datetime.fromisoformat(line["timestamp"]).tzinfo is not None
    assert "2026" in line["at"]
    assert str(UUID(int=7)) in line["subscription"]


def test_the_level_is_kept(json_lines: Lines) -> None:
    logger().debug("x.y")
    logging.getLogger("some.library").debug("x.y")
    assert json_lines.text() == ""


@pytest.mark.parametrize(
    "name",
    [
        "authorization", "Authorization", "token", "access_token", "auth_token", "secret", "app_secret",
        "signing_secret", "client_secret", "password", "body", "text", "api_key", "admin_key", "secret_key", "content",
        "raw", "cookie", "set-cookie", "signature", "webhook-signature",
    ],
)  # fmt: skip
def test_fields_by_name_are_hidden_at_any_depth(lines: Lines, name: str) -> None:
    logger().info("x.y", **{name: "vErYpRiVaTe"})
    logger().info("x.y", headers={name: "vErYpRiVaTe"}, parts=[{"deep": {name: ["vErYpRiVaTe"]}}])
    text = lines.text()
    assert text.count("redacted") == 3
    assert "vErYpRiVaTe" not in text


@pytest.mark.parametrize(
    "around",
    [
        "{}", "to {}", "to {}.", "to {}, soon", "({})", "<{}>", '"{}"', "whatsapp:{}", "phone={}", "{}:", "{}/x",
        "x={};", "tel:{}@example.com", "https://api.example/{}/messages", "https://api.example/{}.json",
    ],
)  # fmt: skip
@pytest.mark.parametrize("number", [PHONE, DIGITS, "+15550001111", "15550001111", "%2B4915112345678"])
def test_no_whole_phone_number_wherever_it_stands(lines: Lines, around: str, number: str) -> None:
    said = around.format(number)
    logger().info(said, said=said, listed=[said], keyed={"to": said}, pair=(said,))
    logging.getLogger("aiohttp.client").warning("could not reach %s", said)
    text = lines.text()
    assert number.lstrip("+%2B") not in text
    assert "could not reach" in text


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(new_api_key(), id="an api key"),
        "whsec_" + "aB3/+=" * 7,
        "Bearer EAAGm0PX4ZCpsBA",
        "bearer abc.def-g",
    ],
)
def test_no_key_wherever_it_stands(lines: Lines, key: str) -> None:
    said = f"called with {key}, and failed"
    logger().warning(said, problem=said, headers={"x": said})
    logging.getLogger("some.library").warning("sent %s", {"Authorization": key})
    text = lines.text()
    assert key.removeprefix("Bearer ").removeprefix("bearer ") not in text
    assert "and failed" in text


def test_no_password_of_a_url(lines: Lines) -> None:
    logger().error("database.away", url="postgresql://hub:hunter2@db.example/hub")
    logging.getLogger("asyncpg").error("connect to postgresql://hub:hunter2@db.example/hub")
    text = lines.text()
    assert "hunter2" not in text
    assert text.count("db.example") == 2


@dataclass
class Outbound:
    """Something with content, as might be logged by mistake."""

    to: str
    text: str


def test_objects_do_not_carry_content_past_the_filter(lines: Lines) -> None:
    message = Outbound(PHONE, "see you at eight")
    logger().info("x.y", message=message, many=[message], raw_bytes=b'{"text": "see you at eight"}')
    logger().info("x.y", error=ValueError(f"no route to {PHONE}"))
    text = lines.text()
    assert DIGITS not in text
    assert "see you at eight" not in text


def test_exceptions_are_told_without_numbers_and_keys(lines: Lines) -> None:
    key = new_api_key()
    try:
        raise RuntimeError(f"{key} may not write to {PHONE}")
    except RuntimeError:
        logger().exception("request.failed")
        logging.getLogger("aiohttp.server").exception("Error handling request from %s", PHONE)
        logging.getLogger("some.library").warning("again", exc_info=True)
    text = lines.text()
    assert text.count("RuntimeError") >= 3
    assert DIGITS not in text
    assert key not in text


def test_an_exception_s_chain_is_told_without_them_too(lines: Lines) -> None:
    try:
        try:
            raise ValueError(PHONE)
        except ValueError as error:
            raise RuntimeError("whsec_c2VjcmV0") from error
    except RuntimeError:
        logger().exception("request.failed")
    text = lines.text()
    assert "ValueError" in text
    assert DIGITS not in text
    assert "c2VjcmV0" not in text


def test_what_helps_is_left_alone(json_lines: Lines) -> None:
    logger().info(
        "send.attempted",
        message="msg_0199a6c5b7e27c1a8f0e5d4c3b2a1908",
        event_id="evt_00000000000004d2",
        sequence=12345678901,
        wait=0.25,
        is_late=False,
        nothing=None,
        at="2026-11-21T23:05:00Z",
        version="18.6.0",
        address="192.168.100.200",
    )
    line = json_lines.one()
    assert line["message"] == "msg_0199a6c5b7e27c1a8f0e5d4c3b2a1908"
    assert line["event_id"] == "evt_00000000000004d2"
    assert (line["sequence"], line["wait"], line["is_late"], line["nothing"]) == (12345678901, 0.25, False, None)
    assert (line["at"], line["version"], line["address"]) == ("2026-11-21T23:05:00Z", "18.6.0", "192.168.100.200")


def test_a_shortened_number_can_still_be_recognised(json_lines: Lines) -> None:
    logger().info("x.y", to=PHONE)
    assert json_lines.one()["to"] == "+491...78"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(
    before=st.text(st.characters(codec="ascii", exclude_categories=["Nd", "L"]), max_size=5),
    number=st.from_regex(r"\A\+[1-9][0-9]{7,14}\Z"),
    after=st.text(st.characters(codec="ascii", exclude_categories=["Nd"]), max_size=5),
)
def test_no_number_in_international_form_in_any_surroundings(before: str, number: str, after: str) -> None:
    event = logs.redact(None, "info", {"event": before + number + after, "list": [{"x": (before + number + after,)}]})
    assert number not in repr(event)
    assert number[1:] not in repr(event)


@pytest.mark.parametrize("noisy", ["httpx", "httpcore", "twilio", "pywa", "asyncio"])
def test_libraries_that_log_requests_are_quiet(json_lines: Lines, noisy: str) -> None:
    logging.getLogger(noisy).info("POST https://api.example/Messages.json Body=see you at eight")
    assert json_lines.text() == ""

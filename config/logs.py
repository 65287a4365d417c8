"""Logging: structlog, one line per unit of work, as JSON or for people. Secrets and whole numbers never reach it."""

import logging
import re
import sys
from typing import Any, Final

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_HIDDEN: Final = frozenset(
    {"authorization", "token", "secret", "password", "body", "text", "api_key", "content", "raw"}
)
_PHONE: Final = re.compile(r"\+\d{7,15}|(?<![\w.])\d{10,15}(?![\w.])")
_KEY: Final = re.compile(r"(plk_|whsec_|Bearer )[\w+/=.-]+")


def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Hide what must not be written down: fields by name, keys and phone numbers wherever they stand."""
    return {key: "[redacted]" if key in _HIDDEN else _redacted(value) for key, value in event.items()}


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return _PHONE.sub(_short, _KEY.sub(r"\1[redacted]", value))
    if isinstance(value, dict):
        return {key: "[redacted]" if key in _HIDDEN else _redacted(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(inner) for inner in value]
    return value


def _short(match: re.Match[str]) -> str:
    digits = match.group()
    return f"{digits[:4]}...{digits[-2:]}"


def configure(level: str, form: str) -> None:
    """Set logging up for this process: structlog's own lines and those of libraries, in one form."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for noisy in ("httpx", "httpcore", "twilio", "pywa", "asyncio"):
        logging.getLogger(noisy).setLevel("WARNING")

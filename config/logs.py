"""Logging: structlog, one line per unit of work, as JSON or for people. Secrets and whole numbers never reach it."""

import logging
import re
import sys
from collections.abc import Mapping
from datetime import date, time
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_HIDDEN: Final = frozenset(
    {"authorization", "token", "secret", "password", "body", "text", "key", "content", "raw", "cookie", "signature"}
)
"""Last words of field names whose values are never written: `token`, `access_token`, `Set-Cookie`."""
_WORD: Final = re.compile(r"[a-z0-9]+")
_PHONE: Final = re.compile(r"(?:\+|%2B)\d{7,15}|(?<!\w)(?<!\d\.)\d{10,15}(?!\w)(?!\.\d)", re.IGNORECASE)
_KEY: Final = re.compile(r"(plk_|whsec_|Bearer )[\w+/=.-]+", re.IGNORECASE)
_USER: Final = re.compile(r"(://[^\s/:@]*:)[^\s/@]+@")


def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Hide what must not be written down: fields by name, keys and phone numbers wherever they stand.

    Names that start with an underscore are structlog's own, and taken out before anything is written.
    """
    return {key: value if key.startswith("_") else _field(key, value) for key, value in event.items()}


def _field(name: str, value: Any) -> Any:
    words = _WORD.findall(name.lower())
    return "[redacted]" if words and words[-1] in _HIDDEN else _redacted(value)


def _redacted(value: Any) -> Any:
    """Of objects only plain ones are written out: nobody knows what the text of the others holds."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, str | date | time | PurePath):
        return _PHONE.sub(_short, _USER.sub(r"\1[redacted]@", _KEY.sub(r"\1[redacted]", str(value))))
    if isinstance(value, Mapping):
        return {str(key): _field(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted(inner) for inner in value]
    if isinstance(value, BaseException):
        return _redacted(f"{type(value).__name__}: {value}")
    return f"[{len(value)} bytes]" if isinstance(value, bytes) else f"[{type(value).__name__}]"


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
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
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

"""What happens to webhooks on their way: a request's parts as they arrived, and as they may have been before.

Pure. No finding ever holds a secret, or a signature that would have been right.
"""

import base64
import binascii
import gzip
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

_MOST_INFLATED: Final = 16 * 1024 * 1024
RAW: Final = "verify the bytes as they came, before anything reads or parses them"
"""What helps against every change of a body."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, why that is likely, and what to do; `code` is stable."""

    code: str
    text: str
    cure: str


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it arrived; names of headers in small letters. `url`: as its sender called it."""

    headers: Mapping[str, str]
    body: bytes
    url: str = ""


@dataclass(frozen=True, slots=True)
class Guess:
    """A form that something may have had, and what happened to it then; None: it is as it was given."""

    value: Any
    mishap: Finding | None = None


def found_header(headers: Mapping[str, str], name: str) -> tuple[str | None, str]:
    """The value of a header, and the name it stands under: proxies and gateways rename them."""
    plain = name.replace("-", "_")
    for known in (name, plain, f"http-{name}", f"http_{plain}", f"x-{name}", name.replace("webhook-", "svix-")):
        if known in headers:
            return headers[known], known
    return None, name


def header(headers: Mapping[str, str], name: str) -> tuple[str, list[Finding]]:
    """The value of a header, empty where it is not there; and what is wrong with it."""
    value, found = found_header(headers, name)
    if value is None:
        cure = "pass all headers on; proxies and frameworks may drop those they do not know"
        return "", [Finding("header_missing", f"the header {name} is not there", cure)]
    if found != name:
        return value, [Finding("header_renamed", f"the header {name} arrived as {found}", "read it by its own name")]
    return value, []


def bodies(body: bytes) -> Iterator[Guess]:
    """What the body may have been, the likeliest first."""
    yield Guess(body)
    for change, other in (
        ("a line break was added at the end", body.rstrip(b"\r\n")),
        ("the line break at the end was cut off", body + b"\n"),
        ("blanks at its ends were cut off or added", body.strip()),
        ("line ends were made CRLF", body.replace(b"\r\n", b"\n")),
        ("line ends were made LF", re.sub(rb"(?<!\r)\n", b"\r\n", body)),
        ("a byte order mark was put before it", body.removeprefix(b"\xef\xbb\xbf")),
    ):
        if other != body:
            yield Guess(other, Finding("body_line_ends", f"the body was changed on the way: {change}", RAW))
    for charset in ("latin-1", "cp1252"):
        if (recoded := _recoded(body, charset)) not in {None, body}:
            text = f"the body was read as {charset} and written again: it is UTF-8"
            yield Guess(recoded, Finding("body_charset", text, RAW))
    if (decoded := _from_base64(body)) is not None:
        cure = "decode it first: gateways hand bodies over in base64"
        yield Guess(decoded, Finding("body_base64", "the body is in base64, the signature is over what is in it", cure))
    if (inflated := _inflated(body)) is not None:
        yield Guess(inflated, Finding("body_compressed", "the body is compressed", "verify what it holds"))
    for other in dict.fromkeys(_rewritten(body)):
        if other != body:
            text = "the body was parsed and written again: blanks, escapes or the order of its fields changed"
            yield Guess(other, Finding("body_reserialised", text, RAW))


def _recoded(body: bytes, charset: str) -> bytes | None:
    try:
        return body.decode().encode(charset)
    except UnicodeError:
        return None


def _from_base64(body: bytes) -> bytes | None:
    try:
        return base64.b64decode(body.strip(), validate=True) if len(body) > 8 else None
    except (binascii.Error, ValueError):
        return None


def _inflated(body: bytes) -> bytes | None:
    if body[:2] != b"\x1f\x8b":
        return None
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(body)) as packed:
            return packed.read(_MOST_INFLATED)
    except (OSError, EOFError):
        return None


def _rewritten(body: bytes) -> Iterator[bytes]:
    """JSON as those who sign it write it: compact, plain or escaped, its fields as they came or as the hub has them."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return
    for value in (document, _ordered(document)):
        for is_ascii in (False, True):
            for separators in ((",", ":"), (", ", ": ")):
                try:
                    text = json.dumps(value, ensure_ascii=is_ascii, separators=separators)
                    yield text.encode()
                    yield text.replace("/", r"\/").encode()
                except (ValueError, UnicodeError):
                    continue


def compact(document: Any) -> Iterator[bytes]:
    """JSON as the hub and Meta write it, without blanks: plain, escaped, slashes escaped, too."""
    for is_ascii in (False, True):
        text = json.dumps(document, ensure_ascii=is_ascii, separators=(",", ":"))
        yield text.encode("utf-8", "surrogatepass")
        yield text.replace("/", r"\/").encode("utf-8", "surrogatepass")


def _ordered(document: Any) -> Any:
    """With the outermost fields in the order of Standard Webhooks."""
    if not isinstance(document, dict):
        return document
    order = {"type": 0, "timestamp": 1, "data": 2}
    return dict(sorted(document.items(), key=lambda item: order.get(item[0], 3)))


def guessed_secrets(secrets: Sequence[str]) -> Iterator[tuple[int, Guess]]:
    """Secrets as they were given, and as they may have been meant."""
    for place, secret in enumerate(secrets):
        yield place, Guess(secret)
        if (bare := secret.strip().strip("'\"").strip()) != secret:
            text = "the secret has blanks, a line break or quotes around it"
            yield place, Guess(bare, Finding("secret_spaces", text, "take them off: read the secret with strip()"))
        if " " in bare:
            text = "a plus sign in the secret became a blank"
            yield place, Guess(bare.replace(" ", "+"), Finding("secret_plus", text, "escape it as %2B in URLs"))

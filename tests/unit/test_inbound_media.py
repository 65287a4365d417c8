"""Files in what customers send: ids of ours, and nothing that tells where the provider has them."""

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from config.settings import REFUSED_TYPES
from hub.domain.inbound_media import FETCH_SCHEDULE, name_files, read_sha256, retry_after
from hub.domain.mime_types import bare_mime_type, is_refused, safe_name

AT = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
DIGEST = hashlib.sha256(b"file").digest()


def named(*media: Any, key: str = "meta:wamid.A", at: datetime = AT) -> list[str]:
    """The ids that files get."""
    return [entry["id"] for entry in name_files(key, {"media": list(media)}, at)[0]["media"]]


def test_what_is_shown_has_an_id_of_ours_and_no_source() -> None:
    entry = {
        "id": "4711", "url": "https://lookaside.example/?ext=1&hash=secret", "mime_type": "audio/ogg; codecs=opus",
        "filename": "a/b.ogg", "sha256": base64.b64encode(DIGEST).decode(), "voice": True,
    }  # fmt: skip
    content, (file,) = name_files("meta:wamid.A", {"text": "hear", "media": [entry]}, AT)
    (shown,) = content["media"]
    assert content["text"] == "hear"
    assert shown == {
        "id": f"med_{file.id.hex}", "mime_type": "audio/ogg; codecs=opus", "filename": "a/b.ogg",
        "sha256": DIGEST.hex(), "voice": True,
    }  # fmt: skip
    assert (file.provider_id, file.url, file.sha256) == ("4711", entry["url"], DIGEST)
    assert (file.mime_type, file.filename) == ("audio/ogg", "b.ogg")


def test_ids_are_the_same_for_the_same_item_and_sort_by_time() -> None:
    two = named({"id": "1"}, {"id": "1"})
    assert two == named({"id": "1"}, {"id": "1"})
    assert len({*two, *named({"id": "1"}, key="meta:wamid.B")}) == 3
    moments = [AT + timedelta(milliseconds=n) for n in range(20)]
    ids = [named({"id": "1"}, at=moment)[0] for moment in moments]
    assert ids == sorted(ids)
    for name in ids:
        value = UUID(name.removeprefix("med_"))
        assert (value.version, value.variant) == (7, "specified in RFC 4122")
    assert UUID(ids[0].removeprefix("med_")).int >> 80 == int(AT.timestamp() * 1000)


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"id": 5, "url": None},
        {"id": "", "url": "", "mime_type": 7, "filename": [], "sha256": {}},
        {"id": "\udcff"},
        {"mime_type": "image/png\r\nSet-Cookie: a"},  # it would cut the answer off that gives the file out
        {"mime_type": "ü/ü"},
    ],
    ids=range(6),
)
def test_odd_entries_are_named_too(entry: dict[str, Any]) -> None:
    content, (file,) = name_files("k", {"media": [entry]}, datetime.fromtimestamp(0, UTC))
    assert content["media"][0]["id"] == f"med_{file.id.hex}"
    assert (file.mime_type, file.filename, file.sha256) == ("application/octet-stream", "", None)
    assert file.provider_id in {None, "\udcff"}
    assert file.url is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (base64.b64encode(DIGEST).decode(), DIGEST),
        (DIGEST.hex(), DIGEST),
        (DIGEST.hex().upper(), DIGEST),
        (DIGEST.hex()[:-2], None),
        (base64.b64encode(DIGEST[:-1]).decode(), None),
        ("not a hash", None),
        ("ü", None),
        ("", None),
        (None, None),
        (7, None),
    ],
    ids=range(10),
)
def test_hashes_are_read_as_meta_writes_them(text: Any, value: bytes | None) -> None:
    assert read_sha256(text) == value


@pytest.mark.parametrize(
    ("error", "seconds", "wanted"),
    [(None, 250.0, 1), ("away", None, 1), ("away", -5.0, 1), ("away", 4.2, 5), ("away", 7200.0, 60)],
    ids=range(5),
)
def test_who_asks_too_early_is_told_when_to_ask_again(error: str | None, seconds: float | None, wanted: int) -> None:
    next_at = None if seconds is None else AT + timedelta(seconds=seconds)
    assert retry_after(error, next_at, AT) == wanted


def test_a_file_is_asked_for_over_about_three_days() -> None:
    assert 2.5 * 86400 < sum(FETCH_SCHEDULE) < 3.5 * 86400
    assert list(FETCH_SCHEDULE) == sorted(FETCH_SCHEDULE)


@pytest.mark.parametrize(
    ("mime_type", "refused"),
    [
        ("application/x-msdownload", True),
        ("Text/HTML; charset=utf-8", True),
        ("image/svg+xml", True),
        ("application/x-java-jnlp-file", True),
        ("image/png", False),
        ("application/pdf", False),
        ("application/octet-stream", False),
        ("text/vcard", False),
        ("application/zip", False),
        ("", False),
    ],
    ids=range(10),
)
def test_programs_and_pages_are_not_taken(mime_type: str, *, refused: bool) -> None:
    assert is_refused(mime_type, REFUSED_TYPES) is refused


@pytest.mark.parametrize(
    ("pattern", "mime_type", "refused"),
    [
        ("application/x-*", "application/x-sh", True),
        ("application/x-*", "application/pdf", False),
        ("video/*", "video/mp4", True),
        ("*", "", True),
    ],
    ids=range(4),
)
def test_patterns_may_have_stars(pattern: str, mime_type: str, *, refused: bool) -> None:
    assert is_refused(mime_type, (pattern,)) is refused


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\a.pdf", "a.pdf"),
        ('b"\r\nd.png', "bd.png"),
        ("a\u202efdp.exe", "afdp.exe"),
        ("x" * 300 + ".pdf", "x" * 236 + ".pdf"),
        ("/", ""),
        ("\udcff.txt", ".txt"),
    ],
    ids=range(7),
)
def test_names_of_files_are_made_harmless(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_types_are_compared_bare() -> None:
    assert bare_mime_type(" Audio/OGG ; codecs=opus") == "audio/ogg"

"""Signed addresses of files: good until they end, for one file and one reader, and for nobody who has no key."""

from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest

from hub.domain.ids import public_id
from hub.domain.media_links import LINK_SECONDS, OPERATOR, PREFIX, MediaLinks

NOW = 1_800_000_000.5
FILE, OTHER, SERVICE = UUID(int=1), UUID(int=2), UUID(int=3)
NAME, WHOM = public_id(PREFIX, FILE), public_id("svc", SERVICE)
LINKS = MediaLinks("https://hub.example.com/", ["new", "old"])


def parts(url: str) -> tuple[str, str, str, str]:
    """Name, reader, expiry and signature of an address."""
    split = urlsplit(url)
    query = parse_qs(split.query, strict_parsing=True)
    whom = query.get("service", [""])[0]
    return split.path.removeprefix("/media/"), whom, query["expires"][0], query["signature"][0]


def url_for(viewer: UUID | None, links: MediaLinks = LINKS) -> str:
    """The address of the file for a service, or for the operator."""
    return str(links.with_urls({"media": [{"id": NAME}]}, viewer, NOW)["media"][0]["url"])


def test_an_address_is_under_the_hub_and_names_the_file() -> None:
    url = LINKS.url(FILE, NOW)
    assert url.startswith(f"https://hub.example.com/media/{NAME}?expires=1800086400&signature=")
    assert parts(url)[2] == str(int(NOW) + LINK_SECONDS)
    assert url_for(SERVICE).startswith(f"https://hub.example.com/media/{NAME}?service={WHOM}&expires=1800086400&")
    assert parts(url_for(None))[1] == OPERATOR


def test_it_is_good_until_it_expires() -> None:
    for made in (
        MediaLinks("https://x", ["old"], 60).url(FILE, NOW),
        url_for(SERVICE, MediaLinks("https://x", ["new"], 60)),
    ):
        assert LINKS.is_valid(*parts(made), NOW)
        assert LINKS.is_valid(*parts(made), NOW + 59)
        assert not LINKS.is_valid(*parts(made), NOW + 60)


def test_keys_can_be_rotated() -> None:
    made = parts(MediaLinks("https://x", ["old"]).url(FILE, NOW))
    assert LINKS.is_valid(*made, NOW)
    assert not MediaLinks("https://x", ["new"]).is_valid(*made, NOW)
    assert MediaLinks("https://x", ["new"]).is_valid(*parts(LINKS.url(FILE, NOW)), NOW)


_, _, EXPIRES, SIGNATURE = parts(url_for(SERVICE))


@pytest.mark.parametrize(
    ("name", "whom", "expires", "signature"),
    [
        (public_id(PREFIX, OTHER), WHOM, EXPIRES, SIGNATURE),
        (NAME, "", EXPIRES, SIGNATURE),
        (NAME, OPERATOR, EXPIRES, SIGNATURE),
        (NAME, public_id("svc", OTHER), EXPIRES, SIGNATURE),
        (NAME, WHOM, str(int(EXPIRES) + 1), SIGNATURE),
        (NAME, WHOM, f"0{EXPIRES}", SIGNATURE),
        (NAME, WHOM, EXPIRES, SIGNATURE[:-1] + ("0" if SIGNATURE[-1] != "0" else "1")),
        (NAME, WHOM, EXPIRES, SIGNATURE.upper()),
        (NAME, WHOM, EXPIRES, ""),
        (NAME, WHOM, "", SIGNATURE),
        (NAME, WHOM, "-1", SIGNATURE),
        (NAME, WHOM, "٣", SIGNATURE),
        (NAME, WHOM, "9" * 5000, SIGNATURE),
        (NAME, WHOM, EXPIRES, "ü"),
        ("", WHOM, EXPIRES, SIGNATURE),
        (f"{NAME}\n{WHOM}\n{EXPIRES}", "", "", SIGNATURE),
        (f"{NAME}\n{WHOM}", EXPIRES, EXPIRES, SIGNATURE),
        ("\udcff", WHOM, EXPIRES, SIGNATURE),
    ],
    ids=range(18),
)
def test_nothing_else_opens_it(name: str, whom: str, expires: str, signature: str) -> None:
    assert LINKS.is_valid(NAME, WHOM, EXPIRES, SIGNATURE, NOW)
    assert not LINKS.is_valid(name, whom, expires, signature, NOW)


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"text": "no files"},
        {"masked": True, "media": [{"id": NAME}]},
        {"media": "none"},
        {"media": [{"url": "https://elsewhere.example/a.png"}, {"id": "4711"}, {"id": None}, 5, None]},
    ],
    ids=range(5),
)
def test_what_is_no_file_of_the_hub_gets_no_address(message: dict[str, Any]) -> None:
    assert LINKS.with_urls(message, SERVICE, NOW) == message


def test_a_message_itself_is_left_alone() -> None:
    message = {"text": "look", "media": [{"id": NAME, "mime_type": "image/png"}, {"url": "https://a.example/b"}]}
    shown = LINKS.with_urls(message, SERVICE, NOW)
    assert "url" not in message["media"][0]
    assert shown == {"text": "look", "media": [{**message["media"][0], "url": url_for(SERVICE)}, message["media"][1]]}  # type: ignore[dict-item]

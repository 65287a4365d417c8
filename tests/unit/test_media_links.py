"""Signed addresses of files: good until they end, for one file, and for nobody who has no key."""

from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest

from hub.domain.ids import public_id
from hub.domain.media_links import LINK_SECONDS, PREFIX, MediaLinks

NOW = 1_800_000_000.5
FILE, OTHER = UUID(int=1), UUID(int=2)
LINKS = MediaLinks("https://hub.example.com/", ["new", "old"])


def parts(url: str) -> tuple[str, str, str]:
    """Name, expiry and signature of an address."""
    split = urlsplit(url)
    query = parse_qs(split.query, strict_parsing=True)
    return split.path.removeprefix("/media/"), query["expires"][0], query["signature"][0]


def test_an_address_is_under_the_hub_and_names_the_file() -> None:
    url = LINKS.url(FILE, NOW)
    assert url.startswith(f"https://hub.example.com/media/{public_id(PREFIX, FILE)}?expires=1800086400&signature=")
    assert parts(url)[1] == str(int(NOW) + LINK_SECONDS)


def test_it_is_good_until_it_expires() -> None:
    made = parts(LINKS.url(FILE, NOW, seconds=60))
    assert LINKS.is_valid(*made, NOW)
    assert LINKS.is_valid(*made, NOW + 59)
    assert not LINKS.is_valid(*made, NOW + 60)


def test_keys_can_be_rotated() -> None:
    made = parts(MediaLinks("https://x", ["old"]).url(FILE, NOW))
    assert LINKS.is_valid(*made, NOW)
    assert not MediaLinks("https://x", ["new"]).is_valid(*made, NOW)
    assert MediaLinks("https://x", ["new"]).is_valid(*parts(LINKS.url(FILE, NOW)), NOW)


NAME, EXPIRES, SIGNATURE = parts(LINKS.url(FILE, NOW))


@pytest.mark.parametrize(
    ("name", "expires", "signature"),
    [
        (public_id(PREFIX, OTHER), EXPIRES, SIGNATURE),
        (NAME, str(int(EXPIRES) + 1), SIGNATURE),
        (NAME, f"0{EXPIRES}", SIGNATURE),
        (NAME, EXPIRES, SIGNATURE[:-1] + ("0" if SIGNATURE[-1] != "0" else "1")),
        (NAME, EXPIRES, SIGNATURE.upper()),
        (NAME, EXPIRES, ""),
        (NAME, "", SIGNATURE),
        (NAME, "-1", SIGNATURE),
        (NAME, "٣", SIGNATURE),
        (NAME, "9" * 5000, SIGNATURE),
        (NAME, EXPIRES, "ü"),
        ("", EXPIRES, SIGNATURE),
        (f"{NAME}\n{EXPIRES}", "", SIGNATURE),
        ("\udcff", EXPIRES, SIGNATURE),
    ],
    ids=range(14),
)
def test_nothing_else_opens_it(name: str, expires: str, signature: str) -> None:
    assert LINKS.is_valid(NAME, EXPIRES, SIGNATURE, NOW)
    assert not LINKS.is_valid(name, expires, signature, NOW)

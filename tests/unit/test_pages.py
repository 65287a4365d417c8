"""What is kept of pages: addresses on the tracked site, without keys and passwords, and titles that can be stored."""

import pytest

from hub.domain.pages import clean, page_title, page_url, referrer_url, site_of_origin
from hub.domain.tracking import Tracking

HTTPS = Tracking("https://go.shop.example", "", ("shop.example", "uk.shop.example", "localhost"))
HTTP = Tracking("http://go.shop.example", "", ("shop.example",))


@pytest.mark.parametrize(
    ("origin", "site"),
    [
        ("https://shop.example", "shop.example"),
        ("https://www.shop.example", "shop.example"),
        ("https://www.shop.example:8443", "shop.example"),
        ("https://a.uk.shop.example", "uk.shop.example"),
        ("http://www.shop.example", None),
        ("http://shop.localhost:8080", "localhost"),
        ("http://localhost", "localhost"),
        ("https://myshop.example", None),
        ("https://shop.example.evil.test", None),
        ("https://evil.test", None),
        ("https://shop.example@evil.test", None),
        ("https://www.shop.example/", None),
        ("https://www.shop.example?x", None),
        ("https://www.shop.example#x", None),
        ("https://www.shop\t.example", None),
        ("https://www.shop.example\n", None),
        ("https://ä.shop.example", None),
        ("https://\udce4.shop.example", None),
        ("https://:443.shop.example", None),
        ("ftp://www.shop.example", None),
        ("null", None),
        ("https://", None),
        ("https://[", None),
        ("", None),
        (None, None),
    ],
    ids=range(25),
)
def test_the_site_of_an_origin(origin: str | None, site: str | None) -> None:
    assert site_of_origin(origin, HTTPS) == site


def test_http_origins_count_where_the_hub_itself_is_served_so() -> None:
    assert site_of_origin("http://www.shop.example", HTTP) == "shop.example"
    collector = Tracking("https://go.shop.example", "http://c.shop.example", ("shop.example",))
    assert site_of_origin("http://www.shop.example", collector) == "shop.example"
    assert site_of_origin("http://www.shop.example", Tracking()) is None


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://www.shop.example/a?b=c#d", "https://www.shop.example/a?b=c#d"),
        ("HTTPS://WWW.Shop.Example", "https://www.shop.example"),
        ("http://shop.example:8080/x", "http://shop.example:8080/x"),
        ("https://www.shop.example/#_hk=SECRET", "https://www.shop.example/"),
        ("https://www.shop.example/?a#b&_hk=SECRET", "https://www.shop.example/?a#b"),
        ("https://www.shop.example/?a#_hk=SECRET&b", "https://www.shop.example/?a#b"),
        ("https://www.shop.example/#/route?x=1&_hk=SECRET", "https://www.shop.example/#/route?x=1"),
        ("https://www.shop.example/?_hk=1", "https://www.shop.example/?_hk=1"),
        ("https://mia:secret@www.shop.example/x", "https://www.shop.example/x"),
        ("https://www.shop.example/\x00a\ud83d", "https://www.shop.example/a"),
        ("https://www.shop.example/" + "x" * 3000, "https://www.shop.example/" + "x" * 2023),
        ("https://a.uk.shop.example/", None),
        ("https://evil.test/", None),
        ("https://evil.test\\@www.shop.example/", None),
        ("https://www.shop.example@evil.test/", None),
        ("https://evil.test/@www.shop.example/", None),
        ("https://www.shop.example.evil.test/", None),
        ("https://[1.2.3]/", None),
        ("https://[::1]/", None),
        ("//www.shop.example/", None),
        ("javascript:alert(1)//www.shop.example", None),
        ("about:srcdoc", None),
        ("", None),
    ],
    ids=range(23),
)
def test_what_is_kept_of_a_page(url: str, kept: str | None) -> None:
    assert page_url(url, "shop.example", HTTPS) == kept


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://search.test/?q=shoes#x", "https://search.test/?q=shoes"),
        ("https://a:b@search.test/", "https://search.test/"),
        ("android-app://com.example", None),
        ("", None),
        (None, None),
    ],
    ids=str,
)
def test_where_somebody_came_from(url: str | None, kept: str | None) -> None:
    assert referrer_url(url) == kept


@pytest.mark.parametrize(
    ("title", "kept"),
    [
        ("Shoes", "Shoes"),
        ("  Shoes\n\t for \x01 all ", "Shoes for all"),
        ("half \ud83d", "half"),
        ("\x00", None),
        ("", None),
        (None, None),
        ("x" * 1000, "x" * 300),
    ],
    ids=range(7),
)
def test_what_is_kept_of_a_title(title: str | None, kept: str | None) -> None:
    assert page_title(title) == kept


def test_what_is_cleaned_can_be_stored() -> None:
    assert clean("a\x00\ud800\udfffb") == "ab"

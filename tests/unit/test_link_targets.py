"""Where a tracked link may lead: no open redirect, no header of somebody else's, no private network."""

import re
from urllib.parse import unquote, urlsplit

import httpx
import pytest
from aiohttp import web
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.provisional import domains
from yarl import URL

from hub.domain.errors import Invalid
from hub.domain.link_targets import MAX_LENGTH, add_utm, check_target
from tests.unit.test_endpoints import NOT_PUBLIC


def refusal(url: str, own_domains: tuple[str, ...] = ()) -> str | None:
    """The code of the refusal, if its text names the rule, or None."""
    try:
        check_target(url, own_domains)
    except Invalid as error:
        return error.code if "(rule F)" in error.detail else "without a rule"
    return None


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://shop.example", "https://shop.example"),
        ("https://shop.example/", "https://shop.example/"),
        ("HTTPS://Shop.EXAMPLE/Path?Q=A#F", "https://shop.example/Path?Q=A#F"),
        ("http://shop.example:80/", "http://shop.example/"),
        ("https://shop.example:443?a", "https://shop.example?a"),
        ("https://shop.example:00443/", "https://shop.example/"),
        ("https://shop.example:/a", "https://shop.example/a"),
        ("http://shop.example:443/", "http://shop.example:443/"),
        ("https://shop.example:80/", "https://shop.example:80/"),
        ("https://shop.example:65535/", "https://shop.example:65535/"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("https://BÜCHER.example/", "https://xn--bcher-kva.example/"),
        ("https://XN--BCHER-KVA.example/", "https://xn--bcher-kva.example/"),
        ("https://faß.example/", "https://xn--fa-hia.example/"),
        ("https://例え.テスト/日本?q=é#ü", "https://xn--r8jz45g.xn--zckzah/%E6%97%A5%E6%9C%AC?q=%C3%A9#%C3%BC"),
        ("https://ｓｈｏｐ.example/", "https://shop.example/"),
        ("https://my_shop.example/", "https://my_shop.example/"),
        ("https://r3---sn-abc.example/", "https://r3---sn-abc.example/"),
        ("https://3com.com", "https://3com.com"),
        ("https://1.2.3.4.example/", "https://1.2.3.4.example/"),
        ("https://shop.example./a", "https://shop.example./a"),
        ("https://8.8.8.8/a", "https://8.8.8.8/a"),
        ("https://[2606:4700:4700:0:0:0:0:1111]:444/a", "https://[2606:4700:4700::1111]:444/a"),
        ("https://shop.example/%0d%0aX:%20y%2F..%2f?a=%zz%", "https://shop.example/%0d%0aX:%20y%2F..%2f?a=%zz%"),
        ("https://shop.example/a/../b//c/./;d=e", "https://shop.example/a/../b//c/./;d=e"),
        ("https://shop.example/?a=1+2&b[]={c}|d^'&&=;~!$()*,", "https://shop.example/?a=1+2&b[]={c}|d^'&&=;~!$()*,"),
        ("https://shop.example//evil.example/@x:y", "https://shop.example//evil.example/@x:y"),
        ("https://shop.example?@evil.example", "https://shop.example?@evil.example"),
        ("https://shop.example#@evil.example/", "https://shop.example#@evil.example/"),
        ("https://shop.example/?to=https://evil.example", "https://shop.example/?to=https://evil.example"),
    ],
)
def test_a_target_in_its_one_form(url: str, target: str) -> None:
    assert check_target(url) == target
    assert check_target(target) == target


@pytest.mark.parametrize(
    "url",
    [
        # no http, or no host
        "", "shop.example", "//shop.example/", "/path", "ftp://shop.example/", "javascript:alert(1)//https://x.example",
        "data:text/html,x", "file:///etc/passwd", "mailto:a@shop.example", "tel:+491711234567", "https:shop.example",
        "https:/shop.example", "https:///shop.example", "https://", "https://?a", "https://#a", "https://:443/",
        "https;//shop.example", "xhttps://shop.example/", "https//shop.example", "http\ufe55//shop.example",
        # users, who look like hosts
        "https://shop.example@evil.example/", "https://user:pw@shop.example/", "https://@shop.example/",
        "https://shop.example:443@evil.example/", "https://:@shop.example/", "https://shop.example%40evil.example/",
        "https://shop.example＠evil.example/", "https://shop.example﹫evil.example/",
        # backslashes and slashes of other kinds
        "https:\\\\evil.example", "https:/\\evil.example", "https://shop.example\\@evil.example/",
        "https://evil.example\\.shop.example/", "https://shop.example/\\evil.example", "https://shop.example／evil/",
        "https://evil.example⁄.shop.example/", "https://evil.c℀.shop.example/", "https://evil.example／.shop.example",
        "https://evil.example？.shop.example/", "https://evil.example＃.shop.example/",
        # headers
        "https://shop.example/\r\nSet-Cookie: a=b", "https://shop.example/\nX: y", "https://shop.example/\rX: y",
        "https://shop.example\r\n/", "https://shop.example/\x00", "https://shop.example/\x0b", "https://shop.example/\x7f",
        "https://shop.example/\x85X: y", "https://shop.example/\u2028X: y", "https://shop.example/\ud800",
        "\nhttps://shop.example/", "https://shop.example/\n", "ht\ntps://shop.example/", "https://sh\top.example/",
        "https://shop.example/嘊嘍\u3000",
        # spaces and what breaks out of an attribute
        " https://shop.example/", "https://shop.example/ ", "https://shop .example/", "https://shop.example/a b",
        "https://shop.example/\u00a0", 'https://shop.example/"onclick=', "https://shop.example/<script>",
        "https://shop.example/`",
        # hosts that are none
        "https://[::1", "https://::1/", "https://[::1]x/", "https://[x]/", "https://[fe80::1%25eth0]/",
        "https://[fe80::1%eth0]/", "https://[2606:4700::1]evil.example/", "https://shop..example/", "https://.example/",
        "https://.", "https://-shop.example/", "https://shop-.example/", "https://shop.example../", "https://*.example/",
        "https://shop,example.com/", "https://sh%6fp.example/", "https://xn--a.example/", "https://xn--.example/",
        "https://😀.example/", "https://shop。example/", "https://shop\u00ad.example/", "https://shop\u200b.example/",
        "https://shop\u202eelpmaxe.example/", "https://[v1.a]/", "https://" + "a" * 64 + ".example/",
        "https://" + "a." * 127 + "example/", "https://" + "ü" * 63 + ".example/",
        # ports that are none
        "https://shop.example:0/", "https://shop.example:65536/", "https://shop.example:999999/",
        "https://shop.example:x/", "https://shop.example:-1/", "https://shop.example:80:80/",
        "https://shop.example:８０/", "https://shop.example:+80/",
        # other spellings of addresses
        "https://2130706433/", "https://017700000001/", "https://0x7f000001/", "https://0x7f.1/", "https://127.1/",
        "https://0177.0.0.1/", "https://127.0.0.1./", "https://0/", "https://08.8.8.8/", "https://8.8.8.8.8/",
        "https://256.1.1.1/", "https://example.123/", "https://example.0x/", "https://127。0。0。1/",
        # too long, as written or as sent
        "https://shop.example/" + "a" * 2028, "https://shop.example/" + "é" * 400,
    ],
    ids=lambda url: ascii(url[:60]),
)  # fmt: skip
def test_what_is_no_target(url: str) -> None:
    assert refusal(url, ("shop.example", "evil.example")) == "link_target_invalid"


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "LOCALHOST", "localhost.", "ｌｏｃａｌｈｏｓｔ", "intranet", "a", "shop.localhost", "tv.local",
        "db.internal", "metadata.google.internal", "metadata.google.internal.", "metadata", "x.localdomain", "nas.lan",
        "nas.home", "nas.home.arpa", "home.arpa", "wiki.corp", "x.private", "x.intranet", "X.Internal", "168.63.129.16",
        "printer.", "[::ffff:168.63.129.16]", "①②⑦.⓪.⓪.①", "１２７.0.0.1",
    ],
)  # fmt: skip
def test_private_names_are_no_targets(host: str) -> None:
    assert refusal(f"https://{host}/") == refusal(f"http://{host}:8080") == "link_target_not_allowed"


def test_private_addresses_are_no_targets() -> None:
    for address in NOT_PUBLIC:
        if "%" not in address:
            host = f"[{address}]" if ":" in address else address
            assert refusal(f"http://{host}/latest/meta-data") == "link_target_not_allowed", address


def test_the_operators_own_sites_may_be_private() -> None:
    own = ("shop.localhost", "127.0.0.1")
    for url in ("http://shop.localhost:8080/a", "http://www.shop.localhost/", "http://127.0.0.1:8080/"):
        assert check_target(url, own) == url
    for url in (
        "http://localhost/",
        "http://workshop.localhost/",
        "http://shop.localhost.internal/",
        "http://10.0.0.1",
    ):
        assert refusal(url, own) == "link_target_not_allowed"


def test_the_longest_target() -> None:
    url = "https://shop.example/"
    longest = url + "a" * (MAX_LENGTH - len(url))
    assert check_target(longest) == longest


HOSTS = st.one_of(
    st.sampled_from(["shop.example", "bücher.example", "8.8.8.8", "[2606:4700::1]", "例え.テスト", "a_b.example."]),
    domains(),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda ip: f"[{ip}]"),
    st.text("ab.-_@:%/\\?#[]１。ü日①℀０ \t\r\n", min_size=1, max_size=12).map(lambda text: f"{text}.example"),
)
RESTS = st.text("ab/.\\?#@:;%&=\r\n\t \x00é日😀\u2028[]<>\"'", max_size=20) | st.text(max_size=20)
GLUE = st.sampled_from(["", "/", "?", "#", ":443", ":8080/", ":", "@", "\\", "//"])


@given(st.sampled_from(["https://", "http://", "HTTPS://", "https:", "//"]), HOSTS, GLUE, RESTS)
@example("https://", "shop.example", "/", "//evil.example/@evil.example:80")
@example("https://", "shop.example", "?", "@evil.example#@evil.example")
def test_what_is_accepted_leads_to_that_very_host_as_a_header(scheme: str, host: str, glue: str, rest: str) -> None:
    url = scheme + host + glue + rest
    try:
        target = check_target(url)
    except Invalid:
        return
    assert target.isascii()
    assert target.isprintable()
    assert not set(target) & set(' "<>\\`')
    assert len(target) <= MAX_LENGTH
    location = web.Response(status=302, headers={"Location": target}).headers["Location"]
    assert location == target
    authority = location.partition("//")[2].split("/")[0].split("?")[0].split("#")[0]
    assert "@" not in authority
    names = {urlsplit(location).hostname, URL(location, encoded=True).raw_host, httpx.URL(location).raw_host.decode()}
    assert len(names) == 1
    name = names.pop()
    assert name is not None
    assert authority.split("]")[0].strip("[") == name if ":" in name else authority.split(":")[0] == name
    assert name == _host_in(url)
    assert check_target(target) == target


def _host_in(url: str) -> str | None:
    """The host of what was given, as another library reads it."""
    authority = re.split("[/?#]", url.partition("//")[2])[0]
    return URL(f"https://{authority.rstrip(':')}/").raw_host


UTM = {"utm_source": "sms", "utm_campaign": "Sale & more"}


@pytest.mark.parametrize(
    ("target", "tagged"),
    [
        ("https://x.example", "https://x.example?utm_source=sms&utm_campaign=Sale%20%26%20more"),
        ("https://x.example/a", "https://x.example/a?utm_source=sms&utm_campaign=Sale%20%26%20more"),
        ("https://x.example/?", "https://x.example/?utm_source=sms&utm_campaign=Sale%20%26%20more"),
        ("https://x.example/?b=1&a=2", "https://x.example/?b=1&a=2&utm_source=sms&utm_campaign=Sale%20%26%20more"),
        ("https://x.example/?b&", "https://x.example/?b&utm_source=sms&utm_campaign=Sale%20%26%20more"),
        ("https://x.example/#f?g=h", "https://x.example/?utm_source=sms&utm_campaign=Sale%20%26%20more#f?g=h"),
        (
            "https://x.example/?a=%2f+%zz#",
            "https://x.example/?a=%2f+%zz&utm_source=sms&utm_campaign=Sale%20%26%20more#",
        ),
        ("https://x.example/?utm_source=mine#f", "https://x.example/?utm_source=mine&utm_campaign=Sale%20%26%20more#f"),
        ("https://x.example/?utm_source=&a", "https://x.example/?utm_source=&a&utm_campaign=Sale%20%26%20more"),
        ("https://x.example/?UTM_Source=mine", "https://x.example/?UTM_Source=mine&utm_campaign=Sale%20%26%20more"),
        ("https://x.example/?utm%5Fsource=m", "https://x.example/?utm%5Fsource=m&utm_campaign=Sale%20%26%20more"),
        ("https://x.example/?utm_source", "https://x.example/?utm_source&utm_campaign=Sale%20%26%20more"),
        (
            "https://x.example/?my_utm_source=1&a=utm_source",
            "https://x.example/?my_utm_source=1&a=utm_source&utm_source=sms&utm_campaign=Sale%20%26%20more",
        ),
    ],
)
def test_utm_parameters_are_added_where_absent(target: str, tagged: str) -> None:
    assert add_utm(target, UTM) == tagged
    assert add_utm(tagged, UTM) == tagged
    assert check_target(tagged) == tagged


@given(
    st.text("ab/?#;&=%é日😀.", max_size=20),
    st.dictionaries(st.sampled_from(["utm_source", "utm_term", "utm_x y"]), st.text("ab &=#%+\r\né", max_size=9)),
)
def test_utm_leaves_everything_else(rest: str, params: dict[str, str]) -> None:
    target = check_target(f"https://x.example/{rest}")
    tagged = add_utm(target, params)
    before, after = urlsplit(target), urlsplit(tagged)
    assert after.query.startswith(before.query)
    assert (after.netloc, after.path, after.fragment) == (before.netloc, before.path, before.fragment)
    pairs = after.query.removeprefix(before.query).strip("&").split("&")
    added = {unquote(name): unquote(value) for name, _, value in (pair.partition("=") for pair in pairs) if name}
    assert added == {name: value for name, value in params.items() if value}


def test_utm_never_makes_a_target_too_long_and_adds_nothing_else() -> None:
    almost = "https://x.example/" + "a" * (MAX_LENGTH - 18 - len("?utm_source=sms"))
    assert add_utm(almost, {"utm_source": "sms"}) == f"{almost}?utm_source=sms"
    assert add_utm(almost + "a", {"utm_source": "sms"}) == almost + "a"
    assert add_utm("https://x.example", {}) == "https://x.example"
    with pytest.raises(ValueError, match="only utm_"):
        add_utm("https://x.example", {"gclid": "1"})

"""Where the hub may be made to call: the guard against SSRF (issue 2, item 6; setting ALLOW_PRIVATE_ENDPOINTS)."""

import asyncio
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.domain.endpoints import EndpointPolicy, unwrapped
from hub.domain.errors import Invalid
from hub.fanout.client import DeliveryClient

OFF, ON = EndpointPolicy.parse("off"), EndpointPolicy.parse("on")
LISTED = EndpointPolicy.parse("10.0.0.0/8, 127.0.0.0/8,fd00::/8")

PUBLIC = ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450:4001:800::200e"]

NOT_PUBLIC = [
    # v4: loopback, private, link-local with its metadata service, shared, this host, benchmarks, documentation,
    # protocol assignments, multicast, reserved, broadcast
    "127.0.0.1", "127.255.255.254", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.0.1", "169.254.169.254",
    "100.64.0.1", "0.0.0.0", "0.1.2.3", "198.18.0.1", "192.0.2.1", "203.0.113.7", "198.51.100.1", "192.0.0.8",
    "224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.255",
    # v6: loopback, unspecified, unique local, link-local with and without a zone, multicast, documentation, discard,
    # deprecated site-local, not assigned, segment routing
    "::1", "::", "fc00::1", "fd12:3456::1", "fe80::1", "fe80::1%eth0", "ff02::1", "ff0e::1", "2001:db8::1", "3fff::1",
    "100::1", "fec0::1", "4000::1", "5f00::1",
    # v4 inside v6: mapped, compatible, translated, 6to4, Teredo, NAT64 well known and local
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "::ffff:0:127.0.0.1",
    "2002:7f00:1::", "2002:a00:1::1", "2002:a9fe:a9fe::", "2001:0:4136:e378:8000:63bf:80ff:fffe", "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
@pytest.mark.parametrize("policy", [OFF, ON, LISTED])
def test_the_open_internet_may_be_dialled_but_never_in_the_clear(policy: EndpointPolicy, address: str) -> None:
    assert policy.may_dial(address, is_plain=False)
    assert not policy.may_dial(address, is_plain=True)


@pytest.mark.parametrize("address", NOT_PUBLIC)
@pytest.mark.parametrize("is_plain", [True, False])
def test_nothing_else_may_be_while_private_endpoints_are_off(address: str, is_plain: bool) -> None:
    assert not OFF.may_dial(address, is_plain=is_plain)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "192.168.0.1", "::1", "fd00::1", "::ffff:10.0.0.1"])
@pytest.mark.parametrize("is_plain", [True, False])
def test_on_allows_private_addresses(address: str, is_plain: bool) -> None:
    assert ON.may_dial(address, is_plain=is_plain)


@pytest.mark.parametrize(
    ("address", "answer"),
    [
        ("10.255.255.255", True),
        ("127.0.0.1", True),
        ("::ffff:127.0.0.1", True),
        ("64:ff9b::a00:1", True),
        ("2002:a00:1::", True),
        ("fd12::1", True),
        ("192.168.0.1", False),
        ("169.254.169.254", False),
        ("::ffff:192.168.0.1", False),
        ("::1", False),
        ("fe80::1", False),
    ],
)
@pytest.mark.parametrize("is_plain", [True, False])
def test_a_list_allows_its_networks_and_no_others(address: str, answer: bool, is_plain: bool) -> None:
    assert LISTED.may_dial(address, is_plain=is_plain) is answer


@given(st.ip_addresses(v=4), st.sampled_from(["::ffff:{}", "64:ff9b::{}", "2002:{hex}::", "2002:{hex}::1"]))
def test_no_wrapping_opens_what_the_address_itself_does_not(inner: ipaddress.IPv4Address, form: str) -> None:
    number = int(inner)
    text = form.format(inner, hex=f"{number >> 16:x}:{number & 0xFFFF:x}")
    assert unwrapped(ipaddress.ip_address(text)) == inner
    for policy in (OFF, LISTED):
        assert policy.may_dial(text, is_plain=False) is policy.may_dial(str(inner), is_plain=False)


@pytest.mark.parametrize("setting", ["off", "", " OFF "])
def test_the_setting_off(setting: str) -> None:
    assert EndpointPolicy.parse(setting) == OFF


@pytest.mark.parametrize("setting", ["yes", "10.0.0.0/33", "10.0.0.1/8", "localhost", "10.0.0.0/8;127.0.0.0/8"])
def test_a_setting_that_is_none_is_refused(setting: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        EndpointPolicy.parse(setting)


def refusal(policy: EndpointPolicy, url: str) -> str | None:
    """The code of the refusal, or None."""
    try:
        policy.check_url(url)
    except Invalid as error:
        return error.code
    return None


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/hook",
        "https://example.com:8443/hook?a=b&c=%20",
        "https://sub.domain-name.example.co.uk/",
        "https://xn--bcher-kva.example/",
        "https://example.com.",
        "https://my_host.internal/",
        "https://3com.com/",
        "https://1.2.3.4.example/",
        "https://8.8.8.8/hook",
        "https://[2606:4700:4700::1111]:444/hook",
    ],
)
def test_urls_that_are_taken(url: str) -> None:
    assert refusal(OFF, url) is None


@pytest.mark.parametrize(
    "url",
    [
        "", "example.com", "//example.com/", "ftp://example.com/", "file:///etc/passwd", "javascript:alert(1)",
        "https://", "https:///path", "https://:443/", "https://example.com:99999/", "https://example.com:0/",
        "https://example.com:x/", "https://user@example.com/", "https://user:pw@example.com/", "https://@example.com/",
        "https://:pw@example.com/", "https://example.com/#part", "https://[::1/", "https://[::1]x/",
        "https://exam ple.com/", "https://exa\tmple.com/", "https://example.com/\r\nX: y", " https://example.com/",
        "https://example.com\\@127.0.0.1/", "https://127.0.0.1\\.example.com/", "https://example.com/" + "a" * 2048,
        # every other spelling of 127.0.0.1 that some resolver or client understands
        "https://2130706433/", "https://017700000001/", "https://0x7f000001/", "https://0x7f.1/", "https://127.1/",
        "https://127.0.1/", "https://0177.0.0.1/", "https://127.0.0.1./", "https://0/", "https://4294967297/",
        "https://127%2e0%2e0%2e1/", "https://%31%32%37.0.0.1/", "https://１２７.0.0.1/",
        "https://①②⑦.⓪.⓪.①/", "https://127。0。0。1/", "https://١٢٧.0.0.1/", "https://1\u00ad27.0.0.1/",
        "https://[fe80::1%25eth0]/", "https://[fe80::1%eth0]/", "https://[2606:4700::1111%25lo]/",
        "https://ｌｏｃａｌｈｏｓｔ/", "https://bücher.example/",
    ],
)  # fmt: skip
@pytest.mark.parametrize("policy", [OFF, ON])
def test_urls_that_are_none(policy: EndpointPolicy, url: str) -> None:
    assert refusal(policy, url) == "endpoint_url_invalid"


@pytest.mark.parametrize("address", [address for address in NOT_PUBLIC if "%" not in address])
@pytest.mark.parametrize("port", ["", ":8080"])
def test_private_addresses_in_urls_are_refused(address: str, port: str) -> None:
    host = f"[{address}]" if ":" in address else address
    assert refusal(OFF, f"https://{host}{port}/hook") == "endpoint_not_allowed"


@pytest.mark.parametrize(
    ("url", "policy", "code"),
    [
        ("http://example.com/", OFF, "endpoint_not_allowed"),
        ("http://127.0.0.1/", OFF, "endpoint_not_allowed"),
        ("http://127.0.0.1:9000/x", LISTED, None),
        ("http://10.0.0.1/", LISTED, None),
        ("HTTP://10.0.0.1/", LISTED, None),
        ("http://192.168.0.1/", LISTED, "endpoint_not_allowed"),
        ("https://192.168.0.1/", LISTED, "endpoint_not_allowed"),
        ("http://8.8.8.8/", LISTED, "endpoint_not_allowed"),
        ("http://8.8.8.8/", ON, "endpoint_not_allowed"),
        ("http://[::1]/", ON, None),
        ("http://[::1]/", LISTED, "endpoint_not_allowed"),
        ("http://[::ffff:127.0.0.1]/", LISTED, None),
        ("http://crm.internal/hook", LISTED, None),
        ("http://crm.internal/hook", ON, None),
    ],
)
def test_plain_http_only_where_private_endpoints_are_allowed(
    url: str, policy: EndpointPolicy, code: str | None
) -> None:
    assert refusal(policy, url) == code


@given(st.text(max_size=60) | st.text(max_size=40).map(lambda text: f"https://{text}/"))
def test_any_text_is_taken_or_refused(url: str) -> None:
    assert refusal(OFF, url) in {None, "endpoint_url_invalid", "endpoint_not_allowed"}


SPELLINGS = ["127.0.0.1", "localhost", "2130706433", "0177.0.0.1", "127.1", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]"]


@pytest.mark.parametrize("host", SPELLINGS)
@pytest.mark.parametrize("scheme", ["https", "http"])
async def test_what_may_not_be_dialled_is_not_even_if_it_was_stored_when_it_might(scheme: str, host: str) -> None:
    """The client judges at every connection: settings change, and literal addresses are never resolved."""
    connections = 0

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    client = DeliveryClient(OFF, timeout=2)
    try:
        port = server.sockets[0].getsockname()[1]
        answer = await client.post(f"{scheme}://{host}:{port}/hook", b"{}", {})
    finally:
        await client.close()
        server.close()
        await server.wait_closed()
    assert answer.status is None
    assert answer.problem in {"endpoint_not_allowed", "endpoint_url_invalid"}
    assert connections == 0

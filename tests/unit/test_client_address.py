"""Where a request comes from, behind however many proxies."""

from ipaddress import ip_address, ip_network

import pytest
from aiohttp.test_utils import make_mocked_request

from hub.http.client_address import ClientAddresses, client_of, prefix_of

TRUSTED = [ip_network(text) for text in ("10.0.0.0/8", "fd00::/8")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", "", "203.0.113.9"),
        ("203.0.113.9", "1.2.3.4", "203.0.113.9"),  # the peer is no proxy of ours: anybody may write that
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "1.2.3.4, 203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "1.2.3.4,203.0.113.9 , 10.9.9.9", "203.0.113.9"),
        ("10.0.0.1", "10.1.1.1, 10.9.9.9", "10.1.1.1"),
        ("10.0.0.1", "203.0.113.9, garbage, 10.9.9.9", "10.9.9.9"),
        ("10.0.0.1", "203.0.113.9, , ", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
        ("10.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"),
        ("10.0.0.1", "[2001:db8::1]", "2001:db8::1"),
        ("10.0.0.1", "2001:db8::1", "2001:db8::1"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "_hidden", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9' or 1=1", "10.0.0.1"),
        ("fd00::1", "::ffff:203.0.113.9", "203.0.113.9"),
        ("::ffff:10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("fe80::1%eth0", "1.2.3.4", "fe80::1"),
        ("", "1.2.3.4", "0.0.0.0"),
        ("/run/hub.sock", "1.2.3.4", "0.0.0.0"),
    ],
)
def test_the_right_most_hop_that_is_no_proxy_of_ours(peer: str, forwarded: str, client: str) -> None:
    assert client_of(peer, forwarded, TRUSTED) == ip_address(client)


@pytest.mark.parametrize(
    ("address", "prefix"),
    [
        ("203.0.113.9", "203.0.113.0/24"),
        ("0.0.0.0", "0.0.0.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1::/48"),
        ("::1", "::/48"),
    ],
)
def test_a_network_is_all_that_is_kept(address: str, prefix: str) -> None:
    assert prefix_of(ip_address(address)) == prefix


def test_all_lines_of_the_header_count_from_the_right() -> None:
    class Transport:
        def get_extra_info(self, name: str, default: object = None) -> object:
            return ("10.0.0.1", 1) if name == "peername" else default

    headers = [("X-Forwarded-For", "1.2.3.4"), ("X-Forwarded-For", "5.6.7.8, 10.0.0.2")]
    request = make_mocked_request("GET", "/", headers=_multi(headers), transport=Transport())
    assert str(ClientAddresses(["10.0.0.0/8"]).of(request)) == "5.6.7.8"
    assert ClientAddresses(["10.0.0.0/8"]).prefix_of(request) == "5.6.7.0/24"
    assert str(ClientAddresses().of(request)) == "10.0.0.1"
    long = ", ".join(["1.1.1.1"] * 500 + ["5.6.7.8"])
    request = make_mocked_request("GET", "/", headers={"X-Forwarded-For": long}, transport=Transport())
    assert str(ClientAddresses(["10.0.0.0/8"]).of(request)) == "5.6.7.8"


def _multi(pairs: list[tuple[str, str]]) -> object:
    from multidict import CIMultiDict

    return CIMultiDict(pairs)

"""Where a request comes from: the peer, or what proxies that are trusted say of it."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from aiohttp import web

Address = IPv4Address | IPv6Address

_NOWHERE: Final = IPv4Address(0)
"""A peer without an IP address: a Unix socket."""
_REMEMBERED: Final = 4096
_WIDTHS: Final = {4: 24, 6: 48}
"""Bits of an address that are kept."""
_LONG: Final = 256
"""Characters of `X-Forwarded-For` beyond which its head is not looked at: hops are read from the right."""


class ClientAddresses:
    """Tells clients' addresses. `X-Forwarded-For` is believed so far as trusted proxies wrote it: the right-most hop
    that is none of them is the client; what stands left of it, anybody may have sent.
    """

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        """`trusted`: the networks of proxies."""
        self._trusted = tuple(map(ip_network, trusted))
        self._resolve = lru_cache(_REMEMBERED)(self._find)

    def of(self, request: web.BaseRequest) -> Address:
        """The client's address."""
        return self._of(request)[0]

    def prefix_of(self, request: web.BaseRequest) -> str:
        """Its network, a /24 or a /48, as text: as much as is kept of it."""
        return self._of(request)[1]

    def _of(self, request: web.BaseRequest) -> tuple[Address, str]:
        if not self._trusted:
            return self._resolve(request.remote or "", "")
        forwarded = ",".join(request.headers.getall("X-Forwarded-For", ()))
        return self._resolve(request.remote or "", forwarded[-_LONG:])

    def _find(self, peer: str, forwarded: str) -> tuple[Address, str]:
        found = client_of(peer, forwarded, self._trusted)
        return found, prefix_of(found)


def client_of(peer: str, forwarded: str, trusted: Sequence[IPv4Network | IPv6Network]) -> Address:
    """The client behind a peer with this `X-Forwarded-For`. A hop that is no address ends the search: the proxy that
    wrote it down counts then.
    """
    found = _parse(peer) or _NOWHERE
    for hop in reversed(forwarded.split(",")) if forwarded else ():
        if not any(found in network for network in trusted):
            break
        address = _parse(hop.strip())
        if address is None:
            break
        found = address
    return found


def prefix_of(address: Address) -> str:
    """The /24 or /48 an address is in."""
    return str(ip_network((address, _WIDTHS[address.version]), strict=False))


def _parse(text: str) -> Address | None:
    """An address as proxies write it: also with a port, in brackets, with a zone, or an IPv4 one in IPv6's dress."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


CLIENTS: Final = web.AppKey("clients", ClientAddresses)

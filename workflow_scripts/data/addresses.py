"""Which network addresses a URL from a scraped list may lead to, and names to addresses in time.

A row of a list must not reach the machine itself, a cluster's metadata service or a colleague's
database. A name can mean another address each time it is looked up, so what counts is the address
that is connected to, not the name.
"""

import collections
import ipaddress
import socket
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# Addresses of IPv4 as a network without IPv4 sees them (RFC 6052).
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# What Python takes for public (some of it until 3.11.10): IETF's protocol assignments, among them
# Oracle's metadata service; Azure's services for virtual machines; 6to4's relays; documentation.
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in ("192.0.0.0/24", "168.63.129.16", "192.88.99.0/24", "3fff::/20")
)
_REMEMBERED_SECONDS = 300.0
_REMEMBERED_HOSTS = 20_000


def parse_networks(networks: list[str]) -> tuple[Network, ...]:
    """Return networks from text such as ``127.0.0.0/8``, ``10.1.2.3`` or ``fd00::/8``.

    Raises:
        ValueError: One of them is not a network.
    """
    return tuple(ipaddress.ip_network(network) for network in networks)


class PrivateAddressError(OSError):
    """A host whose addresses are all in networks that are not public."""


def is_allowed(address: str, allowed: tuple[Network, ...] = ()) -> bool:
    """Return whether an address is on the public internet, or in one of the ``allowed`` networks.

    Loopback, private, link-local, carrier-grade (RFC 6598), multicast and reserved addresses are
    not, whatever form they have in IPv6: mapped, 6to4, NAT64.

    Args:
        address: As ``getaddrinfo`` writes it, e.g. ``"93.184.216.34"`` or ``"fe80::1%eth0"``.
        allowed: Networks that are let through.
    """
    forms = _forms(ipaddress.ip_address(address.partition("%")[0]))
    if any(form in network for form in forms for network in allowed):
        return True
    return _is_public(forms[-1])


def _forms(ip: Address) -> list[Address]:
    """Return an address and, if it stands for one of IPv4, that one after it."""
    if ip.version == 4:
        return [ip]
    inner = ip.ipv4_mapped or ip.sixtofour
    if inner is None and ip in _NAT64:
        inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return [ip] if inner is None else [ip, inner]


def _is_public(ip: Address) -> bool:
    local = ip.version == 6 and ip.is_site_local
    if any(ip in network for network in _NOT_PUBLIC):
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified or local)


class Resolver:
    """Looks names up, each in a thread of its own, and remembers the answers for some minutes."""

    def __init__(self):
        self._lock = threading.Lock()
        self._lookups: collections.OrderedDict[str, tuple[float, Future]] = (
            collections.OrderedDict()
        )

    def __call__(self, host: str, seconds: float) -> list[tuple[int, tuple]]:
        """Return family and socket address (port 0) of each address of a host.

        Raises:
            TimeoutError: There is no answer within ``seconds``.
            OSError: There is no such host.
            ValueError: It is not a name.
        """
        try:
            return self._lookup(host).result(timeout=seconds)
        except NotYet as error:
            raise TimeoutError(f"no address of {host} yet") from error

    def _lookup(self, host: str) -> Future:
        with self._lock:
            begun, found = self._lookups.get(host, (0.0, None))
            if found is None or self._is_stale(begun, found):
                found = Future()
                self._lookups[host] = (time.monotonic(), found)
                if len(self._lookups) > _REMEMBERED_HOSTS:
                    self._lookups.popitem(last=False)
                threading.Thread(target=_look_up, args=(host, found), daemon=True).start()
            return found

    @staticmethod
    def _is_stale(begun: float, found: Future) -> bool:
        if not found.done():
            return False
        error = found.exception()
        passing = isinstance(error, OSError) and error.errno != socket.EAI_NONAME
        return passing or time.monotonic() - begun > _REMEMBERED_SECONDS


def _look_up(host: str, found: Future) -> None:
    try:
        answers = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
        found.set_result([(family, address) for family, *_, address in answers])
    except Exception as error:
        found.set_exception(error)

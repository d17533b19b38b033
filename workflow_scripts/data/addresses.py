"""Check the network addresses behind scraped URLs, and resolve host names with a timeout.

A URL from a list must not reach the machine itself, a cluster's metadata service or a private
database. Because a name can resolve to a different address on every lookup, the check applies to
the address of the connection, not to the name.
"""

import collections
import errno
import ipaddress
import socket
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# IPv4 addresses as represented in an IPv6-only network (RFC 6052).
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Ranges that Python considers public (some of them before 3.11.10 only): IETF protocol assignments,
# including Oracle's metadata service; Azure's virtual-machine services; 6to4 relays; documentation.
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in ("192.0.0.0/24", "168.63.129.16", "192.88.99.0/24", "3fff::/20")
)
_CACHE_SECONDS = 300.0
_CACHE_HOSTS = 20_000


def parse_networks(networks: list[str]) -> tuple[Network, ...]:
    """Parse networks such as ``127.0.0.0/8``, ``10.1.2.3`` or ``fd00::/8``.

    Raises:
        ValueError: A string is not a valid network.
    """
    return tuple(ipaddress.ip_network(network) for network in networks)


class PrivateAddressError(OSError):
    """All addresses of a host are in non-public networks."""


def is_allowed(address: str, allowed: tuple[Network, ...] = ()) -> bool:
    """Return whether an address is on the public internet or in one of the ``allowed`` networks.

    Loopback, private, link-local, carrier-grade NAT (RFC 6598), multicast and reserved addresses
    are not public. This includes IPv4 addresses embedded in IPv6 (mapped, 6to4 and NAT64).

    Args:
        address: An address as returned by ``getaddrinfo``, e.g. ``"93.184.216.34"`` or
            ``"fe80::1%eth0"``.
        allowed: Networks that are permitted although they are not public.
    """
    forms = _forms(ipaddress.ip_address(address.partition("%")[0]))
    if any(form in network for form in forms for network in allowed):
        return True
    return _is_public(forms[-1])


def _forms(ip: Address) -> list[Address]:
    """Return an address, followed by the IPv4 address that it embeds, if any."""
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
    """Resolves host names, one thread per lookup, and caches the results for a few minutes."""

    def __init__(self):
        self._lock = threading.Lock()
        self._lookups: collections.OrderedDict[str, tuple[float, Future]] = (
            collections.OrderedDict()
        )

    def __call__(self, host: str, seconds: float) -> list[tuple[int, tuple]]:
        """Return the family and the socket address (port 0) of each address of a host.

        Raises:
            TimeoutError: The lookup takes longer than ``seconds``.
            OSError: The host does not exist.
            ValueError: ``host`` is not a valid name.
        """
        try:
            return self._lookup(host).result(timeout=seconds)
        except NotYet as error:
            raise TimeoutError(f"resolving {host} timed out") from error

    def _lookup(self, host: str) -> Future:
        with self._lock:
            started, future = self._lookups.get(host, (0.0, None))
            if future is None or self._is_stale(started, future):
                future = Future()
                self._lookups[host] = (time.monotonic(), future)
                if len(self._lookups) > _CACHE_HOSTS:
                    self._lookups.popitem(last=False)
                try:
                    threading.Thread(target=_look_up, args=(host, future), daemon=True).start()
                except RuntimeError as error:  # no more threads can be started: transient
                    future.set_exception(OSError(errno.EAGAIN, str(error)))
            return future

    @staticmethod
    def _is_stale(started: float, future: Future) -> bool:
        if not future.done():
            return False
        error = future.exception()
        transient = isinstance(error, OSError) and error.errno != socket.EAI_NONAME
        return transient or time.monotonic() - started > _CACHE_SECONDS


def _look_up(host: str, future: Future) -> None:
    try:
        answers = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
        future.set_result([(family, address) for family, *_, address in answers])
    except Exception as error:
        future.set_exception(error)

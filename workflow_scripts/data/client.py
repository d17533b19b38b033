"""An HTTP client for untrusted URLs.

One deadline and one byte limit cover everything that a URL leads to: name look-ups, connections,
TLS, status lines, headers, bodies and redirects with their targets. Each address is checked when
the client connects to it. Through a proxy, only hosts given as addresses can be checked; the proxy
decides which names it connects to.
"""

import contextlib
import functools
import http.client
import socket
import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import SplitResult, quote, urljoin, urlsplit

import idna

from workflow_scripts.data.addresses import Network, PrivateAddressError, Resolver, is_allowed
from workflow_scripts.data.proxies import Proxies, Proxy

_REDIRECTS = {301, 302, 303, 307, 308}
_MAX_REDIRECTS = 10
_HEADERS = 1 << 20  # bytes of headers, redirects and the like that come on top of a body
# Lists have URLs with blanks and letters of all scripts in them, as browsers show them.
_SAFE = "%/:=&?~#+!$,;'@()*[]|"


class TooManyBytesError(Exception):
    """More came than one URL is allowed."""


class BadRedirectError(Exception):
    """Redirected too often, to nowhere, or to something other than http and https."""


@dataclass
class Allowance:
    """What one URL may cost.

    Attributes:
        silence: Seconds that the server may be silent.
        deadline: When all has to be done, in seconds of ``time.monotonic()``.
        size: Bytes of a body; headers and redirects may have 1 MB more.
    """

    silence: float
    deadline: float
    size: int
    received: int = 0

    def seconds(self) -> float:
        """Return how long the next wait may last.

        Raises:
            TimeoutError: The deadline has passed.
        """
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline has passed")
        return min(self.silence, left)

    def receive(self, size: int) -> None:
        """Count what came.

        Raises:
            TooManyBytesError: It is more than is allowed.
        """
        self.received += size
        if self.received > self.size + _HEADERS:
            raise TooManyBytesError(f"more than {self.size}")


class _Metered(socket.socket):
    """A socket that spends an allowance."""

    allowance: Allowance

    def recv_into(self, *arguments, **options):
        self.settimeout(self.allowance.seconds())
        size = super().recv_into(*arguments, **options)
        self.allowance.receive(size)
        return size


class _SecureSocket(_Metered, ssl.SSLSocket):
    pass


class _SecureConnection(http.client.HTTPSConnection):
    allowance: Allowance

    def connect(self):
        super().connect()
        assert isinstance(self.sock, _SecureSocket)  # its context is Client's
        self.sock.allowance = self.allowance


@dataclass
class Client:
    """Opens URLs.

    Attributes:
        allowed: Networks that may be connected to although they are not public.
        headers: Sent with every request.
    """

    allowed: tuple[Network, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)
    _resolve: Resolver = field(default_factory=Resolver)
    _proxies: Proxies = field(default_factory=Proxies)

    def __post_init__(self):
        self._tls = ssl.create_default_context()
        self._tls.sslsocket_class = _SecureSocket

    @contextlib.contextmanager
    def open(self, url: str, allowance: Allowance):
        """Yield the response to a GET of ``url``, after redirects, whatever its status.

        Raises:
            ValueError: It is not a URL that can be asked for.
            PrivateAddressError: A host's addresses are not public ones.
            BadRedirectError: Redirects lead nowhere.
            TooManyBytesError: More came than is allowed.
            OSError: There is no such host or no connection (``TimeoutError``: in time).
            http.client.HTTPException: The answer is not HTTP.
        """
        before = ""
        for hop in range(_MAX_REDIRECTS + 1):
            try:
                parts = parse_url(urljoin(before, url))
            except ValueError as error:
                if hop:
                    raise BadRedirectError(str(error)) from error
                raise
            connection = self._connection(parts, allowance)
            with contextlib.closing(connection), self._get(connection, parts) as response:
                if response.status not in _REDIRECTS:
                    yield response
                    return
                # The body of a redirect is not looked at, however long it is.
                before, url = parts.geturl(), _location(response)
        raise BadRedirectError(f"more than {_MAX_REDIRECTS} redirects")

    def _connection(self, parts: SplitResult, allowance: Allowance) -> http.client.HTTPConnection:
        host = parts.hostname
        assert host is not None  # parse_url refuses such a URL
        proxy = self._proxies.of(parts.scheme, host)
        connection: http.client.HTTPConnection
        if proxy:
            self._check_literal(host)
        if parts.scheme == "https":
            connection = secure = _SecureConnection(host, parts.port, context=self._tls)
            secure.allowance = allowance
        else:
            connection = http.client.HTTPConnection(host, parts.port)
        if proxy and parts.scheme == "https":
            connection.set_tunnel(host, parts.port, proxy.headers)
        create = functools.partial(self._dial, allowance, proxy=proxy)
        connection._create_connection = create  # type: ignore[attr-defined]  # not in typeshed
        return connection

    def _get(self, connection: http.client.HTTPConnection, parts: SplitResult):
        query = f"?{parts.query}" if parts.query else ""
        target = quote(f"{parts.path or '/'}{query}", _SAFE)
        headers = dict(self.headers)
        proxy = self._proxies.of(parts.scheme, parts.hostname or "")
        if proxy and parts.scheme == "http":
            headers |= proxy.headers
            target = f"http://{parts.netloc}{target}"
        connection.request("GET", target, headers=headers)
        return connection.getresponse()

    def _check_literal(self, host: str) -> None:
        # Numbers in all their forms (2130706433, 0x7f.1), which a name server is not asked about.
        with contextlib.suppress(socket.gaierror):
            found: Iterable[tuple] = socket.getaddrinfo(host, 0, flags=socket.AI_NUMERICHOST)
            if not any(is_allowed(address[0], self.allowed) for *_, address in found):
                raise PrivateAddressError(f"{host} is not a public address")

    def _dial(
        self, allowance: Allowance, address: tuple[str, int], *_, proxy: Proxy | None
    ) -> socket.socket:
        """Connect to the first address of a host that is allowed and answers."""
        host, port = (proxy.host, proxy.port) if proxy else address
        found = self._resolve(host, allowance.seconds())
        # The proxy is the user's own choice.
        usable = found if proxy else [a for a in found if is_allowed(a[1][0], self.allowed)]
        if not usable:
            raise PrivateAddressError(f"{host} is at {found[0][1][0]}")
        trouble: OSError = OSError(f"{host} has no address")
        for family, (ip, _, *rest) in usable:
            try:
                connected = _Metered(family, socket.SOCK_STREAM)
            except OSError as error:
                trouble = error
                continue
            connected.allowance = allowance
            try:
                connected.settimeout(allowance.seconds())
                connected.connect((ip, port, *rest))
                return connected
            except OSError as error:
                connected.close()
                trouble = error
        raise trouble


def parse_url(url: str) -> SplitResult:
    """Split an http(s) URL; its host becomes what name servers know, its port a number.

    Raises:
        ValueError: It is not a URL that can be asked for.
    """
    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"not http: {parts.scheme[:20]}")
    host = _ascii_host(parts.hostname or "")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    default = port == (443 if parts.scheme == "https" else 80)
    bracketed = f"[{host}]" if ":" in host else host
    return parts._replace(netloc=bracketed if default else f"{bracketed}:{port}")


def _ascii_host(host: str) -> str:
    """Return a host's name as browsers ask for it: UTS #46, then Punycode."""
    if not host:
        raise ValueError("no host")
    if host.isascii():
        return host
    labels = idna.uts46_remap(host, std3_rules=False, transitional=False).split(".")
    encoded = (n if n.isascii() else f"xn--{n.encode('punycode').decode()}" for n in labels)
    return ".".join(encoded)


def _location(response: http.client.HTTPResponse) -> str:
    location = response.headers.get("Location")
    if not location:
        raise BadRedirectError(f"{response.status} without a place")
    # Headers are read as Latin-1; what servers mean by other bytes is UTF-8.
    with contextlib.suppress(UnicodeError):
        location = location.encode("latin-1").decode()
    return location

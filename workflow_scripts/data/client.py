"""An HTTP client for untrusted URLs.

One deadline and one byte limit cover the whole request: name resolution, connection, TLS, status
line, headers, body and all redirects. Addresses are checked when the client connects. Behind a
proxy, only hosts given as literal addresses can be checked: the proxy resolves the names.
"""

import base64
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
_HEADERS = 1 << 20  # bytes allowed for headers, redirects and the like in addition to the body
# URLs in lists may contain spaces and letters of any script, as browsers display them.
_SAFE = "%/:=&?~#+!$,;'@()*[]|"


class TooManyBytesError(Exception):
    """The response exceeds the byte limit of a URL."""


class BadRedirectError(Exception):
    """Too many redirects, or a redirect without a valid http(s) target."""


@dataclass
class Allowance:
    """Time and byte limits of one URL.

    Attributes:
        silence: Longest time without data from the server, in seconds.
        deadline: End of the whole request, in seconds of ``time.monotonic()``.
        size: Largest body in bytes; headers and redirects may add up to 1 MiB.
        received: Bytes received so far.
    """

    silence: float
    deadline: float
    size: int
    received: int = 0

    def seconds(self) -> float:
        """Return the timeout of the next blocking call, in seconds.

        Raises:
            TimeoutError: The deadline has passed.
        """
        remaining = self.deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("the deadline has passed")
        return min(self.silence, remaining)

    def receive(self, size: int) -> None:
        """Count ``size`` received bytes.

        Raises:
            TooManyBytesError: The limit is exceeded.
        """
        self.received += size
        if self.received > self.size + _HEADERS:
            raise TooManyBytesError(f"more than {self.size} bytes")


class _Metered(socket.socket):
    """A socket whose reads count against an allowance."""

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
        assert isinstance(self.sock, _SecureSocket)  # set by the context of Client
        self.sock.allowance = self.allowance


@dataclass
class Client:
    """Opens URLs.

    Attributes:
        allowed: Networks that may be contacted although they are not public.
        headers: Headers sent with every request.
        login: ``user:password``, sent with the same scheme, host and port as that of the requested
            URL, not to others that it redirects to.
    """

    allowed: tuple[Network, ...] = ()
    headers: dict[str, str] = field(default_factory=dict)
    login: str = ""
    _resolve: Resolver = field(default_factory=Resolver)
    _proxies: Proxies = field(default_factory=Proxies)

    def __post_init__(self):
        self._tls = ssl.create_default_context()
        self._tls.sslsocket_class = _SecureSocket

    @contextlib.contextmanager
    def open(self, url: str, allowance: Allowance):
        """Send a GET request, follow redirects and yield the response, whatever its status.

        Raises:
            ValueError: ``url`` is not a valid http(s) URL.
            PrivateAddressError: A host has no public address.
            BadRedirectError: There are too many redirects, or a target is not valid.
            TooManyBytesError: The response is larger than allowed.
            OSError: The host does not exist or cannot be reached (``TimeoutError``: not in time).
            http.client.HTTPException: The response is not valid HTTP.
        """
        base, origin = "", None
        for hop in range(_MAX_REDIRECTS + 1):
            try:
                parts = parse_url(urljoin(base, url))
            except ValueError as error:
                if hop:
                    raise BadRedirectError(str(error)) from error
                raise
            origin = origin or (parts.scheme, parts.netloc)
            login = self.login if origin == (parts.scheme, parts.netloc) else ""
            connection = self._connection(parts, allowance)
            with contextlib.closing(connection), self._get(connection, parts, login) as response:
                if response.status not in _REDIRECTS:
                    yield response
                    return
                # The body of a redirect is not read, whatever its length.
                base, url = parts.geturl(), _location(response)
        raise BadRedirectError(f"more than {_MAX_REDIRECTS} redirects")

    def _connection(self, parts: SplitResult, allowance: Allowance) -> http.client.HTTPConnection:
        host = parts.hostname
        assert host is not None  # checked by parse_url
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

    def _get(self, connection: http.client.HTTPConnection, parts: SplitResult, login: str):
        query = f"?{parts.query}" if parts.query else ""
        target = quote(f"{parts.path or '/'}{query}", _SAFE)
        headers = dict(self.headers)
        if login:
            headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
        proxy = self._proxies.of(parts.scheme, parts.hostname or "")
        if proxy and parts.scheme == "http":
            headers |= proxy.headers
            target = f"http://{parts.netloc}{target}"
        connection.request("GET", target, headers=headers)
        return connection.getresponse()

    def _check_literal(self, host: str) -> None:
        # Literal addresses in any form (2130706433, 0x7f.1), which need no name server.
        with contextlib.suppress(socket.gaierror):
            found: Iterable[tuple] = socket.getaddrinfo(host, 0, flags=socket.AI_NUMERICHOST)
            if not any(is_allowed(address[0], self.allowed) for *_, address in found):
                raise PrivateAddressError(f"{host} is not a public address")

    def _dial(
        self, allowance: Allowance, address: tuple[str, int], *_, proxy: Proxy | None
    ) -> socket.socket:
        """Connect to the first address of a host that is allowed and accepts the connection."""
        host, port = (proxy.host, proxy.port) if proxy else address
        found = self._resolve(host, allowance.seconds())
        # The proxy is set by the user and may be at any address.
        usable = found if proxy else [a for a in found if is_allowed(a[1][0], self.allowed)]
        if not usable:
            raise PrivateAddressError(f"{host} resolves to {found[0][1][0]}")
        last_error: OSError = OSError(f"{host} has no address")
        for family, (ip, _, *rest) in usable:
            try:
                connected = _Metered(family, socket.SOCK_STREAM)
            except OSError as error:
                last_error = error
                continue
            connected.allowance = allowance
            try:
                connected.settimeout(allowance.seconds())
                connected.connect((ip, port, *rest))
                return connected
            except OSError as error:
                connected.close()
                last_error = error
        raise last_error


def parse_url(url: str) -> SplitResult:
    """Split an http(s) URL, with the host in ASCII (Punycode) and non-default ports explicit.

    Raises:
        ValueError: ``url`` is not a valid http(s) URL.
    """
    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"scheme {parts.scheme[:20]!r} is not http or https")
    host = _ascii_host(parts.hostname or "")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    default = port == (443 if parts.scheme == "https" else 80)
    bracketed = f"[{host}]" if ":" in host else host
    return parts._replace(netloc=bracketed if default else f"{bracketed}:{port}")


def _ascii_host(host: str) -> str:
    """Encode a host name as browsers do: UTS #46, then Punycode."""
    if not host:
        raise ValueError("the URL has no host")
    if host.isascii():
        return host
    labels = idna.uts46_remap(host, std3_rules=False, transitional=False).split(".")
    encoded = (n if n.isascii() else f"xn--{n.encode('punycode').decode()}" for n in labels)
    return ".".join(encoded)


def _location(response: http.client.HTTPResponse) -> str:
    location = response.headers.get("Location")
    if not location:
        raise BadRedirectError(f"status {response.status} without a Location header")
    # http.client decodes headers as Latin-1, but servers send UTF-8.
    with contextlib.suppress(UnicodeError):
        location = location.encode("latin-1").decode()
    return location

"""HTTP proxies from the environment (``http_proxy``, ``https_proxy``, ``no_proxy``)."""

import base64
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.redact import redact

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PORT = 80


@dataclass(frozen=True)
class Proxy:
    """Address of a proxy, and headers sent to it."""

    host: str
    port: int
    headers: Mapping[str, str]


class Proxies:
    """Selects the proxy of a request.

    Raises:
        StepError: A variable has no host, or names a proxy that is not an HTTP proxy.
    """

    def __init__(self):
        self._urls = urllib.request.getproxies()
        schemes = [scheme for scheme in ("http", "https") if self._urls.get(scheme)]
        self._proxies = {scheme: _parsed(scheme, self._urls[scheme]) for scheme in schemes}

    def of(self, scheme: str, host: str) -> Proxy | None:
        """Return the proxy for a host; None if no proxy is set or applies (localhost, no_proxy)."""
        if scheme not in self._proxies or host in _LOOPBACK:
            return None
        bypass = urllib.request.proxy_bypass_environment  # type: ignore[attr-defined]  # not in typeshed
        return None if bypass(host, self._urls) else self._proxies[scheme]


def _parsed(scheme: str, url: str) -> Proxy:
    url = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or _PORT
    except ValueError:
        host = None
    if not host or parts.scheme != "http":
        problem = "has no host" if not host else "is not an http:// proxy"
        raise StepError(
            f"the environment variable {scheme}_proxy is {redact(url)!r}, which {problem}; set it "
            "to http://host:port or unset it"
        )
    headers = {}
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        encoded = base64.b64encode(credentials.encode()).decode()
        headers["Proxy-Authorization"] = f"Basic {encoded}"
    return Proxy(host, port, headers)

"""All behaviours of the hostile server, and all notations of non-public addresses."""

import resource
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.hostile.server import BEHAVIOURS, TIMEOUT
from workflow_scripts.data.addresses import is_allowed, parse_networks
from workflow_scripts.data.client import Client
from workflow_scripts.data.fetching import Budget, fetch_row
from workflow_scripts.data.resizing import Resizer

LOOPBACK = parse_networks(["127.0.0.0/8"])
MAX_BYTES = 250_000


def fetch(url, allowed=LOOPBACK, budget=None, timeout=TIMEOUT):
    """Return the body and the reason of one row."""
    place, body, lost = fetch_row(
        (7, url),
        timeout=timeout,
        retries=1,
        user_agent_token=None,
        disallowed_header_directives={"noai"},
        client=Client(allowed),
        max_bytes=MAX_BYTES,
        budget=budget or Budget(1 << 20),
    )
    assert place == 7
    return body, lost and lost.partition(":")[0]


@pytest.fixture(scope="module")
def outcomes(server):
    """Reason and time in seconds of one row per behaviour."""
    resizer = Resizer(32, 95, 1_000_000)

    def one(kind):
        started = time.monotonic()
        body, reason = fetch(f"{server.url}/{kind}/1.jpg")
        return body and body.getvalue(), reason, time.monotonic() - started

    with ThreadPoolExecutor(20) as pool:
        fetched = dict(zip(BEHAVIOURS, pool.map(one, BEHAVIOURS), strict=True))
    found = {}
    for kind, (body, reason, seconds) in fetched.items():
        stored = resizer(body) if body else None
        outcome = stored.partition(":")[0] if isinstance(stored, str) else reason
        found[kind] = outcome, seconds
    return found


@pytest.mark.parametrize("kind", BEHAVIOURS)
def test_each_behaviour_gives_an_image_or_the_right_reason_in_time(outcomes, kind):
    reason, seconds = outcomes[kind]
    assert reason in BEHAVIOURS[kind][1]
    # Two attempts of six time-outs each, plus a margin for detecting them.
    assert seconds < 2 * 6 * TIMEOUT + 15


ROWS_THAT_ARE_NO_URL = (
    "", " ", "http://", "http:///x.jpg", "https://:80/", "http://[::1/x", "http://[x]/",
    "http://a b/",
    f"http://127.0.0.1:{10**22}/x.jpg", "http://127.0.0.1:-1/", "http://127.0.0.1:x/",
    "http://127.0.0.1:65536/", "http://\x00/", "http://" + "a" * 100_000, "gopher://127.0.0.1/",
    "http://.../", "http://\u2028/", "http://xn--/", "http://\ud800/", "//127.0.0.1/x", "x.jpg",
    "http://%00/", "http://a..b/", "http://" + "a." * 5000, "http://☃" * 99,
)  # fmt: skip


@pytest.mark.parametrize("url", ROWS_THAT_ARE_NO_URL, ids=range(len(ROWS_THAT_ARE_NO_URL)))
def test_an_invalid_url_is_one_lost_row(url):
    assert fetch(url)[1] in ("bad url", "no connection", "timeout")


PRIVATE = (
    "127.0.0.1", "127.1", "127.255.255.254", "2130706433", "0x7f000001", "0x7f.1", "017700000001",
    "0177.0.0.1", "0", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
    "169.254.169.254", "2852039166", "100.64.0.1", "198.18.0.1", "192.0.2.1", "224.0.0.1",
    "240.0.0.1", "255.255.255.255", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
    "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b::10.0.0.1]", "[2002:7f00:1::]", 
    "[2002:a00:1::1]", "[fe80::1]", "[fc00::1]", "[fd12:3456::1]", "[fec0::1]", "[ff02::1]",
    "[2001:db8::1]", "localhost", "LOCALHOST", "localhost.", "１２７.０.０.１", "①②⑦.0.0.1",
    "192.0.0.192", "168.63.129.16", "0xa83f8110", "192.88.99.1", "100.100.100.200",
    "[3fff::1]", "[5f00::1]", "[::ffff:0:7f00:1]", "[64:ff9b::a83f:8110]", "[64:ff9b:1::7f00:1]",
    "[2001:0:7f00:1::1]", "[2002:a9fe:a9fe::1]", "[fd00:ec2::254]",
    "user:password@127.0.0.1",
    "example.org@127.0.0.1", "0:0@127.1",
)  # fmt: skip


@pytest.mark.parametrize("host", PRIVATE)
def test_private_addresses_are_refused_in_any_notation(host, monkeypatch):
    def connect(self, address):
        raise AssertionError(f"connected to {address}")

    monkeypatch.setattr(socket.socket, "connect", connect)
    assert fetch(f"http://{host}:9/x.jpg", allowed=())[1] in ("private address", "no connection")
    # Allowing the loopback network must not allow any other.
    assert not is_allowed("169.254.169.254", LOOPBACK)


def test_public_addresses_are_public():
    public = ("93.184.216.34", "8.8.8.8", "2606:2800:220:1::1", "64:ff9b::5db8:d822", "1.1.1.1")
    assert all(map(is_allowed, public))


def test_a_rebinding_name_is_resolved_only_once(server, monkeypatch):
    """The name is resolved once, so the checked address is the one that is connected to."""
    looked_up = []

    def getaddrinfo(host, *_, **__):
        looked_up.append(host)
        public = len(looked_up) == 1
        return [(socket.AF_INET, 1, 6, "", ("93.184.216.34" if public else "127.0.0.1", 0))]

    connected = []
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(
        socket.socket, "connect", lambda self, address: connected.append(address) or 1 / 0
    )
    assert fetch("http://rebinding.example/x.jpg", allowed=())[1] == "bad answer"
    assert connected == [("93.184.216.34", 80)]


def test_a_silent_name_server_times_out(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(20))
    started = time.monotonic()
    assert fetch("http://silent.example/x.jpg")[1] == "timeout"
    assert time.monotonic() - started < 15


def test_international_host_names_are_encoded_as_in_browsers(monkeypatch):
    asked = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_, **__: asked.append(host) or [])
    hosts = (
        "bücher.example",
        "FAß.example",
        "例え.jp",
        "i❤.ws",
        "ＥＸＡＭＰＬＥ.org",
        "münchen。de",
    )
    for host in hosts:
        fetch(f"http://{host}/x.jpg")
    assert list(dict.fromkeys(asked)) == [
        "xn--bcher-kva.example", "xn--fa-hia.example", "xn--r8jz45g.jp", "xn--i-7iq.ws",
        "example.org", "xn--mnchen-3ya.de",
    ]  # fmt: skip


def test_all_bodies_share_one_memory_budget(server):
    """Twenty threads that read endless bodies exceed the budget by at most one body."""
    budget = Budget(300_000)
    peaks = []
    take = budget.take

    def watched(owner, size):
        seconds = take(owner, size)
        peaks.append(budget._used)
        return seconds

    budget.take = watched
    with ThreadPoolExecutor(20) as pool:
        urls = [f"{server.url}/endless_body/{i}.jpg" for i in range(40)]
        reasons = {r for _, r in pool.map(lambda url: fetch(url, budget=budget, timeout=5), urls)}
    assert reasons == {"too many bytes"}
    assert max(peaks) <= 300_000 + MAX_BYTES + 65536
    assert budget._used == 0


def test_memory_stays_bounded_for_all_behaviours(outcomes):
    # torch and OpenCV take most of this; each body is at most a few hundred kB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2_000_000

"""Proxies from the environment: parsed, or refused with one sentence."""

import pytest

from workflow_scripts.common.errors import StepError
from workflow_scripts.data.proxies import Proxies

VARIABLES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")


@pytest.fixture
def environment(monkeypatch):
    """Set the given proxy variables and unset all others."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    def given(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return Proxies()

    return given


def test_a_proxy_may_have_a_scheme_and_a_password(environment):
    proxies = environment(http_proxy="proxy.example:3128", https_proxy="http://a%40b:c@p.example")
    plain, secret = proxies.of("http", "x.org"), proxies.of("https", "x.org")
    assert (plain.host, plain.port, plain.headers) == ("proxy.example", 3128, {})
    assert (secret.host, secret.port) == ("p.example", 80)
    assert secret.headers == {"Proxy-Authorization": "Basic YUBiOmM="}


def test_localhost_and_no_proxy_bypass_the_proxy(environment):
    proxies = environment(http_proxy="http://p.example:1", no_proxy=".internal,y.org")
    assert proxies.of("http", "x.org") is not None
    for host in ("127.0.0.1", "localhost", "::1", "a.internal", "y.org"):
        assert proxies.of("http", host) is None
    assert proxies.of("https", "x.org") is None


@pytest.mark.parametrize(
    "url", ["http://", "http://:3128", "http://a:b", "http://[::1", "socks5://p:1", "https://p:1"]
)
def test_an_invalid_proxy_is_reported_with_its_variable(environment, url):
    with pytest.raises(StepError, match="the environment variable https_proxy is"):
        environment(https_proxy=url)


@pytest.mark.parametrize("url", ["socks5://me:hunter2@p.example", "me:hunter2@p.example:port"])
def test_the_password_of_an_invalid_proxy_is_hidden(environment, url):
    with pytest.raises(StepError) as refusal:
        environment(http_proxy=url)
    assert "hunter2" not in str(refusal.value)

"""Secrets do not appear in logs, records or errors."""

import json

import pytest

from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.redact import redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:s3cret@host.org/list.tsv", "https://***@host.org/list.tsv"),
        ("ftp://me:s3@cret:@host/x", "ftp://***@host/x"),
        ("https://s3cret@host", "https://***@host"),
        ("https://host/x?token=s3cret&part=s3cret", "https://host/x?token=***&part=***"),
        ("https://host/x?s3cret", "https://host/x?***"),
        ("https://host/x#access=s3cret", "https://host/x#access=***"),
        ("no https://host/x?a=s3cret, nor http://u:s3cret@h", "no https://host/x?a=*** nor http://***@h"),
        ("api_key: s3cret", "api_key: ***"),
        ('{"password": "s3cret"}', '{"password": "***"}'),
        ('{"password": "two s3cret words", "x": 1}', '{"password": "***", "x": 1}'),
        ("secret='a, b' done", "secret='***' done"),
        ("https://host/a@b/x.tsv is missing; set token_file", None),
        ("77 tokens: start, text, end", None),
    ],
)  # fmt: skip
def test_only_secrets_are_hidden(text, shown):
    assert redact(text) == (text if shown is None else shown)


def test_values_are_hidden_by_key():
    config = {
        "hf_token": "s3cret",
        "tokens": 77,
        "api-key": 3,
        "list": ["https://a:b@c"],
        "token": None,
    }
    assert redact(config) == {
        "hf_token": "***",
        "tokens": 77,
        "api-key": "***",
        "list": ["https://***@c"],
        "token": None,
    }
    assert "s3cret" not in json.dumps(redact([{"a": {"SECRET": {"x": "s3cret"}}}]))


def test_secrets_from_the_environment_are_hidden(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    assert redact("refused 0123456789abcdef") == "refused ***"


@pytest.mark.parametrize("error", [StepError, ValueError, OSError])
def test_steps_do_not_print_secrets(error, capsys):
    def main():
        raise error("https://me:s3cret@host/x?token=s3cret cannot be had")

    with pytest.raises(SystemExit) as end:
        run_step(main)
    assert "https://***@host/x?token=*** cannot be had" in end.value.code
    assert "s3cret@" not in capsys.readouterr().err

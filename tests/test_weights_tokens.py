"""Tokens from Secrets: what cannot be one is told before anything is sent, and nothing of one is printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.hub.running import run
from tests.stores.host import Host

pytestmark = [pytest.mark.weights, pytest.mark.timeout(300)]


@pytest.mark.parametrize("token", ["hf_secretsecret\nhf_another", "\u201chf_secretsecret\u201d", "hf_secret secret"])
@pytest.mark.parametrize(
    ("variable", "source", "address"),
    [
        ("HF_TOKEN", "org/model", "HF_ENDPOINT"),
        ("MODELSCOPE_API_TOKEN", "modelscope://org/model", "MODELSCOPE_ENDPOINT"),
    ],
)
def test_what_cannot_be_a_token_is_told_and_not_sent(
    tmp_path: Path, variable: str, source: str, address: str, token: str
) -> None:
    with Host(200) as host:
        ended = run(
            "inspect", {"source": source, "backoffSeconds": 0}, tmp_path / "work", {address: host.url, variable: token}
        )

    assert (ended.code, ended.answer["reason"]) == (3, "InvalidToken"), ended.output
    assert variable in ended.answer["message"] and "in one line" in ended.answer["remedy"]
    assert host.asked == []
    assert "hf_secret" not in ended.output + json.dumps(ended.answer)


def test_a_key_is_hidden_in_whatever_is_said(tmp_path: Path) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "AKIASECRET", "AWS_SECRET_ACCESS_KEY": "very secret key"}
    body = b"<Error><Code>Odd</Code><Message>no AKIASECRET with very secret key</Message></Error>"
    with Host(418, body, {"Content-Type": "application/xml"}) as store:
        environment = {"AWS_ENDPOINT_URL": store.url, "AWS_REGION": "us-east-1", **keys}
        ended = run("inspect", {"source": "s3://models/llama", "backoffSeconds": 0}, tmp_path / "work", environment)

    said = ended.output + json.dumps(ended.answer)
    assert "Odd: no [hidden] with [hidden]" in ended.answer["message"]
    assert "AKIASECRET" not in said and "very secret" not in said

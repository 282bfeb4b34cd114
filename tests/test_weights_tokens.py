"""Tokens from Secrets: what cannot be one is told before anything is sent, and nothing of one is printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.hub.running import run
from tests.stores.host import Host
from vllm_weights.tokens import HIDDEN, without_secrets

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


@pytest.mark.parametrize(
    "said",
    [
        "Error reading pem file: illegal section start: [45, 45, 45, 45, 45, 66, 69, 71, 73]",
        "it holds [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,",
        "of -----BEGIN PRIVATE KEY-----\nMIIEvQIBADAN\n",
    ],
)
def test_a_keys_bytes_are_hidden_in_whatever_form_a_library_shows_them(said: str) -> None:
    shown = without_secrets(said, {})

    assert "[hidden]" in shown and "45, 45" not in shown and "11, 12" not in shown and "MIIE" not in shown


def test_a_service_accounts_key_whose_lines_are_written_out_is_told_and_not_shown(tmp_path: Path) -> None:
    pem = "-----BEGIN PRIVATE KEY-----\\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\\n-----END PRIVATE KEY-----\\n"
    key = json.dumps({"type": "service_account", "client_email": "a@b", "private_key": pem})
    ended = run("inspect", {"source": "gs://models/llama"}, tmp_path / "work", {"GOOGLE_SERVICE_ACCOUNT_KEY": key})

    assert (ended.answer["reason"], ended.code) == ("InvalidToken", 3), ended.output
    assert "written out" in ended.answer["message"] and "MIIEvQ" not in ended.output


TOKEN = "hf_abcdefghijklmnopqrstuvwxyz"
ADDRESSES = {
    "HTTPS_PROXY": "http://svc:p%40ss#w0rd/tail@proxy.example:3128",
    "HF_ENDPOINT": "https://me:s3cretword@hub.example/path@v1",
    "MODELSCOPE_ENDPOINT": "https://scope.example/path@v1",
    "HF_TOKEN": TOKEN,
}


@pytest.mark.parametrize(
    "said",
    [
        "Invalid port: 'p%40ss'",
        "Invalid port: 'w0rd'",
        "to http://svc:p%40ss#w0rd/tail@proxy.example:3128",
        "user svc:p@ss#w0rd/tail",
        "Basic bWU6czNjcmV0d29yZA==",
        "from https://me:s3cretword@hub.example/x",
        f"a token {TOKEN[:15]}",
        f"a token {TOKEN!r}, and more",
        "GET https://s3.example/x?a=1&X-Amz-Signature=0123abcd&b=2",
        "see https://who:ever@elsewhere.example/",
    ],
)
def test_a_login_in_an_address_is_hidden_in_whatever_form_somebody_quotes_it(said: str) -> None:
    told = without_secrets(said, ADDRESSES)

    assert HIDDEN in told
    for secret in ("p%40ss", "p@ss", "w0rd", "s3cret", "bWU6", TOKEN[:12], "0123abcd", "ever@"):
        assert secret not in told


@pytest.mark.parametrize(
    "said",
    [
        "proxy.example:3128 cannot be reached",
        "https://hub.example/path@v1",
        "https://scope.example/path@v1/x",
        "hf://org/name@v1",
    ],
)
def test_a_host_is_no_secret(said: str) -> None:
    assert without_secrets(said, ADDRESSES) == said


def test_a_fault_that_nobody_foresaw_prints_no_secret(tmp_path: Path) -> None:
    """A port is the last thing that anybody would take a token for; the exception quotes it."""
    environment = {"HF_TOKEN": TOKEN, "PROGRESS_PORT": TOKEN, "HF_ENDPOINT": "http://127.0.0.1:9"}
    ended = run("pull", {"source": "org/model", "destination": str(tmp_path / "to/m")}, tmp_path / "work", environment)

    assert ended.answer["reason"] == "DownloadFailed" and HIDDEN in ended.answer["message"]
    assert TOKEN[:12] not in ended.output + json.dumps(ended.answer)

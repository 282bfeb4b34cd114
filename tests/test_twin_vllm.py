"""The quick server with vLLM's manners, held against the real vLLM: the same requests, the same answers in what clients read."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.demo.shell import ROOT, python

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def ask(port: int, path: str, body: object = None) -> tuple[int, Any]:
    """Status and parsed answer; (0, None) while nobody listens."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", data=data, headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text[:1] in b"[{" and text else None
    except urllib.error.HTTPError as error:
        return error.code, None
    except OSError:
        return 0, None


@pytest.fixture(scope="module")
def model() -> Path:
    done = subprocess.run(python("tests.cluster", "models"), cwd=ROOT, text=True, capture_output=True, check=True)
    return Path(done.stdout.strip().splitlines()[-1]) / "vllm-operator" / "tiny-chat"


@pytest.fixture(scope="module", params=["fake", "real"])
def server(request: pytest.FixtureRequest, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a server that is healthy."""
    port = free_port()
    flags = [str(model), "--port", str(port), "--served-model-name", "tiny", "small", "--max-model-len", "256"]
    if request.param == "fake":
        command = [sys.executable, str(ROOT / "tests/fakes/vllm.py"), "serve", *flags]
    else:
        vllm = Path(os.environ["VLLM_PYTHON"]).with_name("vllm")
        command = [str(vllm), "serve", *flags, "--enforce-eager", "--host", "127.0.0.1"]
    log = tmp_path_factory.mktemp(request.param) / "log"
    cache = tmp_path_factory.mktemp("cache")
    env = {
        **os.environ,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_CACHE_ROOT": str(cache),
    }
    with log.open("w") as out:
        running = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=env)
    try:
        while ask(port, "/health")[0] != 200:
            assert running.poll() is None, log.read_text()[-3000:]
            time.sleep(0.3)
        yield port
    finally:
        running.terminate()
        running.wait(60)


def test_models_are_listed_by_their_served_names_with_their_length(server: int) -> None:
    _, body = ask(server, "/v1/models")

    assert [(card["id"], card["max_model_len"]) for card in body["data"]] == [("tiny", 256), ("small", 256)]


def test_a_completion_has_a_choice(server: int) -> None:
    code, body = ask(server, "/v1/completions", {"model": "tiny", "prompt": "Hello", "max_tokens": 1})

    assert code == 200
    assert body["choices"][0]["finish_reason"] == "length"


def test_a_model_that_is_not_served_is_404(server: int) -> None:
    assert ask(server, "/v1/completions", {"model": "other", "prompt": "x"})[0] == 404


def test_a_generating_model_has_no_embeddings(server: int) -> None:
    assert ask(server, "/v1/embeddings", {"model": "tiny", "input": "x"})[0] == 404


def test_invocations_and_tokenize_answer_without_a_key(server: int) -> None:
    code, body = ask(server, "/invocations", {"model": "tiny", "prompt": "Hello", "max_tokens": 1})
    assert code == 200
    assert body["choices"]

    code, body = ask(server, "/tokenize", {"model": "tiny", "prompt": "Hello"})
    assert code == 200
    assert body["max_model_len"] == 256


def test_metrics_are_text_with_vllm_s_names(server: int) -> None:
    request = urllib.request.urlopen(f"http://127.0.0.1:{server}/metrics", timeout=10)
    with request as answer:
        assert b"vllm:num_requests_running" in answer.read()

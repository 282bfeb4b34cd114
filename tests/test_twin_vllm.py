"""The quick server with vLLM's manners, held against the real vLLM: the same requests, the same answers in what clients read."""

from __future__ import annotations

import json
import os
import shutil
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
from vllm_operator.diagnose import look_at_adapter_answer

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
        text = error.read()
        return error.code, json.loads(text) if text[:1] == b"{" else None
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
    flags.append("--enable-lora")
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
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
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


@pytest.fixture(scope="module")
def adapter(model: Path) -> Path:
    """An adapter of rank 16, which is the most that a server takes unless it is told otherwise."""
    return model.parent / "lora-rank-16"


def load(port: int, name: str, path: Path, **more: Any) -> tuple[int, Any]:
    return ask(port, "/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(path), **more})


def unload(port: int, name: str) -> int:
    return ask(port, "/v1/unload_lora_adapter", {"lora_name": name})[0]


def adapters(port: int) -> dict[str, str]:
    cards = ask(port, "/v1/models")[1]["data"]
    return {card["id"]: card["root"] for card in cards if card["parent"]}


def test_an_adapter_is_loaded_answers_under_its_name_and_is_unloaded(server: int, adapter: Path) -> None:
    assert load(server, "sql", adapter)[0] == 200
    assert adapters(server) == {"sql": str(adapter)}
    code, body = ask(server, "/v1/completions", {"model": "sql", "prompt": "Hello", "max_tokens": 1})
    assert (code, body["model"]) == (200, "sql")

    assert load(server, "sql", adapter)[0] == 400
    assert unload(server, "sql") == 200
    assert unload(server, "sql") == 404
    assert adapters(server) == {}
    assert ask(server, "/v1/completions", {"model": "sql", "prompt": "x"})[0] == 404


def test_another_path_takes_an_adapter_s_place(server: int, adapter: Path, tmp_path: Path) -> None:
    other = edited(adapter, tmp_path / "v2")
    load(server, "sql", adapter)

    assert load(server, "sql", other)[0] == 400
    assert load(server, "sql", other, load_inplace=True)[0] == 200
    assert adapters(server) == {"sql": str(other)}
    unload(server, "sql")


def edited(adapter: Path, to: Path, **config: Any) -> Path:
    """A copy of the adapter whose configuration says something else."""
    shutil.copytree(adapter, to)
    path = to / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return to


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (None, "AdapterNotFound"),
        ({"r": 64}, "AdapterRankTooHigh"),
        ({"modules_to_save": ["lm_head"]}, "AdapterInvalid"),
    ],
)
def test_what_is_wrong_with_an_adapter_is_read_from_the_answer(
    server: int, adapter: Path, tmp_path: Path, change: dict[str, Any] | None, reason: str
) -> None:
    path = edited(adapter, tmp_path / "bad", **change) if change is not None else tmp_path / "nowhere"
    code, body = load(server, "bad", path)

    assert code >= 400
    found = look_at_adapter_answer(code, json.dumps(body))
    assert (found.reason, found.retry) == (reason, False)
    assert adapters(server) == {}

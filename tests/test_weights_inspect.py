"""Before anything is taken, one look at the source says what it would bring, or by name why it cannot."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub import Hub
from tests.hub.models import LLAMA, write_model, write_safetensors
from tests.hub.running import OPERATOR, run
from tests.stores.folder import FolderHandler, FolderServer
from vllm_weights.failure import Reason, WeightsError
from vllm_weights.inspection import inspect
from vllm_weights.request import Request

pytestmark = pytest.mark.weights


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    root = tmp_path / "root"
    write_model(root / "org/model")
    with Hub(root) as running:
        yield running


def look(hub: Hub, source: str = "org/model", token: str | None = None, **fields: Any) -> dict[str, Any]:
    environment = {"HF_ENDPOINT": hub.url} | ({"HF_TOKEN": token} if token else {})
    return inspect((Request(source=source, backoff_seconds=0, **fields),), False, environment)


def failure(hub: Hub, source: str = "org/model", token: str | None = None, **fields: Any) -> WeightsError:
    with pytest.raises(WeightsError) as caught:
        look(hub, source, token, **fields)
    return caught.value


def test_a_model_is_described_for_the_fit(hub: Hub) -> None:
    answer = look(hub)

    sizes = {path.name: path.stat().st_size for path in (hub.repos.root / "org/model").iterdir()}
    del sizes["README.md"]
    assert answer == {
        "version": 1,
        "ok": True,
        "source": "org/model",
        "commit": hub.repos.references("org/model")["main"],
        "bytes": sum(sizes.values()),
        "files": len(sizes),
        "largestFileBytes": sizes["model.safetensors"],
        "format": "safetensors",
        "config": LLAMA,
        "quantization": {},
        "weights": {"totalBytes": 200_000, "parameters": {"BF16": 100_000}},
        "hasTokenizer": True,
        "hasChatTemplate": True,
        "customCode": False,
        "architectures": ["LlamaForCausalLM"],
    }


@pytest.mark.parametrize(("shards", "small_files", "headers"), [(1, 2, 1), (4, 3, 4), (20, 3, 16), (200, 3, 16)])
def test_it_takes_a_handful_of_requests_and_few_bytes_however_many_shards_there_are(
    hub: Hub, shards: int, small_files: int, headers: int
) -> None:
    write_model(hub.repos.root / "org/sharded", shards=shards, shard_bytes=300_000, sparse=True)
    answer = look(hub, "org/sharded")

    # The info; configurations of model and tokenizer, the index of several shards; a redirect and a range for each header.
    assert hub.requests["requests"] == 1 + small_files + 2 * headers
    assert hub.requests["bytes"] < headers * 257 * 1024 + 40_000
    assert answer["weights"]["totalBytes"] == shards * 300_000
    assert answer["weights"]["parameters"] == {"BF16": pytest.approx(shards * 150_000, rel=0.01)}
    assert ("sampled" in answer["weights"]) == (headers < shards)


def test_a_header_longer_than_the_first_read_is_read_whole(hub: Hub) -> None:
    folder = write_model(hub.repos.root / "org/long")
    tensors = {f"layers.{at}.a.very.long.name.of.a.tensor.{'x' * 60}": ("F8_E4M3", [2, 3]) for at in range(3000)}
    write_safetensors(folder / "model.safetensors", tensors)

    assert look(hub, "org/long")["weights"] == {"totalBytes": 18_000, "parameters": {"F8_E4M3": 18_000}}


def test_a_revision_of_the_name_or_the_request_is_resolved_to_its_commit(hub: Hub) -> None:
    write_model(hub.repos.root / "org/model/.branches/dev", config=LLAMA | {"model_type": "dev"})
    (hub.repos.root / "org/model/.refs.json").write_text('{"dev": ".branches/dev"}')
    commits = hub.repos.references("org/model")

    assert look(hub, "hf://org/model@dev")["commit"] == look(hub, revision="dev")["commit"] == commits["dev"]
    assert look(hub)["commit"] == commits["main"] != commits["dev"]
    assert look(hub, revision=commits["dev"][:10])["commit"] == commits["dev"]


def test_custom_code_is_told_and_taken_only_when_trusted(hub: Hub) -> None:
    folder = write_model(hub.repos.root / "org/code", config=LLAMA | {"auto_map": {"AutoModel": "modeling.M"}})
    (folder / "modeling.py").write_text("")
    plain, trusted = look(hub, "org/code"), look(hub, "org/code", trust_remote_code=True)

    assert plain["customCode"] and trusted["customCode"]
    assert trusted["files"] == plain["files"] + 1


@pytest.mark.parametrize(
    ("files", "has_template"),
    [
        ({"tokenizer_config.json": "{}"}, False),
        ({"tokenizer_config.json": "{}", "chat_template.jinja": "x"}, True),
        ({"tokenizer_config.json": "{}", "tekken.json": "{}"}, None),
    ],
)
def test_the_chat_template_is_looked_for(hub: Hub, files: dict[str, str], has_template: bool | None) -> None:
    folder = write_model(hub.repos.root / "org/chat")
    for name, text in files.items():
        (folder / name).write_text(text)

    assert look(hub, "org/chat")["hasChatTemplate"] is has_template


def test_a_tokenizer_of_another_repository_counts_instead(hub: Hub) -> None:
    write_model(hub.repos.root / "org/tok")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (hub.repos.root / "org/model" / name).unlink()

    without = look(hub)
    answer = look(hub, tokenizer={"source": "org/tok"})
    assert not without["hasTokenizer"]
    assert answer["hasTokenizer"] and answer["hasChatTemplate"]
    assert answer["tokenizer"] == {"commit": hub.repos.references("org/tok")["main"]}
    assert answer["files"] == without["files"] + 4


def test_quantization_is_read_from_modelopts_own_file(hub: Hub) -> None:
    folder = write_model(hub.repos.root / "org/opt")
    (folder / "hf_quant_config.json").write_text('{"quantization": {"quant_algo": "NVFP4", "group_size": 16}}')

    answer = look(hub, "org/opt")
    assert answer["quantization"] == {"method": "nvfp4", "groupSize": 16}
    assert answer["config"]["quantization_config"]["quantization"]["quant_algo"] == "NVFP4"


def test_several_requests_are_answered_in_one_message(hub: Hub) -> None:
    write_model(hub.repos.root / "org/other")
    requests = (Request(source="org/model"), Request(source="org/other"))
    answer = inspect(requests, True, {"HF_ENDPOINT": hub.url})

    assert [part["source"] for part in answer["parts"]] == ["org/model", "org/other"]
    assert answer["bytes"] == sum(part["bytes"] for part in answer["parts"])
    assert len(json.dumps(answer, separators=(",", ":"))) <= 4096


def test_six_causes_have_six_reasons(hub: Hub) -> None:
    for name, marker in (("gated", ".gated"), ("hidden", ".private")):
        (write_model(hub.repos.root / "org" / name) / marker).write_text("hf_granted")
    failures = {
        Reason.REPO_NOT_FOUND: failure(hub, "org/absent"),
        Reason.GATED_REPO: failure(hub, "org/gated"),
        Reason.INVALID_TOKEN: failure(hub, token="hf_wrong"),
        Reason.REVISION_NOT_FOUND: failure(hub, revision="nope"),
    }
    hub.break_next("status", status=429, retryAfter=30)
    failures[Reason.HUB_RATE_LIMITED] = failure(hub)
    hub.break_next("status", status=503, times=-1)
    failures[Reason.HUB_UNREACHABLE] = failure(hub)

    assert {reason: error.reason for reason, error in failures.items()} == {reason: reason for reason in failures}
    assert len({error.remedy for error in failures.values()}) == 6
    retried = {reason for reason, error in failures.items() if error.retry}
    assert retried == {Reason.HUB_RATE_LIMITED, Reason.HUB_UNREACHABLE}
    assert failures[Reason.HUB_RATE_LIMITED].retry_after == 30


def test_with_and_without_a_token_the_remedy_differs(hub: Hub) -> None:
    (write_model(hub.repos.root / "org/gated") / ".gated").write_text("hf_granted")
    (hub.repos.root / ".tokens.json").write_text('{"hf_granted": "ann", "hf_other": "bob"}')

    assert "no token is given" in failure(hub, "org/gated").message
    assert "not on its list" in failure(hub, "org/gated", "hf_other").message
    assert look(hub, "org/gated", "hf_granted\n")["ok"]
    assert failure(hub, "org/absent", "hf_other").reason is Reason.REPO_NOT_FOUND


def test_a_hub_that_nobody_runs_is_unreachable(hub: Hub) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(WeightsError) as caught:
        inspect((Request(source="org/model", backoff_seconds=0),), False, {"HF_ENDPOINT": f"http://127.0.0.1:{port}"})

    assert caught.value.reason is Reason.HUB_UNREACHABLE
    assert "hub.endpoint" in caught.value.remedy


class _Sizeless(FolderHandler):
    def answer(self) -> None:
        self.send(200, json.dumps({"id": "org/model", "sha": "0" * 40, "siblings": [{"rfilename": "x"}]}).encode())


class SizelessMirror(FolderServer):
    handler = _Sizeless


def test_a_mirror_that_tells_no_sizes_is_refused(tmp_path: Path) -> None:
    with SizelessMirror(tmp_path) as mirror, pytest.raises(WeightsError, match="without their sizes") as caught:
        inspect((Request(source="org/model"),), False, {"HF_ENDPOINT": mirror.url})

    assert caught.value.reason is Reason.HUB_REFUSED


def test_a_connection_that_breaks_once_is_no_failure(hub: Hub) -> None:
    hub.break_next("cut", where="api")

    assert look(hub)["ok"]


def test_the_patience_of_a_pull_is_not_that_of_the_inspection(hub: Hub) -> None:
    """A hub that needs a second for its list is none that stalls, however soon a pull is begun again."""
    hub.break_next("stall", where="resolve", path="config.json", seconds=1.5)

    assert look(hub, stall_seconds=2.5)["ok"]


@pytest.mark.parametrize(
    "content", [b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", b"", b"x" * 400, b"\x08" + b"\0" * 7 + b"{broken}" * 3]
)  # fmt: skip
def test_a_file_that_is_not_safetensors_is_named(hub: Hub, content: bytes) -> None:
    (write_model(hub.repos.root / "org/bad") / "model.safetensors").write_bytes(content)
    error = failure(hub, "org/bad")

    assert error.reason is Reason.WEIGHTS_CORRUPT
    assert "model.safetensors" in error.message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"model_type": "llama", "hidden', "config.json is not JSON: Unterminated string"),
        (b"", "config.json is not JSON: Expecting value"),
        (b'\xef\xbb\xbf{"model_type": "llama"}', "config.json is not JSON: Unexpected UTF-8 BOM"),
        (b"\xff\xfe{", "config.json is not UTF-8, and so no JSON"),
        (b'// ours\n{"model_type": "llama"}', "config.json is not JSON: Expecting value"),
        (b"[]", "config.json holds no JSON object"),
        (b"[" * 100_000, "config.json is nested too deeply"),
    ],
)
def test_a_configuration_that_nobody_can_read_is_told_before_the_weights_come(
    hub: Hub, content: bytes, said: str
) -> None:
    (write_model(hub.repos.root / "org/bad") / "config.json").write_bytes(content)
    error = failure(hub, "org/bad")

    assert (error.reason, error.retry) == (Reason.MODEL_CONFIG_INVALID, False)
    assert error.message.startswith(said)
    assert look(hub, "org/bad", exclude=("config.json",))["config"] == {}


def test_an_index_that_names_missing_shards_is_an_incomplete_upload(hub: Hub) -> None:
    folder = write_model(hub.repos.root / "org/half", shards=3)
    (folder / "model-00002-of-00003.safetensors").unlink()

    assert "model-00002-of-00003.safetensors" in failure(hub, "org/half").message


def test_the_program_answers_in_its_termination_message(hub: Hub, tmp_path: Path) -> None:
    ended = run("inspect", {"source": "org/model"}, tmp_path / "work", {"HF_ENDPOINT": hub.url})

    assert ended.code == 0
    assert ended.answer == look(hub)


@pytest.mark.parametrize(
    ("request_fields", "code", "reason", "word"),
    [
        ({"source": "org/absent"}, 3, "RepoNotFound", "org/absent"),
        ({"source": "ftp://x/y"}, 3, "InvalidArgument", "ftp://x/y"),
        ({"source": "org/model", "paralelism": 3}, 3, "InvalidArgument", "paralelism"),
        ({"source": "org/model", "parallelism": 0}, 3, "InvalidArgument", "parallelism"),
    ],
)
def test_a_failure_ends_the_program_with_its_code(
    hub: Hub, tmp_path: Path, request_fields: dict[str, Any], code: int, reason: str, word: str
) -> None:
    ended = run("inspect", request_fields, tmp_path / "work", {"HF_ENDPOINT": hub.url})

    assert (ended.code, ended.answer["ok"], ended.answer["reason"]) == (code, False, reason)
    assert word in ended.answer["message"]
    assert ended.answer["retry"] is False and ended.answer["version"] == 1


def test_a_hub_that_is_down_ends_the_program_with_the_code_to_retry(hub: Hub, tmp_path: Path) -> None:
    hub.break_next("status", status=500, times=-1)
    ended = run("inspect", {"source": "org/model"}, tmp_path / "work", {"HF_ENDPOINT": hub.url})

    assert (ended.code, ended.answer["reason"], ended.answer["retry"]) == (1, "HubUnreachable", True)


def test_a_hub_that_sends_a_byte_now_and_then_is_given_up(hub: Hub, tmp_path: Path) -> None:
    """In a process of its own, which it ends; the limit is the only thing that is made shorter."""
    hub.break_next("slow", path="config.json", times=-1, bytesPerSecond=1)
    said = tmp_path / "termination"
    program = "from vllm_weights import __main__ as m; m.LONGEST_INSPECTION_SECONDS = 1.5; m.console()"
    environment = {
        "PYTHONPATH": str(OPERATOR),
        "HF_ENDPOINT": hub.url,
        "TERMINATION_MESSAGE_PATH": str(said),
        "WEIGHTS_REQUEST": json.dumps({"version": 1, "source": "org/model"}),
    }

    ended = subprocess.run(
        [sys.executable, "-c", program, "inspect"], env={**os.environ, **environment}, timeout=60, check=False
    )

    answer = json.loads(said.read_bytes())
    assert (ended.returncode, answer["reason"], answer["retry"]) == (1, "HubUnreachable", True)

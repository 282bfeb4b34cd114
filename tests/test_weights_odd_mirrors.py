"""What mirrors leave out, keep to themselves, or say in the hub's own codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.hub.running import Ended
from tests.stores.mirror import Answer, Mirror, asked, by_the_hub, files_of
from vllm_weights.hub_refusals import Asked

pytestmark = [pytest.mark.weights, pytest.mark.timeout(300)]

GATE = "/api/models/*"
TOKEN = {"HF_TOKEN": "hf_secretsecret"}


def test_sizes_that_a_mirror_leaves_out_of_its_list_are_taken_from_its_tree(tmp_path: Path) -> None:
    with Mirror(files_of(tmp_path)) as mirror:
        whole = asked("inspect", tmp_path, mirror)
        info = json.loads(mirror.listed())
        bare = {**info, "siblings": [{"rfilename": entry["rfilename"]} for entry in info["siblings"]]}
        tree = [
            {"type": "file", "path": entry["rfilename"], "oid": entry["blobId"], "size": entry["size"]}
            | ({"lfs": {**entry["lfs"], "oid": entry["lfs"]["sha256"]}} if "lfs" in entry else {})
            for entry in info["siblings"]
        ]
        as_json = {"Content-Type": "application/json"}
        mirror.answers["*/tree/*"] = Answer(200, json.dumps(tree).encode(), as_json)
        mirror.answers["/api/models/*"] = Answer(200, json.dumps(bare).encode(), as_json)
        ended = asked("inspect", tmp_path, mirror)

    assert (ended.code, ended.answer.get("bytes")) == (0, whole.answer["bytes"]), ended.output


@pytest.mark.parametrize(
    ("token", "fault"),
    [("HF_TOKEN=hf_abcdefghijkl", "variable"), ('"hf_abcdefghijkl"', "quotes"), ("aGZfYWJjZGVmZ2hpamts", "base64")],
)
def test_a_token_that_is_packed_once_more_is_told_before_it_is_sent(tmp_path: Path, token: str, fault: str) -> None:
    with Mirror(files_of(tmp_path)) as mirror:
        ended = asked("inspect", tmp_path, mirror, {"HF_TOKEN": token})

        assert not mirror.asked
    assert (ended.answer["reason"], ended.code) == ("InvalidToken", 3)
    assert fault in ended.answer["message"] and token not in ended.output


def looked(tmp_path: Path, answers: dict[str, Answer | bytes], environment: dict[str, str] | None = None) -> Ended:
    with Mirror({}, answers) as mirror:
        return asked("inspect", tmp_path, mirror, environment)


def test_the_hubs_own_code_from_a_mirror_leads_to_who_runs_it(tmp_path: Path) -> None:
    ended = looked(tmp_path, {GATE: by_the_hub(401, "RepoNotFound", "Repository not found")})

    assert ended.answer["reason"] == "RepoNotFound"
    assert "whether it mirrors this one" in ended.answer["remedy"] and "hub itself" in ended.answer["remedy"]


def test_a_meshs_own_token_is_not_the_hubs(tmp_path: Path) -> None:
    ended = looked(tmp_path, {GATE: Answer(401, b"Jwt is not in the form of Header.Payload.Signature")}, TOKEN)

    assert ended.answer["reason"] == "HubRefused" and "RequestAuthentication" in ended.answer["remedy"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [("config.json", b"", "no config.json to say"), ("vocabulary.json", b"[]", "CTranslate2")],
)
def test_weights_that_vllm_cannot_begin_with_are_told_before_they_are_taken(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    files = files_of(tmp_path)
    if content:
        files = {"config.json": files["config.json"], "model.bin": b"x" * 300, name: content}
    else:
        del files[name]
    with Mirror(files) as mirror:
        ended = asked("inspect", tmp_path, mirror)

    assert (ended.answer["reason"], words in ended.answer["message"]) == ("WeightsMissing", True), ended.output


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (
            Answer(401, b'{"message": "No API key found"}', {"WWW-Authenticate": 'Key realm="kong"'}),
            "another kind|without, or by a token (Bearer)",
        ),
        (
            Answer(
                403,
                b'{"message": "Missing Authentication Token"}',
                {"x-amzn-ErrorType": "MissingAuthenticationTokenException"},
            ),
            "denies|its stage first",
        ),
        (Answer(502, b"", {"Server": "envoy"}), "502|ServiceEntry"),
    ],
)
def test_what_a_gateway_says_by_itself_is_no_word_of_the_hubs(tmp_path: Path, answer: Answer, advice: str) -> None:
    ended = looked(tmp_path, {"*": answer}, TOKEN)

    said, remedy = advice.split("|")
    assert said in ended.answer["message"] and remedy in ended.answer["remedy"], ended.output
    assert "does not accept the token" not in ended.answer["message"]


def test_a_path_too_much_in_the_hubs_own_address_is_told() -> None:
    asked_there = Asked("https://huggingface.co/api", "huggingface.co", "acme/tiny", True)

    assert "has no path (/api)" in asked_there.not_found().remedy


def test_a_mirror_that_leads_to_the_pod_itself_is_to_be_told_its_own_address(tmp_path: Path) -> None:
    files = files_of(tmp_path)
    with Mirror(files) as mirror:
        mirror.answers["*.safetensors"] = Answer(302, headers={"Location": "http://localhost:9"})
        ended = asked("pull", tmp_path, mirror)

    assert (ended.answer["reason"], ended.code) == ("HubRefused", 3), ended.output
    assert "localhost:9" in ended.answer["message"] and "mirror-netloc" in ended.answer["remedy"]


def test_frames_of_an_upload_in_a_file_are_told(tmp_path: Path) -> None:
    files = files_of(tmp_path)
    files["config.json"] = b"%x\r\n%b\r\n0\r\nx-amz-checksum-crc32:+H0IvQ==\r\n\r\n" % (
        len(files["config.json"]),
        files["config.json"],
    )
    with Mirror(files) as mirror:
        ended = asked("inspect", tmp_path, mirror)

    assert (ended.answer["reason"], "aws-chunked" in ended.answer["message"]) == ("WeightsCorrupt", True), ended.output

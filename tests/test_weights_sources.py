"""Buckets and ModelScope are inspected and pulled as the hub is; each against a server that speaks its protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.hub.models import LLAMA, write_model
from tests.hub.running import Ended, run
from tests.stores.gcs import FakeGoogleStorage
from tests.stores.modelscope import FakeModelScope
from tests.stores.s3 import MotoS3
from vllm_weights.buckets import Bucket
from vllm_weights.failure import Reason, WeightsError
from vllm_weights.grammar import Name, parse_source

pytestmark = [pytest.mark.weights, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MotoS3]:
    with MotoS3(tmp_path_factory.mktemp("moto") / "log") as running:
        yield running


@dataclass(frozen=True, slots=True)
class Store:
    """One kind of source with a model in it; `change` puts another config.json there."""

    source: str
    absent: str
    environment: Mapping[str, str]
    original: Path
    change: Callable[[], None]


def s3(moto: MotoS3, folder: Path) -> Store:
    bucket = f"models-{abs(hash(str(folder)))}"
    moto.fill(bucket, "llama/v1", folder)

    def change() -> None:
        (folder / "config.json").write_text("{}")
        moto.fill(bucket, "llama/v1", folder)

    return Store(f"s3://{bucket}/llama/v1", "s3://absent-bucket/x", moto.environment, folder, change)


@pytest.fixture(params=["s3", "gs", "modelscope"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    folder = write_model(tmp_path / "root/models/llama", shards=2, shard_bytes=3_000_000)
    change = Change(folder / "config.json")
    if request.param == "s3":
        yield s3(request.getfixturevalue("moto"), folder)
    elif request.param == "gs":
        with FakeGoogleStorage(tmp_path / "root") as gs:
            environment = {"GOOGLE_BASE_URL": gs.url, "GOOGLE_SKIP_SIGNATURE": "true"}
            yield Store("gs://models/llama", "gs://absent/x", environment, folder, change)
    else:
        with FakeModelScope(tmp_path / "root") as modelscope:
            environment = {"MODELSCOPE_ENDPOINT": modelscope.url}
            yield Store("modelscope://models/llama", "modelscope://models/absent", environment, folder, change)


@dataclass(frozen=True, slots=True)
class Change:
    path: Path

    def __call__(self) -> None:
        self.path.write_text("{}")


def do(command: str, store: Store, tmp_path: Path, source: str | None = None, **fields: Any) -> Ended:
    request = {"source": source or store.source, "backoffSeconds": 0, **fields}
    return run(command, request, tmp_path / "work", store.environment)


def test_a_model_is_inspected_and_then_pulled(store: Store, tmp_path: Path) -> None:
    looked = do("inspect", store, tmp_path)
    to = tmp_path / "volume/model"
    pulled = do("pull", store, tmp_path, commit=looked.answer["commit"], destination=str(to))

    assert looked.code == 0, looked.output
    assert looked.answer["config"] == LLAMA
    assert looked.answer["weights"] == {"totalBytes": 6_000_000, "parameters": {"BF16": 3_000_000}}
    assert pulled.code == 0, pulled.output
    assert pulled.answer["bytesFetched"] == looked.answer["bytes"]
    names = [path.relative_to(store.original) for path in store.original.rglob("*") if path.name != "README.md"]
    assert all((to / name).read_bytes() == (store.original / name).read_bytes() for name in names)


def test_a_source_that_changed_since_is_named(store: Store, tmp_path: Path) -> None:
    commit = do("inspect", store, tmp_path).answer["commit"]
    store.change()
    ended = do("pull", store, tmp_path, commit=commit, destination=str(tmp_path / "volume/model"))

    assert (ended.code, ended.answer["reason"]) == (3, "RevisionNotFound")


def test_an_absent_source_is_named(store: Store, tmp_path: Path) -> None:
    ended = do("inspect", store, tmp_path, source=store.absent)

    assert (ended.code, ended.answer["reason"]) == (3, "RepoNotFound")


def test_a_store_that_is_down_is_unreachable(store: Store, tmp_path: Path) -> None:
    down = {key: "http://127.0.0.1:9" if "http" in value else value for key, value in store.environment.items()}
    ended = run("inspect", {"source": store.source, "backoffSeconds": 0}, tmp_path / "work", down)

    assert (ended.code, ended.answer["reason"], ended.answer["retry"]) == (1, "HubUnreachable", True)


def test_an_empty_prefix_is_named(moto: MotoS3, tmp_path: Path) -> None:
    moto.fill("prefixes", "full", write_model(tmp_path / "model"))
    ended = run("inspect", {"source": "s3://prefixes/empty"}, tmp_path / "work", moto.environment)

    assert (ended.code, ended.answer["reason"]) == (3, "RepoNotFound")
    assert "config.json" in ended.answer["remedy"]


@pytest.mark.parametrize(("encryption", "is_none"), [("aws:kms", True), ("AES256", False), (None, False)])
def test_an_object_encrypted_with_a_key_of_its_own_has_no_md5(
    moto: MotoS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encryption: str | None, is_none: bool
) -> None:
    bucket = f"encrypted-{is_none}-{encryption is None}".lower()
    moto.fill(bucket, "model", write_model(tmp_path / "model"), encryption=encryption)
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    source = Bucket(parse_source(f"s3://{bucket}/model"), moto.environment, silence_seconds=5)
    (config,) = (file for file in source.listing(None).files if file.path == "config.json")

    assert source.checksum_is_none(config) is is_none


@pytest.mark.parametrize(
    ("statuses", "code", "reason"), [([503, 500], 0, None), ([401] * 3, 3, "InvalidToken"), ([403] * 3, 3, "InvalidToken"), ([429] * 9, 1, "HubRateLimited")]
)  # fmt: skip
def test_errors_of_a_bucket_are_told_apart(tmp_path: Path, statuses: list[int], code: int, reason: str | None) -> None:
    write_model(tmp_path / "root/models/llama")
    with FakeGoogleStorage(tmp_path / "root") as gs:
        gs.fail_next, gs.refusal = statuses, b"<Error><Code>Refused</Code><Message>Not now.</Message></Error>"
        environment = {"GOOGLE_BASE_URL": gs.url, "GOOGLE_SKIP_SIGNATURE": "true"}
        request = {"source": "gs://models/llama", "destination": str(tmp_path / "to/model"), "backoffSeconds": 0}
        ended = run("pull", request, tmp_path / "work", environment)

    assert (ended.code, ended.answer.get("reason")) == (code, reason), ended.output


@pytest.mark.parametrize(
    ("source", "token", "revision", "reason"),
    [
        ("modelscope://org/model", "good", "v9", "RevisionNotFound"),
        ("modelscope://org/absent", "good", None, "RepoNotFound"),
        ("modelscope://org/model", "wrong", None, "InvalidToken"),
        ("modelscope://org/model", None, None, "RepoNotFound"),
        ("modelscope://org/model", "good", None, None),
    ],
)
def test_errors_of_modelscope_are_told_apart(
    tmp_path: Path, source: str, token: str | None, revision: str | None, reason: str | None
) -> None:
    write_model(tmp_path / "root/org/model")
    with FakeModelScope(tmp_path / "root", token="good") as fake:
        environment = {"MODELSCOPE_ENDPOINT": fake.url} | ({"MODELSCOPE_API_TOKEN": token} if token else {})
        ended = run("inspect", {"source": source, "revision": revision}, tmp_path / "work", environment)

    assert ended.answer.get("reason") == reason
    assert ended.code == (3 if reason else 0)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("org/name", Name("hf", repo="org/name")),
        ("hf://org/name@v1.0", Name("hf", repo="org/name", revision="v1.0")),
        ("hf://org/name@refs/pr/3", Name("hf", repo="org/name", revision="refs/pr/3")),
        ("modelscope://org/name", Name("modelscope", repo="org/name")),
        ("s3://bucket", Name("s3", bucket="bucket")),
        ("s3://bucket/a/b/", Name("s3", bucket="bucket", prefix="a/b")),
        ("gs://my_bucket.x/a", Name("gs", bucket="my_bucket.x", prefix="a")),
    ],
)
def test_a_source_has_one_grammar(text: str, name: Name) -> None:
    assert parse_source(text) == name


@pytest.mark.parametrize(
    "text", ["", "a/b/c", "hf://", "ftp://x/y", "s3://", "s3://UPPER/x", "pvc://claim", "../x", "a b"]
)
def test_what_names_no_source_is_answered_with_the_grammar(text: str) -> None:
    with pytest.raises(WeightsError) as caught:
        parse_source(text)

    assert caught.value.reason is Reason.INVALID_ARGUMENT
    assert "s3://bucket/prefix" in caught.value.remedy

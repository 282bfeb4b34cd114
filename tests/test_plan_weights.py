"""Where weights come to lie: the question, the claim sized from the answer, the pull, and places that need none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.builders import a_model
from tests.golden.canned import COMMIT, answer_to, arrived, problems, settings, some_weights
from vllm_operator.plan import JobPlan, plan_model, plan_weights
from vllm_operator.plan.server import served_models

MIB = 1 << 20
GIB = 1 << 30


def request_of(job: JobPlan | None) -> Any:
    assert job is not None
    values = [item["value"] for item in job.env if item["name"] == "WEIGHTS_REQUEST"]
    return json.loads(arrived(str(values[0]), {}))


def inspect_of(annotations: dict[str, str] | None = None, **spec: Any) -> JobPlan:
    job = plan_model(a_model(annotations=annotations, **spec), settings()).inspect
    assert job is not None
    return job


def test_the_inspection_asks_for_what_the_spec_says() -> None:
    job = inspect_of(
        model="modelscope://org/name@v2",
        load_format="safetensors",
        trust_remote_code=True,
        download={"exclude": ("*.gguf",)},
    )

    assert request_of(job) == {
        "version": 1,
        "source": "modelscope://org/name",
        "revision": "v2",
        "exclude": ["*.gguf"],
        "trustRemoteCode": True,
        "loadFormat": "safetensors",
        "parallelism": 8,
        "stallSeconds": 60,
        "tries": 5,
    }


def test_models_that_ask_the_same_share_the_inspection() -> None:
    first = plan_model(a_model("a", max_model_len=1024), settings()).inspect
    second = plan_model(a_model("b", replicas=3), settings()).inspect

    assert first is not None and second is not None
    assert (first.name, first.env) == (second.name, second.env)


@pytest.mark.parametrize(
    "change",
    [
        {"revision": "v1"},
        {"trust_remote_code": True},
        {"load_format": "pt"},
        {"token_secret_ref": {"name": "hub"}},
        {"tokenizer": "other/tokenizer"},
        {"adapters": ({"name": "sql", "source": "org/sql"},)},
        {"download": {"include": ("*.safetensors",)}},
        {"annotations": {"vllm-operator.dev/refresh": "1"}},
    ],
)
def test_another_question_is_another_inspection(change: dict[str, Any]) -> None:
    assert inspect_of(**change).name != inspect_of().name


def test_patience_is_no_part_of_the_question() -> None:
    patient = inspect_of(download={"parallelism": 2, "stall_timeout_seconds": 300, "tries": 9})

    assert patient.name == inspect_of().name
    assert (request_of(patient)["parallelism"], request_of(patient)["stallSeconds"]) == (2, 300)
    assert patient.backoff_limit == 8
    assert patient.annotations != inspect_of().annotations  # so that a failed Job is seen to be of another question


def test_the_token_is_only_referred_to() -> None:
    variables = {item["name"]: item for item in inspect_of(token_secret_ref={"name": "hub", "key": "t"}).env}

    assert variables["HF_TOKEN"] == {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "t"}}}


def test_a_bucket_gets_its_credentials_key_by_key_and_the_platforms_address() -> None:
    given = settings(sources={"s3": {"endpoint": "https://minio.example.com", "region": "eu-1"}})
    model = a_model(model="s3://bucket/prefix", credentials_secret_ref={"name": "keys"})
    job = plan_model(model, given).inspect

    assert job is not None
    variables = {str(item["name"]): item for item in job.env}
    assert variables["AWS_ENDPOINT_URL"]["value"] == "https://minio.example.com"
    assert variables["AWS_REGION"]["value"] == "eu-1"
    reference = {"secretKeyRef": {"name": "keys", "key": "AWS_ACCESS_KEY_ID", "optional": True}}
    assert variables["AWS_ACCESS_KEY_ID"]["valueFrom"] == reference


def test_the_claim_holds_the_weights_and_a_tenth_and_a_little() -> None:
    claim = some_weights(size=10 * GIB).claim

    assert claim is not None
    assert claim.size == f"{11 * 1024 + 64}Mi"
    assert claim.size_bytes == 11 * GIB + 64 * MIB


def test_a_compile_cache_takes_two_gibibytes_more() -> None:
    claim = some_weights(size=10 * GIB, cache={"compile_cache": True}).claim

    assert claim is not None
    assert claim.size_bytes == 13 * GIB


def test_a_size_that_is_given_is_kept() -> None:
    claim = some_weights(size=10 * GIB, cache={"size": "40Gi"}).claim

    assert claim is not None
    assert (claim.size, claim.size_bytes) == ("40Gi", 40 * GIB)


def test_a_size_that_is_too_small_is_told_with_both_numbers() -> None:
    [(reason, message)] = problems(cache={"size": "10Gi"})

    assert reason == "CacheTooSmall"
    assert "cache.size is 10Gi" in message
    assert "16913Mi" in message


def test_the_pull_has_the_commit_and_a_folder_that_the_server_reads() -> None:
    weights = some_weights(model="Qwen/Qwen2.5-7B")

    request = request_of(weights.pull)
    assert request["commit"] == COMMIT
    assert weights.model_path == request["destination"].replace("/weights/", "/models/")
    assert weights.pull is not None and weights.claim is not None
    assert weights.pull.claim_name == weights.claim.name


def test_models_with_the_same_commit_share_the_claim_whatever_they_call_the_revision() -> None:
    named, head = some_weights(revision=COMMIT), some_weights(revision="main")

    assert (named.claim_name, named.model_path) == (head.claim_name, head.model_path)


def test_new_settings_move_no_weights_that_are_in_use() -> None:
    before = some_weights()
    after = some_weights(settings(defaults={"storageClassName": "fast"}, images={"weights": "w:2"}))

    assert (before.claim_name, before.model_path) == (after.claim_name, after.model_path)
    assert after.claim is not None and after.claim.storage_class_name == "fast"


@pytest.mark.parametrize("cache", [{"storage_class_name": "fast"}, {"access_modes": ("ReadWriteMany",)}])
def test_another_volume_is_another_claim(cache: dict[str, Any]) -> None:
    assert some_weights(cache=cache).claim_name != some_weights().claim_name


def test_another_size_is_the_same_claim() -> None:
    """What is on it is the same; it grows to what the model asks that asks for most."""
    assert some_weights(cache={"size": "100Gi"}).claim_name == some_weights().claim_name


def test_adapters_are_pulled_with_the_model_into_folders_of_their_own() -> None:
    weights = some_weights(adapters=({"name": "model", "source": "org/sql"}, {"name": "b", "source": "org/b"}))

    pulls = request_of(weights.pull)["pulls"]
    assert [pull["source"] for pull in pulls] == ["hf://demo/tiny", "hf://org/sql", "hf://org/b"]
    assert [pull["commit"][0] for pull in pulls] == ["0", "1", "2"]
    assert dict(weights.adapter_paths) == {
        "model": pulls[1]["destination"].replace("/weights/", "/models/"),
        "b": pulls[2]["destination"].replace("/weights/", "/models/"),
    }
    assert weights.model_path == pulls[0]["destination"].replace("/weights/", "/models/")


def test_a_tokenizer_from_elsewhere_lies_in_the_models_folder() -> None:
    weights = some_weights(tokenizer="hf://org/tokenizer@v3")

    request = request_of(weights.pull)
    assert request["tokenizer"] == {"source": "hf://org/tokenizer", "revision": "v3", "commit": f"f{COMMIT[1:]}"}
    assert weights.tokenizer_path == f"{weights.model_path}/tokenizer"


def test_a_claim_of_the_user_is_never_written_also_where_adapters_are_pulled() -> None:
    mine = {"type": "ExistingClaim", "claim_name": "mine"}
    weights = some_weights(model="org/big", cache=mine, adapters=({"name": "sql", "source": "org/sql"},))

    assert weights.model_path == "/models/claim/org/big"
    assert weights.pull is not None and weights.claim is not None
    assert weights.pull.claim_name == weights.claim.name != "mine"
    assert {"name": "model", "mountPath": "/models/claim", "readOnly": True} in weights.mounts


def test_what_lies_in_a_claim_of_the_user_is_served_under_its_own_name_and_nobody_is_asked() -> None:
    mine = {"type": "ExistingClaim", "claim_name": "mine"}
    plan = plan_model(a_model(model="hf://org/big", cache=mine), settings())
    weights = plan_weights(plan, None)

    assert plan.inspect is None and weights.pull is None and weights.claim is None
    assert served_models(plan) == ("org/big",)
    assert [reason for reason, _ in problems(model="org/big", revision="v1", cache=mine)] == ["InvalidSpec"]
    assert [reason for reason, _ in problems(model="hf://org/big@v1", cache=mine)] == ["InvalidSpec"]


def test_a_path_in_a_claim_is_a_path_behind_a_read_only_mount() -> None:
    weights = some_weights(model="pvc://models/llama/8b")

    assert weights.pull is None and weights.claim is None
    assert weights.model_path == "/models/claim/llama/8b"
    assert weights.volumes == ({"name": "model", "persistentVolumeClaim": {"claimName": "models", "readOnly": True}},)
    assert weights.mounts == ({"name": "model", "mountPath": "/models/claim", "readOnly": True},)
    assert weights.claim_name == "models"


def test_an_image_is_mounted_as_a_volume() -> None:
    image = "registry.example.com/models/tiny@sha256:" + "a" * 64
    weights = some_weights(model=f"oci://{image}")

    assert weights.model_path == "/models/image"
    assert weights.volumes == ({"name": "model", "image": {"reference": image, "pullPolicy": "IfNotPresent"}},)


def test_a_folder_of_the_node_is_mounted_where_the_platform_allows_it() -> None:
    weights = some_weights(settings(policy={"allowNodePaths": True}), model="file:///srv/models/tiny")

    assert weights.model_path == "/models/node"
    assert weights.volumes == ({"name": "model", "hostPath": {"path": "/srv/models/tiny", "type": "Directory"}},)


def test_a_bucket_can_be_read_by_the_server_itself() -> None:
    weights = some_weights(model="s3://bucket/prefix", load_format="runai_streamer", cache={"type": "None"})

    assert (weights.model_path, weights.streamed) == ("s3://bucket/prefix", True)
    assert weights.claim is None and weights.pull is None and weights.volumes == ()


def test_without_a_cache_each_pod_pulls_for_itself() -> None:
    weights = some_weights(size=10 * GIB, cache={"type": "None"}, token_secret_ref={"name": "hub"})

    assert weights.claim is None and weights.pull is None and weights.claim_name is None
    assert weights.pull_in_pod is not None
    assert weights.model_path == request_of(weights.pull_in_pod)["destination"].replace("/weights/", "/models/")
    assert weights.volumes == ({"name": "weights", "emptyDir": {"sizeLimit": f"{11 * 1024 + 64}Mi"}},)
    assert weights.mounts[0]["readOnly"] is True


def test_an_adapter_in_a_claim_stands_beside_a_model_that_is_pulled() -> None:
    weights = some_weights(adapters=({"name": "sql", "source": "pvc://adapters/sql"},))

    assert weights.adapter_paths == (("sql", "/mounted/adapter-1/sql"),)
    assert [volume["name"] for volume in weights.volumes] == ["weights", "adapter-1"]
    assert [mount["mountPath"] for mount in weights.mounts] == ["/models", "/mounted/adapter-1"]


def test_an_adapter_is_pulled_beside_a_model_in_a_claim() -> None:
    weights = some_weights(model="pvc://models/llama", adapters=({"name": "sql", "source": "org/sql"},))

    assert weights.claim is not None
    assert weights.adapter_paths[0][1].startswith("/adapters/org-sql-")
    assert weights.commit is None and len(weights.commits) == 1
    assert [mount["mountPath"] for mount in weights.mounts] == ["/adapters", "/models/claim"]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"commit": "../../etc", "bytes": 1},
        {"commit": COMMIT, "bytes": -1},
        {"commit": COMMIT, "bytes": "1"},
        {"commit": COMMIT},
        {"commit": COMMIT, "bytes": True},
        {"commit": ["x"], "bytes": 1},
        {"parts": [{"commit": COMMIT, "bytes": 1}]},
    ],
)
def test_a_forged_answer_is_a_problem_that_says_what_to_do(answer: dict[str, object]) -> None:
    weights = plan_weights(plan_model(a_model(), settings()), answer)

    [problem] = weights.problems
    assert problem.reason == "InspectionUnreadable"
    assert "vllm-operator.dev/refresh" in problem.remedy
    assert weights.pull is None and weights.claim is None


def test_an_answer_about_fewer_parts_than_were_asked_for_is_a_problem() -> None:
    plan = plan_model(a_model(adapters=({"name": "a", "source": "org/a"},)), settings())
    answer = answer_to(plan_model(a_model(), settings()))

    assert plan_weights(plan, answer).problems[0].reason == "InspectionUnreadable"


def test_the_pull_runs_where_the_server_may_run() -> None:
    weights = some_weights(accelerator="nvidia-l4", pod={"node_selector": {"pool": "gpu"}})

    assert weights.pull is not None
    assert weights.pull.placement.node_selector == {"pool": "gpu", "nvidia.com/gpu.product": "NVIDIA-L4"}
    assert weights.pull.placement.tolerations[0]["key"] == "nvidia.com/gpu"


def test_a_pull_prefers_nodes_that_probably_have_the_device_and_insists_on_nothing() -> None:
    weights = some_weights()

    assert weights.pull is not None
    nodes: Any = weights.pull.placement.affinity["nodeAffinity"]
    [preferred] = nodes["preferredDuringSchedulingIgnoredDuringExecution"]
    assert preferred["preference"]["matchExpressions"][0]["key"] == "nvidia.com/gpu.present"
    assert list(nodes) == ["preferredDuringSchedulingIgnoredDuringExecution"]
    assert inspect_of().placement.affinity == {}

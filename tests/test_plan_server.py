"""The servers: arguments, variables, mounts, probes, resources, rollout, and the hash of what was asked for."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import pytest

from tests.builders import a_model
from tests.golden.canned import a_server, arrived, planned, settings
from vllm_operator.plan import DeploymentPlan, wanted

GIB = 1 << 30


def deployment(*args: Any, **spec: Any) -> DeploymentPlan:
    return a_server(*args, **spec).deployment


def mounted_at(plan: DeploymentPlan) -> dict[str, dict[str, Any]]:
    """Each mount with its volume, by path."""
    volumes = {str(volume["name"]): volume for volume in plan.volumes}
    return {str(mount["mountPath"]): {**mount, "volume": volumes[str(mount["name"])]} for mount in plan.mounts}


def variables(plan: DeploymentPlan) -> dict[str, Any]:
    return {str(item["name"]): item.get("value", item.get("valueFrom")) for item in plan.env}


def test_the_model_is_the_first_argument_and_has_its_repositorys_name() -> None:
    _, weights, server = planned(a_model(model="Qwen/Qwen2.5-7B"))

    args = server.deployment.args
    assert args[0] == weights.model_path
    assert args[args.index("--served-model-name") + 1] == "Qwen/Qwen2.5-7B"
    assert server.served_models == ("Qwen/Qwen2.5-7B",)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("s3://bucket/models/tiny", "tiny"),
        ("pvc://claim", "claim"),
        ("pvc://claim/a/b", "b"),
        ("oci://registry.example.com:5000/team/tiny:v1@sha256:" + "0" * 64, "tiny"),
    ],
)
def test_other_places_lend_their_last_piece_as_the_name(model: str, name: str) -> None:
    assert a_server(model=model).served_models == (name,)


def test_a_devices_number_is_the_product_of_the_parallel_sizes() -> None:
    plan = deployment(tensor_parallel_size=4, pipeline_parallel_size=2, data_parallel_size=2)

    assert plan.resources["limits"] == {"nvidia.com/gpu": "16"}


def test_a_cpu_asks_for_no_device_and_for_memory_that_holds_the_weights() -> None:
    plan = deployment(size=8 * GIB, accelerator="cpu")

    assert plan.resources == {"requests": {"cpu": "1", "memory": f"{(8 + 4 + 1) * 1024}Mi"}}


def test_devices_by_claim_replace_the_accelerators_resource() -> None:
    plan = deployment(resource_claim_template={"name": "one-h100"})

    assert "limits" not in plan.resources
    assert plan.resources["claims"] == [{"name": "devices"}]
    assert plan.resource_claims == ({"name": "devices", "resourceClaimTemplateName": "one-h100"},)


def test_memory_is_asked_for_with_shared_memory_and_what_is_offloaded() -> None:
    plan = deployment(tensor_parallel_size=2, cpu_offload_gb=3, kv_offloading_size=5)

    assert plan.resources["requests"]["memory"] == f"{(4 + 4 + 6 + 5) * 1024}Mi"  # type: ignore[index]


def test_a_limit_is_the_request_where_none_is_given() -> None:
    plan = deployment(resources={"limits": {"memory": "6Gi"}})

    assert plan.resources == {"requests": {"cpu": "1"}, "limits": {"memory": "6Gi", "nvidia.com/gpu": "1"}}


@pytest.mark.parametrize(("ranks", "size"), [(1, "1024Mi"), (2, "4096Mi"), (8, "16384Mi"), (64, "32768Mi")])
def test_shared_memory_grows_with_the_ranks(ranks: int, size: str) -> None:
    shm = mounted_at(deployment(tensor_parallel_size=ranks))["/dev/shm"]["volume"]

    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": size}


def test_the_startup_budget_follows_from_the_bytes() -> None:
    small, large = a_server(size=GIB), a_server(size=140 * 10**9)

    assert small.startup_seconds == 600
    assert large.startup_seconds == 1400 + 300
    assert large.deployment.startup_probe["failureThreshold"] == 170
    assert large.deployment.startup_probe["periodSeconds"] == 10
    assert large.deployment.progress_deadline_seconds > large.startup_seconds


def test_several_engines_are_waited_for_as_long_as_the_server_may_start() -> None:
    several = variables(deployment(data_parallel_size=2, startup_timeout_seconds=1800))
    own = ({"name": "VLLM_ENGINE_READY_TIMEOUT_S", "value": "60"},)

    assert several["VLLM_ENGINE_READY_TIMEOUT_S"] == "1800"
    assert variables(deployment(data_parallel_size=2, env=own))["VLLM_ENGINE_READY_TIMEOUT_S"] == "60"
    assert "VLLM_ENGINE_READY_TIMEOUT_S" not in variables(deployment())


def test_a_budget_that_is_given_is_kept_and_the_models_wins_over_the_platforms() -> None:
    given = settings(defaults={"startupTimeoutSeconds": 900})

    assert a_server(given).startup_seconds == 900
    assert a_server(given, startup_timeout_seconds=95).startup_seconds == 95
    assert a_server(given, startup_timeout_seconds=95).deployment.startup_probe["failureThreshold"] == 10


def test_the_times_of_stopping_add_up() -> None:
    plan = deployment(shutdown_timeout_seconds=120)

    assert "--shutdown-timeout=120" in plan.args
    assert plan.stop_sleep_seconds == 10
    assert plan.grace_seconds == 10 + 120 + 20


def test_without_a_time_to_drain_there_is_one_all_the_same() -> None:
    assert "--shutdown-timeout=60" in deployment().args


def test_https_is_probed_by_https_and_reached_on_its_own_port() -> None:
    server = a_server(tls={"secret_name": "cert"})

    probes = (server.deployment.startup_probe, server.deployment.readiness_probe, server.deployment.liveness_probe)
    assert {probe["httpGet"]["scheme"] for probe in probes} == {"HTTPS"}  # type: ignore[index]
    assert server.url == "https://m.demo.svc/v1"
    assert (server.service.port, server.service.app_protocol) == (443, "https")
    assert "--ssl-certfile=/etc/vllm-tls/tls.crt" in server.deployment.args
    assert "--enable-ssl-refresh" in server.deployment.args
    assert mounted_at(server.deployment)["/etc/vllm-tls"]["volume"]["secret"]["secretName"] == "cert"


def test_the_address_has_the_clusters_domain_where_the_platform_names_it() -> None:
    assert a_server(settings(clusterDomain="cluster.local")).url == "http://m.demo.svc.cluster.local/v1"


def test_the_api_key_is_only_referred_to() -> None:
    plan = deployment(api_key_secret_ref={"name": "keys", "key": "k"})

    assert variables(plan)["VLLM_API_KEY"] == {"secretKeyRef": {"name": "keys", "key": "k"}}
    assert not any("api-key" in arg for arg in plan.args)


def test_servers_are_offline_and_report_to_nobody() -> None:
    found = variables(deployment())

    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "VLLM_NO_USAGE_STATS", "DO_NOT_TRACK")
    assert [found[name] for name in names] == ["1"] * 4
    assert found["VLLM_MEDIA_URL_ALLOW_REDIRECTS"] == "0"


def test_media_come_from_nowhere_unless_the_platform_says_so() -> None:
    closed = deployment().args
    some = deployment(settings(policy={"allowedMediaDomains": ["a.example.com", "b.example.com"]})).args
    every = deployment(settings(policy={"allowedMediaDomains": ["*"]})).args

    assert closed[1:3] == ("--allowed-media-domains", "media.invalid")
    assert some[1:4] == ("--allowed-media-domains", "a.example.com", "b.example.com")
    assert "--allowed-media-domains" not in every


def test_everything_that_libraries_write_lies_on_a_volume_that_can_be_written() -> None:
    for cache in ({}, {"compile_cache": True}):
        plan = deployment(cache=cache)
        writable = [path for path, mount in mounted_at(plan).items() if not mount.get("readOnly")]
        folders = {name: value for name, value in variables(plan).items() if str(value).startswith("/")}

        assert {"HOME", "HF_HOME", "VLLM_CACHE_ROOT", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"} <= set(folders)
        assert {"FLASHINFER_WORKSPACE_BASE", "HUMMING_CACHE_DIR"} <= set(folders)
        for folder in folders.values():
            assert any(folder == path or folder.startswith(f"{path}/") for path in writable), folder


def test_weights_are_read_only_and_the_compile_cache_beside_them_is_not() -> None:
    found = mounted_at(deployment(cache={"compile_cache": True}))

    assert found["/models"]["readOnly"] is True
    assert found["/compile-cache"]["subPath"] == ".compile-cache"
    assert found["/models"]["name"] == found["/compile-cache"]["name"] == "weights"


def test_a_template_in_the_spec_becomes_a_config_map_named_by_its_text() -> None:
    first, second = (a_server(chat_template={"inline": text}) for text in ("{{ a }}", "{{ b }}"))

    assert first.chat_template is not None and second.chat_template is not None
    assert first.chat_template.name != second.chat_template.name
    assert first.chat_template.data == {"chat-template.jinja": "{{ a }}"}
    assert "--chat-template=/etc/vllm-chat-template/chat-template.jinja" in first.deployment.args


def test_a_template_of_the_users_is_mounted_from_his_config_map() -> None:
    server = a_server(chat_template={"config_map_key_ref": {"name": "mine", "key": "t.txt"}})

    volume = mounted_at(server.deployment)["/etc/vllm-chat-template"]["volume"]
    assert server.chat_template is None
    assert volume["configMap"] == {"name": "mine", "items": [{"key": "t.txt", "path": "chat-template.jinja"}]}


def test_adapters_are_served_under_their_names() -> None:
    plan = deployment(adapters=({"name": "sql", "source": "org/sql"},))

    assert "--enable-lora" in plan.args
    assert any('"name":"sql"' in arg and '"path":"/models/org-sql-' in arg for arg in plan.args)


def test_a_bucket_that_is_streamed_gets_its_loader_and_its_credentials() -> None:
    plan = deployment(
        model="s3://b-1/p",
        load_format="runai_streamer",
        cache={"type": "None"},
        credentials_secret_ref={"name": "keys"},
    )

    assert plan.args[0] == "s3://b-1/p"
    assert "--load-format=runai_streamer" in plan.args
    assert variables(plan)["AWS_SECRET_ACCESS_KEY"]["secretKeyRef"]["name"] == "keys"


def test_a_server_that_streams_asks_the_bucket_as_the_inspection_did() -> None:
    streamed = {"model": "s3://b-1/p", "load_format": "runai_streamer", "cache": {"type": "None"}}
    s3, trusted = {"endpoint": "https://minio.store.svc:9000", "region": "eu-1"}, {"configMap": "authorities"}
    ours = settings(sources={"s3": s3, "trustedCertificates": trusted})
    with_keys = variables(deployment(**streamed, credentials_secret_ref={"name": "keys"}))
    in_settings = variables(deployment(ours, **streamed))

    assert with_keys["RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING"] == "0"
    assert with_keys["AWS_DEFAULT_REGION"] == with_keys["AWS_REGION"]
    assert with_keys["RUNAI_STREAMER_S3_UNSIGNED"] == with_keys["AWS_SKIP_SIGNATURE"]
    assert (in_settings["AWS_DEFAULT_REGION"], in_settings["AWS_REGION"]) == ("eu-1", "eu-1")
    assert in_settings["AWS_ENDPOINT_URL"] == "https://minio.store.svc:9000"
    folder = str(PurePosixPath(in_settings["AWS_CA_BUNDLE"]).parent)
    assert mounted_at(deployment(ours, **streamed))[folder]["volume"]["configMap"]["name"] == "authorities"
    assert not any(name.startswith(("AWS", "RUNAI")) for name in variables(deployment()))


def test_an_accelerator_brings_its_image_variables_arguments_and_runtime() -> None:
    npu = {
        "vendor": "npu",
        "resourceName": "example.com/npu",
        "image": "npu/vllm:1",
        "env": {"NPU_MODE": "a$(HOME)"},
        "args": ["--npu"],
        "runtimeClassName": "npu",
        "count": 2,
        "supplementalGroups": [44],
    }
    plan = deployment(settings(accelerators={"npu": npu}), accelerator="npu", tensor_parallel_size=2)

    assert plan.image == "npu/vllm:1"
    assert arrived(variables(plan)["NPU_MODE"], {"HOME": "/x"}) == "a$(HOME)"
    assert "--npu" in plan.args
    assert plan.placement.runtime_class_name == "npu"
    assert plan.resources["limits"] == {"example.com/npu": "4"}
    assert plan.supplemental_groups == (44,)


def test_the_models_own_image_wins() -> None:
    assert deployment(image="mine:1").image == "mine:1"


def test_a_label_with_several_values_is_an_affinity() -> None:
    placement = deployment(accelerator="nvidia-h100-80gb").placement

    nodes = placement.affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]  # type: ignore[index]
    [term] = nodes["nodeSelectorTerms"]
    [expression] = term["matchExpressions"]
    assert expression["key"] == "nvidia.com/gpu.product"
    assert "NVIDIA-H100-80GB-HBM3" in expression["values"]
    assert placement.node_selector == {}


def test_several_accelerators_are_alternatives_with_the_first_preferred() -> None:
    placement = deployment(accelerators=("nvidia-l40s", "nvidia-l4")).placement

    nodes: Any = placement.affinity["nodeAffinity"]
    terms = nodes["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    preferred = nodes["preferredDuringSchedulingIgnoredDuringExecution"]
    assert [term["matchExpressions"][0]["values"] for term in terms] == [["NVIDIA-L40S"], ["NVIDIA-L4"]]
    assert [item["weight"] for item in preferred] == [100, 90]
    assert placement.node_selector == {}


def test_an_accelerator_without_labels_leaves_every_node_open() -> None:
    nodes: Any = deployment(accelerators=("nvidia-l4", "nvidia")).placement.affinity["nodeAffinity"]

    assert "requiredDuringSchedulingIgnoredDuringExecution" not in nodes
    assert [item["weight"] for item in nodes["preferredDuringSchedulingIgnoredDuringExecution"]] == [100]


def test_the_users_affinity_holds_together_with_the_accelerators() -> None:
    theirs = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
    affinity = {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [theirs]}},
        "podAntiAffinity": {"x": 1},
    }
    placement = deployment(accelerators=("nvidia-l40s", "nvidia-l4"), pod={"affinity": affinity}).placement

    nodes: Any = placement.affinity["nodeAffinity"]
    terms = nodes["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert [[e["key"] for e in term["matchExpressions"]] for term in terms] == [["zone", "nvidia.com/gpu.product"]] * 2
    assert placement.affinity["podAntiAffinity"] == {"x": 1}


def test_pods_of_a_volume_for_one_node_share_a_node() -> None:
    plan = deployment(replicas=3)

    pods: Any = plan.placement.affinity["podAffinity"]
    [term] = pods["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["topologyKey"] == "kubernetes.io/hostname"
    assert term["labelSelector"]["matchLabels"].items() <= plan.pod_labels.items()


def test_pods_of_a_volume_for_many_nodes_go_anywhere() -> None:
    plan = deployment(cache={"access_modes": ("ReadWriteMany",)})

    assert "podAffinity" not in plan.placement.affinity


MANY: Any = {"access_modes": ("ReadWriteMany",)}


@pytest.mark.parametrize(
    ("spec", "strategy"),
    [
        ({}, "Recreate"),
        ({"replicas": 3}, (0, 1)),
        ({"cache": MANY}, (1, 0)),
        ({"cache": MANY, "replicas": 0}, (1, 0)),
        ({"cache": MANY, "replicas": 3}, (0, 1)),
        ({"cache": {"access_modes": ("ReadWriteOncePod",)}}, "Recreate"),
        ({"model": "pvc://claim/a"}, "Recreate"),
        ({"model": "oci://image@sha256:" + "0" * 64}, (1, 0)),
        ({"rollout": {"strategy": "Recreate"}, "replicas": 3}, "Recreate"),
        ({"rollout": {"strategy": "RollingUpdate"}}, (0, 1)),
        ({"rollout": {"max_surge": "1"}}, (1, 0)),
        ({"rollout": {"max_surge": "25%", "max_unavailable": "1"}}, ("25%", 1)),
        ({"rollout": {"max_unavailable": "50%"}}, (0, "50%")),
        ({"rollout": {"max_unavailable": "0"}}, (1, 0)),
        ({"rollout": {"max_surge": "0"}}, (0, 1)),
    ],
)
def test_a_rollout_never_waits_for_itself(spec: dict[str, Any], strategy: Any) -> None:
    found: Any = deployment(**spec).strategy

    if strategy == "Recreate":
        assert found == {"type": "Recreate"}
    else:
        assert (found["rollingUpdate"]["maxSurge"], found["rollingUpdate"]["maxUnavailable"]) == strategy


def test_the_users_labels_do_not_replace_the_operators() -> None:
    plan = deployment(pod={"labels": {"team": "a"}, "annotations": {"note": "b"}})

    assert plan.pod_labels["team"] == "a"
    assert plan.pod_annotations["note"] == "b"
    assert plan.selector.items() <= plan.pod_labels.items()


def test_labels_of_the_object_are_not_copied() -> None:
    model = a_model(labels={"app.kubernetes.io/instance": "argo-app", "x": "y"}, annotations={"z": "1"})

    plan = planned(model)[2].deployment
    assert "x" not in plan.labels and "z" not in plan.annotations
    assert plan.labels["app.kubernetes.io/instance"] == "m"


def test_a_cpus_memory_limit_below_the_weights_is_told_before_the_kill() -> None:
    server = a_server(size=8 * GIB, accelerator="cpu", resources={"limits": {"memory": "6Gi"}})

    [problem] = server.problems
    assert "resources.limits.memory is 6Gi" in problem.message
    assert "10240Mi" in problem.remedy


PINNED = "3eb8d4520a03"  # the beginning is enough to tell a change


def test_what_was_asked_for_has_the_same_hash_in_every_version() -> None:
    model = a_model(max_model_len=8192, adapters=({"name": "sql", "source": "org/sql"},), cache={"size": "40Gi"})

    assert wanted(model, "0123abcd").startswith(PINNED)


def test_what_changes_no_pod_changes_no_hash() -> None:
    base = wanted(a_model(), "c")

    for change in (
        {"replicas": 5},
        {"rollout": {"strategy": "Recreate"}},
        {"cache": {"retain": True}},
        {"token_secret_ref": {"name": "hub"}},
        {"download": {"tries": 9, "parallelism": 2, "stall_timeout_seconds": 10}},
        {"annotations": {"vllm-operator.dev/refresh": "1", "other": "x"}},
        {"labels": {"a": "b"}},
    ):
        assert wanted(a_model(**change), "c") == base, change


def test_what_changes_a_pod_changes_the_hash() -> None:
    base = wanted(a_model(), "c")

    assert wanted(a_model(), "d") != base
    assert wanted(a_model(annotations={"vllm-operator.dev/upgrade": "1"}), "c") != base
    assert wanted(a_model(hf_overrides={"a": []}), "c") != wanted(a_model(hf_overrides={"a": {}}), "c")
    assert wanted(a_model(env=({"name": "TZ", "value": "UTC"},)), "c") != base

"""The diagnosis on Kubernetes' own states: pods, Jobs, Deployments and claims as the API shows them."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from vllm_operator.diagnose import (
    Reason,
    look_at_answer,
    look_at_claim,
    look_at_deployment,
    look_at_job,
    look_at_pod,
)

LOGS = Path(__file__).parent / "diagnose_logs"
NOW = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)
GPU_TAKEN = (
    "0/5 nodes are available: 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, 4 Insufficient nvidia.com/gpu. "
    "preemption: 0/5 nodes are available: 1 Preemption is not helpful for scheduling, 4 No preemption victims found for incoming pod."
)


def a_pod(
    *,
    name: str = "llama-6d9f-x2x",
    phase: str = "Running",
    owner: str = "ReplicaSet",
    hash_: str = "6d9f",
    containers: list[dict[str, Any]] | None = None,
    init: list[dict[str, Any]] | None = None,
    conditions: list[dict[str, Any]] | None = None,
    gpus: str = "2",
    node: str = "gpu-3",
    **status: Any,
) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "labels": {"pod-template-hash": hash_},
            "ownerReferences": [{"kind": owner, "name": "llama"}],
            "creationTimestamp": "2026-11-21T12:00:00Z",
        },
        "spec": {
            "nodeName": node,
            "restartPolicy": "Always" if owner == "ReplicaSet" else "Never",
            "containers": [{"name": "server", "resources": {"limits": {"memory": "32Gi", "nvidia.com/gpu": gpus}}}],
        },
        "status": {
            "phase": phase,
            "containerStatuses": containers or [],
            "initContainerStatuses": init or [],
            "conditions": conditions or [],
            **status,
        },
    }


def a_container(
    state: str, *, ready: bool = False, restarts: int = 0, last: dict[str, Any] | None = None, **fields: Any
) -> dict[str, Any]:
    return {
        "name": "server",
        "ready": ready,
        "restartCount": restarts,
        "state": {state: fields},
        "lastState": {"terminated": last} if last else {},
    }


def an_event(
    reason: str, message: str, *, seen: str = "2026-11-21T12:20:00Z", count: int = 1, pod: str = "llama-6d9f-x2x"
) -> dict[str, Any]:
    return {
        "reason": reason,
        "message": message,
        "lastTimestamp": seen,
        "count": count,
        "involvedObject": {"uid": f"uid-{pod}"},
    }


def pending(message: str, **fields: Any) -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return a_pod(phase="Pending", node="", conditions=[condition], **fields)


def test_a_pod_that_works_is_no_failure() -> None:
    ready = [{"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"}]

    assert look_at_pod(a_pod(containers=[a_container("running", ready=True)], conditions=ready)) is None
    assert look_at_pod(a_pod(containers=[a_container("running")]), (), "INFO loading\n") is None
    assert look_at_pod(a_pod(phase="Pending", containers=[a_container("waiting", reason="ContainerCreating")])) is None
    assert (
        look_at_pod(
            a_pod(
                phase="Succeeded", owner="Job", containers=[a_container("terminated", exitCode=0, reason="Completed")]
            )
        )
        is None
    )
    assert look_at_pod({}) is None


@pytest.mark.parametrize(
    ("waiting", "message", "words"),
    [
        (
            "ImagePullBackOff",
            'Back-off pulling image "vllm/vllm-openai:v9": ErrImagePull: vllm/vllm-openai:v9: not found',
            "no image vllm/vllm-openai:v9",
        ),
        (
            "ErrImagePull",
            "failed to authorize: failed to fetch oauth token: unexpected status: 401 Unauthorized",
            "login",
        ),
        ("ErrImagePull", "toomanyrequests: You have reached your pull rate limit.", "429"),
        ("InvalidImageName", 'couldn\'t parse image name "A:b:c": invalid reference format', "not valid"),
        ("ErrImageNeverPull", 'Container image "x" is not present with pull policy of Never', "not on the node"),
    ],
)
def test_an_image_that_cannot_be_pulled_says_which_way(waiting: str, message: str, words: str) -> None:
    found = look_at_pod(a_pod(phase="Pending", containers=[a_container("waiting", reason=waiting, message=message)]))

    assert found is not None
    assert (found.reason, found.pod) == (Reason.ImagePullFailed, "llama-6d9f-x2x")
    assert words in found.message


def test_the_event_explains_a_bare_back_off() -> None:
    pod = a_pod(
        phase="Pending",
        containers=[a_container("waiting", reason="ImagePullBackOff", message='Back-off pulling image "r/x:1"')],
    )

    found = look_at_pod(pod, [an_event("Failed", 'Failed to pull image "r/x:1": dial tcp: lookup r: no such host')])

    assert found is not None
    assert "reach the registry" in found.message


def test_no_gpu_free_names_the_resource_the_nodes_and_the_wish() -> None:
    found = look_at_pod(pending(GPU_TAKEN))

    assert found is not None
    assert found.reason is Reason.Unschedulable
    assert "None of 5 nodes" in found.message
    assert "the pod asks for 2 nvidia.com/gpu" in found.message
    assert "4 with too little nvidia.com/gpu free" in found.message
    assert "1 had untolerated taint {node-role.kubernetes.io/control-plane: }" in found.message
    assert "tensorParallelSize" in found.remedy


@pytest.mark.parametrize(
    ("message", "reason", "remedy"),
    [
        ("0/3 nodes are available: 3 Insufficient memory.", Reason.Unschedulable, "resources"),
        (
            "0/3 nodes are available: 3 node(s) had untolerated taint {dedicated: gpu}.",
            Reason.Unschedulable,
            "tolerations",
        ),
        (
            "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.",
            Reason.Unschedulable,
            "nodeSelector",
        ),
        ("0/3 nodes are available: 3 node(s) had volume node affinity conflict.", Reason.Unschedulable, "zone"),
        ("0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims.", Reason.VolumePending, "cache"),
        ('0/3 nodes are available: persistentvolumeclaim "w" not found.', Reason.VolumePending, "cache"),
        (
            "0/3 nodes are available: 3 node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod.",
            Reason.VolumeAttachConflict,
            "cache",
        ),
    ],
)
def test_each_kind_of_unschedulable_has_its_remedy(message: str, reason: Reason, remedy: str) -> None:
    found = look_at_pod(pending(message))

    assert found is not None
    assert found.reason is reason
    assert remedy in found.remedy


def test_a_rollout_that_waits_for_the_old_pods_gpu_is_named() -> None:
    old = a_pod(name="llama-aaaa-1", hash_="aaaa", containers=[a_container("running", ready=True)])

    found = look_at_pod(pending(GPU_TAKEN), siblings=[old])

    assert found is not None
    assert found.reason is Reason.RolloutWaitsForGPU
    assert "2 nvidia.com/gpu" in found.message
    assert "Recreate" in found.remedy


def test_a_second_replica_without_a_gpu_is_no_rollout() -> None:
    twin = a_pod(name="llama-6d9f-1", containers=[a_container("running", ready=True)])

    found = look_at_pod(pending(GPU_TAKEN), siblings=[twin])

    assert found is not None
    assert found.reason is Reason.Unschedulable


def test_a_gate_is_not_called_a_lack_of_nodes() -> None:
    gate = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "SchedulingGated",
        "message": "Scheduling is blocked due to non-empty scheduling gates",
    }

    found = look_at_pod(a_pod(phase="Pending", node="", conditions=[gate]))

    assert found is not None
    assert "Kueue" in found.remedy


@pytest.mark.parametrize(
    ("waiting", "message", "reason"),
    [
        ("CreateContainerConfigError", 'secret "hf-token" not found', Reason.SecretNotFound),
        ("CreateContainerConfigError", "couldn't find key token in Secret team/hf-token", Reason.SecretNotFound),
        ("CreateContainerConfigError", "container has runAsNonRoot and image will run as root", Reason.PodRejected),
        ("RunContainerError", "nvidia-container-cli: initialization error: driver not loaded", Reason.NoGPUFound),
        ("CreateContainerError", "failed to generate spec: no command specified", Reason.ContainerStartFailed),
    ],
)
def test_a_container_that_cannot_be_made_has_its_reason(waiting: str, message: str, reason: Reason) -> None:
    found = look_at_pod(a_pod(phase="Pending", containers=[a_container("waiting", reason=waiting, message=message)]))

    assert found is not None
    assert found.reason is reason


def test_a_program_that_is_not_in_the_image_is_no_crash_of_vllm() -> None:
    ended = {
        "exitCode": 128,
        "reason": "StartError",
        "message": 'exec: "vllm": executable file not found in $PATH: unknown',
    }

    found = look_at_pod(a_pod(containers=[a_container("waiting", reason="CrashLoopBackOff", last=ended)]))

    assert found is not None
    assert (found.reason, found.exit_code) == (Reason.ContainerStartFailed, 128)


@pytest.mark.parametrize(
    ("reason_of_event", "message", "reason"),
    [
        (
            "FailedAttachVolume",
            'Multi-Attach error for volume "pvc-1" Volume is already exclusively attached to one node and can\'t be attached to another',
            Reason.VolumeAttachConflict,
        ),
        ("FailedMount", 'MountVolume.SetUp failed for volume "t" : secret "hf" not found', Reason.SecretNotFound),
        (
            "FailedMount",
            "Unable to attach or mount volumes: unmounted volumes=[cache]: timed out waiting for the condition",
            Reason.VolumePending,
        ),
    ],
)
def test_a_pod_that_waits_for_its_volume_says_why(reason_of_event: str, message: str, reason: Reason) -> None:
    pod = a_pod(phase="Pending", containers=[a_container("waiting", reason="ContainerCreating")])

    found = look_at_pod(
        pod, [an_event("Scheduled", "ok", seen="2026-11-21T12:00:00Z"), an_event(reason_of_event, message)]
    )

    assert found is not None
    assert found.reason is reason


def test_events_of_another_pod_say_nothing() -> None:
    pod = a_pod(phase="Pending", containers=[a_container("waiting", reason="ContainerCreating")])

    assert look_at_pod(pod, [an_event("FailedMount", "no", pod="other")]) is None


def test_oom_killed_is_host_memory_with_the_limit() -> None:
    ended = {"exitCode": 137, "reason": "OOMKilled"}

    found = look_at_pod(
        a_pod(containers=[a_container("waiting", reason="CrashLoopBackOff", restarts=3, last=ended)]),
        (),
        None,
        "INFO Loading weights\n",
    )

    assert found is not None
    assert (found.reason, found.exit_code) == (Reason.HostOutOfMemory, 137)
    assert "32Gi" in found.message
    assert "resources.limits.memory" in found.remedy


def test_a_crash_is_read_from_the_log_of_the_run_that_ended() -> None:
    text = (LOGS / "shm-64m.log").read_text(encoding="utf-8")
    again = a_container("running", restarts=1, last={"exitCode": 1, "reason": "Error"})
    ended = a_container("terminated", exitCode=1, reason="Error")

    for pod, log, before in ((again, "INFO loading again\n", text), (ended, text, "another run")):
        found = look_at_pod(a_pod(containers=[pod]), (), log, before)
        assert found is not None
        assert (found.reason, found.exit_code) == (Reason.SharedMemoryTooSmall, 1)


def test_an_engine_that_died_in_service_ends_with_zero_and_is_a_crash_all_the_same() -> None:
    text = (LOGS / "worker-killed-at-runtime.log").read_text(encoding="utf-8")
    ended = {"exitCode": 0, "reason": "Completed"}

    found = look_at_pod(a_pod(containers=[a_container("running", restarts=1, last=ended)]), (), "INFO starting\n", text)

    assert found is not None
    assert (found.reason, found.exit_code) == (Reason.EngineDied, 0)


def test_a_server_that_hangs_after_its_engine_failed_is_seen_while_it_runs() -> None:
    text = (LOGS / "engine-failed-but-hangs.log").read_text(encoding="utf-8")

    found = look_at_pod(a_pod(containers=[a_container("running")]), (), text)

    assert found is not None
    assert found.reason is Reason.EngineDied
    assert found.exit_code is None


def test_a_pod_that_was_told_to_end_is_no_crash() -> None:
    pod = a_pod(containers=[a_container("terminated", exitCode=137, reason="Error")])
    pod["metadata"]["deletionTimestamp"] = "2026-11-21T12:25:00Z"

    assert look_at_pod(pod, (), "INFO bye\n") is None


def killed_by_its_probe(kind: str = "startup") -> list[dict[str, Any]]:
    return [
        an_event(
            "Unhealthy", f"{kind.title()} probe failed: connection refused", count=90, seen="2026-11-21T12:19:50Z"
        ),
        an_event("Killing", f"Container server failed {kind} probe, will be restarted", seen="2026-11-21T12:20:00Z"),
    ]


def a_probed_pod() -> dict[str, Any]:
    return a_pod(containers=[a_container("running", restarts=1, last={"exitCode": 137, "reason": "Error"})])


def test_a_budget_spent_while_loading_says_how_far_it_came() -> None:
    log = (
        "(EngineCore pid=2) INFO 11-21 12:05:00 [x.py:1] Starting to load model /models/m...\n"
        "Loading safetensors checkpoint shards:  63% Completed | 19/30 [14:12<08:13, 44.8s/it]\n"
        "(EngineCore pid=2) INFO 11-21 12:19:40 [x.py:1] still reading\n"
    )

    found = look_at_pod(a_probed_pod(), killed_by_its_probe(), "INFO again\n", log, NOW)

    assert found is not None
    assert found.reason is Reason.StartupTimeout
    assert "63% Completed" in found.message
    assert "90 failed probes" in found.message
    assert "startupTimeoutSeconds" in found.remedy


@pytest.mark.parametrize(
    "log",
    [
        "(EngineCore pid=2) INFO 11-21 12:01:00 [parallel_state.py:1] world_size=2 rank=0\n",
        "(EngineCore pid=2) INFO 11-21 12:01:00 [x.py:1] Loading weights took 3.5 seconds\n(EngineCore pid=2) INFO 11-21 12:01:10 [x.py:1] warm-up\n",
    ],
)
def test_a_budget_spent_in_silence_is_a_hang(log: str) -> None:
    found = look_at_pod(a_probed_pod(), killed_by_its_probe(), "INFO again\n", log, NOW)

    assert found is not None
    assert found.reason is Reason.StartupTimeout
    assert "hangs" in found.message
    assert "NCCL_DEBUG" in found.remedy


def test_a_cause_in_the_log_comes_before_the_probe() -> None:
    text = (LOGS / "disk-full.log").read_text(encoding="utf-8")

    found = look_at_pod(a_probed_pod(), killed_by_its_probe(), "INFO again\n", text, NOW)

    assert found is not None
    assert found.reason is Reason.DiskFull


def test_a_failed_liveness_probe_is_an_engine_that_no_longer_answers() -> None:
    found = look_at_pod(
        a_probed_pod(), killed_by_its_probe("liveness"), "", "INFO:     Application startup complete.\n", NOW
    )

    assert found is not None
    assert found.reason is Reason.EngineDied
    assert "liveness" in found.message


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (
            {"reason": "Evicted", "message": "The node was low on resource: memory. Container server was using 60Gi."},
            Reason.Evicted,
        ),
        (
            {"reason": "Evicted", "message": 'Usage of EmptyDir volume "tmp" exceeds the limit "16Gi". '},
            Reason.DiskFull,
        ),
        ({"reason": "Preempting", "message": "Preempted in order to admit critical pod"}, Reason.Evicted),
        ({"reason": "NodeLost", "message": "Node gpu-3 which was running pod is unresponsive"}, Reason.NodeLost),
        ({"reason": "NodeShutdown", "message": "Pod was rejected as the node is shutting down."}, Reason.NodeLost),
        (
            {
                "reason": "OutOfnvidia.com/gpu",
                "message": "Pod was rejected: Node didn't have enough resource: nvidia.com/gpu",
            },
            Reason.Unschedulable,
        ),
        (
            {
                "reason": "UnexpectedAdmissionError",
                "message": "Allocate failed due to no healthy devices present; cannot allocate unhealthy devices nvidia.com/gpu, which is unexpected",
            },
            Reason.NoGPUFound,
        ),
    ],
)
def test_a_pod_that_was_taken_away_says_by_whom(status: dict[str, str], reason: Reason) -> None:
    found = look_at_pod(a_pod(phase="Failed", **status))

    assert found is not None
    assert found.reason is reason


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        ("PreemptionByScheduler", Reason.Evicted),
        ("EvictionByEvictionAPI", Reason.Evicted),
        ("DeletionByTaintManager", Reason.NodeLost),
    ],
)
def test_a_disruption_target_says_who_took_it(cause: str, reason: Reason) -> None:
    condition = {"type": "DisruptionTarget", "status": "True", "reason": cause, "message": f"{cause}: taken"}

    found = look_at_pod(a_pod(conditions=[condition]))

    assert found is not None
    assert found.reason is reason


def test_a_node_that_is_not_ready_takes_its_unready_pods_with_it() -> None:
    node = {"status": {"conditions": [{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}]}}
    pod = a_pod(containers=[a_container("running")], conditions=[{"type": "Ready", "status": "False"}])

    found = look_at_pod(pod, (), "", node=node)

    assert found is not None
    assert found.reason is Reason.NodeLost
    assert "gpu-3" in found.message


def a_job_pod(message: str, code: int = 1) -> dict[str, Any]:
    return a_pod(
        name="pull-1",
        phase="Failed",
        owner="Job",
        containers=[a_container("terminated", exitCode=code, reason="Error", message=message)],
    )


def test_the_weights_program_speaks_for_itself() -> None:
    said = {
        "version": 1,
        "ok": False,
        "reason": "GatedRepo",
        "message": "org/m is gated.",
        "remedy": "Accept the terms.",
        "retry": False,
        "bytes": 1,
    }

    found = look_at_pod(a_job_pod(json.dumps(said)), (), "Traceback: something else\n")

    assert found is not None
    assert (found.reason, found.message, found.remedy, found.retry) == (
        Reason.GatedRepo,
        "org/m is gated.",
        "Accept the terms.",
        False,
    )
    assert (found.pod, found.exit_code) == ("pull-1", 1)


@pytest.mark.parametrize(
    "message",
    ['{"version":1,"ok":false,"reason":"NotOurs"}', '{"version":1,"ok":fal', "", "no JSON", '{"version":1,"ok":true}'],
)
def test_words_that_are_not_the_weights_programs_are_not_believed(message: str) -> None:
    found = look_at_pod(a_job_pod(message), (), "OSError: [Errno 28] No space left on device\n")

    assert found is not None
    assert found.reason is Reason.DiskFull


def test_a_job_that_passed_its_deadline_says_how_long() -> None:
    job = {
        "spec": {"activeDeadlineSeconds": 7200},
        "status": {
            "conditions": [
                {
                    "type": "Failed",
                    "status": "True",
                    "reason": "DeadlineExceeded",
                    "message": "Job was active longer than specified deadline",
                }
            ]
        },
    }

    found = look_at_job(job)

    assert found is not None
    assert found.reason is Reason.DownloadFailed
    assert "7200 s" in found.message
    assert found.retry


def test_a_job_that_used_up_its_tries_failed() -> None:
    job = {
        "status": {
            "failed": 4,
            "conditions": [
                {
                    "type": "Failed",
                    "status": "True",
                    "reason": "BackoffLimitExceeded",
                    "message": "Job has reached the specified backoff limit",
                }
            ],
        }
    }

    found = look_at_job(job)

    assert found is not None
    assert found.reason is Reason.DownloadFailed
    assert not found.retry


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            'Error creating: pods "pull-1" is forbidden: exceeded quota: q, requested: cpu=4, used: cpu=6, limited: cpu=8',
            Reason.QuotaExceeded,
        ),
        (
            'Error creating: pods "pull-1" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true',
            Reason.PodRejected,
        ),
    ],
)
def test_a_job_that_may_not_make_its_pod_shows_only_events(message: str, reason: Reason) -> None:
    job = {"metadata": {"uid": "j"}, "status": {}}
    event = {
        "reason": "FailedCreate",
        "message": message,
        "lastTimestamp": "2026-11-21T12:00:00Z",
        "involvedObject": {"uid": "j"},
    }

    found = look_at_job(job, [event])

    assert found is not None
    assert found.reason is reason
    assert look_at_job({"metadata": {"uid": "j"}, "status": {"active": 1, "ready": 1}}, [event]) is None
    assert look_at_job({"metadata": {"uid": "other"}, "status": {}}, [event]) is None


@pytest.mark.parametrize("kind", ["Complete", "Suspended"])
def test_a_job_that_is_done_or_suspended_is_no_failure(kind: str) -> None:
    assert look_at_job({"status": {"conditions": [{"type": kind, "status": "True"}]}}) is None


@pytest.mark.parametrize(
    ("message", "reason", "words"),
    [
        (
            'pods "m-1" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=4, used: requests.nvidia.com/gpu=6, limited: requests.nvidia.com/gpu=8',
            Reason.QuotaExceeded,
            "gpu=8",
        ),
        (
            'pods "m-1" is forbidden: violates PodSecurity "restricted:latest": seccompProfile',
            Reason.PodRejected,
            "seccompProfile",
        ),
        (
            'admission webhook "gatekeeper.sh" denied the request: [images] not allowed',
            Reason.PodRejected,
            "not allowed",
        ),
        (
            'pods "m-1" is forbidden: error looking up service account ns/x: serviceaccount "x" not found',
            Reason.PodRejected,
            "ns/x",
        ),
        ("something entirely new", Reason.PodRejected, "entirely new"),
    ],
)
def test_a_deployment_that_may_not_make_its_pods_says_who_forbids_it(message: str, reason: Reason, words: str) -> None:
    found = look_at_deployment(
        {
            "status": {
                "conditions": [
                    {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}
                ]
            }
        }
    )

    assert found is not None
    assert found.reason is reason
    assert words in found.message


def test_a_rollout_without_progress_is_a_start_that_takes_too_long() -> None:
    conditions = [
        {
            "type": "Progressing",
            "status": "False",
            "reason": "ProgressDeadlineExceeded",
            "message": 'ReplicaSet "m-1" has timed out progressing.',
        }
    ]

    found = look_at_deployment({"status": {"replicas": 1, "conditions": conditions}})

    assert found is not None
    assert found.reason is Reason.StartupTimeout
    assert look_at_deployment({"status": {"replicas": 1, "readyReplicas": 1, "conditions": []}}) is None


@pytest.mark.parametrize(
    ("event", "message", "words"),
    [
        ("ProvisioningFailed", 'storageclass.storage.k8s.io "fast" not found', "fast"),
        ("FailedBinding", "no persistent volumes available for this claim and no storage class is set", "default"),
        (
            "ProvisioningFailed",
            'failed to provision volume with StorageClass "fast": rpc error: quota of the project is used up',
            "used up",
        ),
        ("ProvisioningFailed", "entirely new", "entirely new"),
    ],
)
def test_a_claim_that_is_not_bound_says_why(event: str, message: str, words: str) -> None:
    claim = {"metadata": {"name": "w", "uid": "c"}, "status": {"phase": "Pending"}}

    found = look_at_claim(claim, [{"reason": event, "message": message, "involvedObject": {"uid": "c"}}])

    assert found is not None
    assert found.reason is Reason.VolumePending
    assert words in found.message


def test_a_claim_that_waits_for_its_pod_or_is_bound_is_no_failure() -> None:
    waits = {"reason": "WaitForFirstConsumer", "message": "waiting for first consumer to be created before binding"}

    assert look_at_claim({"status": {"phase": "Pending"}}, [waits]) is None
    assert look_at_claim({"status": {"phase": "Bound"}}, [{"reason": "ProvisioningFailed", "message": "once"}]) is None


def test_a_lost_claim_is_reported() -> None:
    found = look_at_claim({"metadata": {"name": "w"}, "status": {"phase": "Lost"}})

    assert found is not None
    assert "lost its volume" in found.message


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (
            400,
            '{"error":{"message":"As of transformers v4.44, default chat template is no longer allowed, so you must provide a chat template if the tokenizer does not define one."}}',
            Reason.ChatTemplateMissing,
        ),
        (400, '{"error":{"message":"The decoder prompt cannot be empty"}}', Reason.TokenizerMissing),
        (400, '{"error":{"message":"max_tokens must be at least 1"}}', None),
        (200, '{"text":"you must provide a chat template if the tokenizer does not define one"}', None),
    ],
)
def test_a_live_servers_refusal_tells_what_it_lacks(status: int, body: str, reason: Reason | None) -> None:
    found = look_at_answer(status, body)

    assert (found and found.reason) == reason


def test_odd_shapes_never_raise() -> None:
    for odd in (
        {"status": None},
        {"status": {"containerStatuses": "x"}},
        {"spec": [], "metadata": 3},
        {"status": {"conditions": [None, 3]}},
    ):
        assert look_at_pod(odd, [{"series": 3}, {"count": "many"}]) is None

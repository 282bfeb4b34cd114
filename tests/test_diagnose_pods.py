"""The diagnosis on pods that do not start: images, scheduling, containers, volumes."""

import pytest

from tests.diagnose_logs.states import a_container, a_pod, an_event, pending
from vllm_operator.diagnose import Reason, look_at_pod

GPU_TAKEN = (
    "0/5 nodes are available: 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, 4 Insufficient nvidia.com/gpu. "
    "preemption: 0/5 nodes are available: 1 Preemption is not helpful for scheduling, 4 No preemption victims found for incoming pod."
)


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


def test_the_full_stop_of_the_schedulers_sentence_is_no_part_of_the_resource() -> None:
    found = look_at_pod(pending("0/1 nodes are available: 1 Insufficient nvidia.com/gpu. no new claims to deallocate."))

    assert found is not None
    assert "(the pod asks for 2 nvidia.com/gpu): 1 with too little nvidia.com/gpu free" in found.message


def test_a_rollout_that_waits_for_the_old_pods_gpu_is_named() -> None:
    old = a_pod(name="llama-aaaa-1", hash_="aaaa", containers=[a_container("running", ready=True)])

    found = look_at_pod(pending(GPU_TAKEN), siblings=[old])

    assert found is not None
    assert found.reason is Reason.RolloutWaitsForGPU
    assert "2 nvidia.com/gpu needed, fewer free" in found.message
    assert "None of 5 nodes" in found.message
    assert "Recreate" in found.remedy


CLAIM_TAKEN = (
    "0/1 nodes are available: 1 cannot allocate all claims. still not schedulable, preemption: 0/1 nodes are available: 1 Preemption is "
    "not helpful for scheduling."
)


def test_a_claim_that_no_node_can_meet_names_the_template_and_one_that_the_old_pod_holds_the_rollout() -> None:
    old = a_pod(name="llama-aaaa-1", hash_="aaaa", containers=[a_container("running", ready=True)])

    alone, behind = look_at_pod(pending(CLAIM_TAKEN)), look_at_pod(pending(CLAIM_TAKEN), siblings=[old])

    assert alone is not None
    assert behind is not None
    assert (alone.reason, behind.reason) == (Reason.Unschedulable, Reason.RolloutWaitsForGPU)
    assert "cannot allocate all claims" in alone.message
    assert "`resourceClaimTemplate`" in alone.remedy
    assert "its claim asks for more than are free" in behind.message


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


@pytest.mark.parametrize(
    "message",
    [
        "0/4 nodes are available: 4 node(s) did not have enough free storage.",
        'running PreBind plugin "VolumeBinding": binding volumes: context deadline exceeded',
        "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found",
        'persistentvolumeclaim "llama-cache" not found',
    ],
)
def test_a_volume_that_holds_the_pod_back_is_no_lack_of_nodes(message: str) -> None:
    found = look_at_pod(pending(message))

    assert found is not None
    assert found.reason is Reason.VolumePending


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("OutOfnvidia.com/gpu", "Pod was rejected: Node didn't have enough resource: nvidia.com/gpu, requested: 1"),
        ("TopologyAffinityError", "Resources cannot be allocated with Topology locality"),
        ("NodeAffinity", "Pod was rejected: Predicate NodeAffinity failed"),
    ],
)
def test_a_kubelet_that_does_not_admit_the_pod_is_a_node_that_cannot_take_it(reason: str, message: str) -> None:
    found = look_at_pod(a_pod(phase="Failed", status={"reason": reason, "message": message}))

    assert found is not None
    assert found.reason is Reason.Unschedulable

"""The diagnosis on what fails without a pod of its own: Jobs, Deployments, claims, and a live server's answer."""

import json
from typing import Any

import pytest

from tests.diagnose_logs.states import a_container, a_pod
from vllm_operator.diagnose import Reason, look_at_answer, look_at_claim, look_at_deployment, look_at_job, look_at_pod


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

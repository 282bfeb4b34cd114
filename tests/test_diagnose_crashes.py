"""The diagnosis on pods that ended, hang, or were taken away."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.diagnose_logs.states import a_container, a_pod, an_event
from vllm_operator.diagnose import Reason, diagnose_log, fatal_while_starting, look_at_pod

LOGS = Path(__file__).parent / "diagnose_logs"
NOW = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)


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
    found = look_at_pod(a_pod(phase="Failed", status=status))

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


def test_a_container_that_the_kubelet_forgot_went_with_its_node() -> None:
    gone = {"exitCode": 137, "reason": "ContainerStatusUnknown", "message": "The container could not be located"}
    collected = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC", "message": "node is gone"}

    for pod in (
        a_pod(phase="Failed", containers=[a_container("terminated", **gone)]),
        a_pod(phase="Failed", conditions=[collected]),
    ):
        found = look_at_pod(pod)
        assert found is not None
        assert found.reason is Reason.NodeLost


def test_a_start_whose_engine_was_told_to_end_is_reported_though_the_api_server_hangs() -> None:
    log = (
        "(APIServer pid=1) INFO 11-22 08:00:40 [api_utils.py:286] non-default args: {'model': '/models/m'}\n"
        "(EngineCore pid=42) INFO 11-22 08:00:53 [core.py:1454] [shutdown] EngineCore: trigger received signal=SIGTERM\n"
        "(EngineCore pid=42) INFO 11-22 08:00:56 [core.py:1499] [shutdown] EngineCore: exiting busy loop\n"
        "(APIServer pid=1) WARNING 11-22 08:01:00 [core_client.py:817] [shutdown] MPClient: engine core exited unexpectedly; starting cleanup\n"
    )
    end = (
        "(APIServer pid=1) ERROR 11-22 08:01:00 [async_llm.py:906] AsyncLLM output_handler failed.\n"
        "(APIServer pid=1) ERROR 11-22 08:01:00 [async_llm.py:906] vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue.\n"
    )

    assert fatal_while_starting(log) is None
    found = fatal_while_starting(log + end)
    assert found is not None
    assert (found.reason, found.retry) == (Reason.EngineDied, True)
    assert "while the server started" in found.message


def test_the_line_that_a_warning_echoes_is_no_evidence() -> None:
    log = (
        "/opt/vllm/triton_utils/dispatcher.py:138: FutureWarning: `torch.distributed.reduce_op` is deprecated\n"
        '  if hasattr(value, "__dict__"):\n'
        "INFO:     Application startup complete.\n"
        "(EngineCore pid=42) ERROR 11-22 08:01:00 [multiproc_executor.py:316] Worker proc VllmWorker-0 died unexpectedly\n"
    )

    assert "hasattr" not in diagnose_log(log, 0).excerpt


def test_an_excerpt_without_an_error_begins_with_a_whole_line_and_has_the_last_ones() -> None:
    log = "".join(
        f"(APIServer pid=1) INFO 11-22 08:00:{i:02d} [x.py:1] step {i} {'of it all ' * 40}\n" for i in range(30)
    )

    excerpt = diagnose_log(f"{log}INFO:     Shutting down\n", 143).excerpt

    assert excerpt.startswith("step 2")
    assert excerpt.endswith("Shutting down")


def test_torchs_farewell_is_no_evidence() -> None:
    log = (
        "(EngineCore pid=42) ERROR 11-22 08:01:00 [core.py:1506] ZeroDivisionError: division by zero\n"
        "[rank0]:[W1122 02:12:41.106456613 ProcessGroupNCCL.cpp:1575] Warning: WARNING: destroy_process_group() was not called before program exit\n"
    )

    assert "destroy_process_group" not in diagnose_log(log, 1).excerpt


def test_an_instruction_that_the_cpu_does_not_know_is_met_again_there() -> None:
    found = diagnose_log("INFO 11-21 08:00:00 [__init__.py:241] Automatically detected platform cpu.\n", 132)

    assert ("`image`" in found.remedy, found.retry) == (True, False)


def test_a_stop_while_the_server_starts_is_no_unknown_error() -> None:
    found = diagnose_log(
        "(APIServer pid=1) INFO non-default args: {}\n(APIServer pid=1) KeyboardInterrupt: terminated\n", 143
    )

    assert ("asked to stop" in found.message, "`startupTimeoutSeconds`" in found.remedy) == (True, True)


def test_an_excerpt_shows_the_frames_of_an_abort_and_the_progress_that_came_last() -> None:
    abort = 'Fatal Python error: Segmentation fault\n\nCurrent thread 0x7f7 (most recent call first):\n  File "/x/nixl/_api.py", line 221 in __init__\n'
    loading = (
        "non-default args: {}\n" * 60
        + "Loading safetensors checkpoint shards:  35% Completed | 6/17 [00:21<00:40,  3.7s/it]\n"
    )

    assert "nixl/_api.py in __init__" in diagnose_log(abort, 139).excerpt
    assert "6/17" in diagnose_log(loading, 137).excerpt

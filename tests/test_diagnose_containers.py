"""The diagnosis of pods with several containers, of logs that nobody could read, and of events of other times."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.diagnose_logs.states import a_container, a_pod, an_event
from vllm_operator.diagnose import Failure, Reason, look_at_pod

NOW = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)
ENDED = {"exitCode": 1, "reason": "Error"}


def looked_at(containers: list[dict[str, Any]], *logs: str | None, **options: Any) -> Failure:
    found = look_at_pod(
        a_pod(containers=containers, **options.pop("pod", {})), options.pop("events", ()), *logs, now=NOW, **options
    )
    assert found is not None
    return found


def beside(name: str, *args: Any, **fields: Any) -> dict[str, Any]:
    return a_container(*args, **fields) | {"name": name}


def test_the_servers_end_is_told_before_that_of_a_container_beside_it() -> None:
    proxy = beside("istio-proxy", "waiting", reason="CrashLoopBackOff", last={"exitCode": 255})
    server = a_container("waiting", reason="CrashLoopBackOff", last=ENDED)
    found = looked_at([proxy, server], None, "ValueError: The server's own trouble\n", logged="server")

    assert found.exit_code == 1
    assert "The server's own trouble" in found.message


def test_a_log_is_held_against_the_container_that_wrote_it_alone() -> None:
    proxy = beside("istio-proxy", "waiting", reason="CrashLoopBackOff", last={"exitCode": 255})
    found = looked_at([proxy, a_container("running")], "ValueError: of the server\n", None, logged="server")

    assert found.reason is Reason.ServerCrashed
    assert found.message.startswith("The container istio-proxy, which is not the server, ended with exit code 255")
    assert "ValueError" not in found.message
    assert "-c istio-proxy" in found.remedy


@pytest.mark.parametrize("code", [0, 1, 137, 139])
def test_a_log_that_could_not_be_read_is_not_said_to_be_free_of_errors(code: int) -> None:
    ended = a_container("waiting", reason="CrashLoopBackOff", last={"exitCode": code})
    found = looked_at([ended], None, None, pod={"node": ""})

    assert "shows no error" not in found.message
    assert "kubectl logs llama-6d9f-x2x -c server --previous" in found.remedy
    assert "shows no error" in looked_at([a_container("terminated", **ENDED)], "INFO\n").message


def test_a_start_whose_log_could_not_be_read_is_not_called_hung() -> None:
    kill = an_event("Killing", "Container server failed startup probe, will be restarted")
    ended = a_container("running", restarts=1, last={"exitCode": 137})

    assert "the server hangs" in looked_at([ended], "", "", events=[kill]).message
    unread = looked_at([ended], None, None, events=[kill])
    assert (unread.reason, "hangs" in unread.message) == (Reason.StartupTimeout, False)
    assert "startupTimeoutSeconds" in unread.remedy


def test_a_kill_of_an_earlier_run_does_not_explain_a_later_crash() -> None:
    kill = an_event("Killing", "Container server failed liveness probe, will be restarted", seen="2026-11-21T12:20:00Z")
    times = {"startedAt": "2026-11-21T12:25:00Z", "finishedAt": "2026-11-21T12:26:00Z"}
    ended = a_container("running", restarts=2, last=ENDED | times)
    its_own = a_container("running", restarts=2, last=ENDED | {"startedAt": "2026-11-21T12:10:00Z"})

    assert looked_at([ended], "", "RuntimeError: odd\n", events=[kill]).reason is Reason.ServerCrashed
    assert looked_at([its_own], "", "RuntimeError: odd\n", events=[kill]).reason is Reason.EngineDied


def test_the_weights_program_is_no_server() -> None:
    weights = beside("weights", "terminated", exitCode=1, reason="Error")
    found = looked_at([weights], "Traceback\nImportError: no such thing\n", pod={"owner": "Job"})

    assert found.reason is Reason.DownloadFailed
    assert found.message.startswith("The weights program ended with exit code 1")
    killed = looked_at([beside("weights", "terminated", exitCode=137, reason="OOMKilled")], "", pod={"owner": "Job"})
    assert "download.parallelism" in killed.remedy and "resources" not in killed.remedy


def test_a_node_that_was_shut_down_did_not_fail_to_answer() -> None:
    words = "Pod was terminated in response to imminent node shutdown."
    found = looked_at([], pod={"phase": "Failed", "status": {"reason": "Terminated", "message": words}})

    assert found.reason is Reason.NodeLost
    assert found.message.startswith("The node gpu-3 was shut down, and the pod with it")

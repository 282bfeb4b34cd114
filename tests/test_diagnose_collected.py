"""Logs as people save them: a collector's documents, the newest line first, PowerShell's encoding, sidecars between the lines."""

import codecs
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from vllm_operator.__main__ import main
from vllm_operator.diagnose import Reason, diagnose_log
from vllm_operator.diagnose.collected import collected
from vllm_weights.failure import Reason as Said
from vllm_weights.failure import WeightsError
from vllm_weights.summary import compact

OLDER = compact(
    WeightsError(Said.HUB_UNREACHABLE, "hub.acme.invalid cannot be reached.", "Check the DNS.").as_json()
).decode()
NEWER = compact(
    WeightsError(Said.REPO_NOT_FOUND, "hub.acme.invalid has no org/model.", "Check the name.").as_json()
).decode()
WELL = '{"version":1,"ok":true,"commit":"abc","bytes":100,"seconds":3.0}'
PULLING = '{"event": "progress", "version": 1, "phase": "pulling", "bytesDone": 12, "bytesTotal": 100, "files": [0, 3]}'
SERVER = (
    "(APIServer pid=1) INFO 11-22 18:31:01 [api_utils.py:286] non-default args: {'model': '/models/m'}",
    "(EngineCore pid=71) INFO 11-22 18:31:05 [core.py:97] Initializing a V1 LLM engine (v0.32.0)",
    "(EngineCore pid=71) ERROR 11-22 18:31:07 [core.py:708] EngineCore failed to start.",
    "(EngineCore pid=71) ERROR 11-22 18:31:07 [core.py:708] Traceback (most recent call last):",
    '(EngineCore pid=71) ERROR 11-22 18:31:07 [core.py:708]   File "/x/vllm/lora/peft_helper.py", line 110, in validate_legal',
    "(EngineCore pid=71) ERROR 11-22 18:31:07 [core.py:708] ValueError: LoRA rank 64 is greater than max_lora_rank 16.",
    "(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}",
)


def stamp(at: int) -> str:
    return f"2026-11-22T18:31:{at:02}.123456789Z"


def sorted_and_fractions(line: str) -> dict[str, Any]:
    """As a protobuf's struct comes out: names sorted, whole numbers as fractions."""
    said = json.loads(line)
    return {key: float(said[key]) if type(said[key]) is int else said[key] for key in sorted(said)}


def google(lines: Sequence[str]) -> str:
    records = [
        {
            "insertId": f"a{at}",
            **({"jsonPayload": sorted_and_fractions(line)} if line[0] == "{" else {"textPayload": line}),
            "timestamp": stamp(at),
        }
        for at, line in enumerate(lines)
    ]
    return json.dumps(records[::-1], indent=2)


def google_lines(lines: Sequence[str]) -> str:
    return "\n".join(json.dumps(record) for record in json.loads(google(lines)))


def cloudwatch(lines: Sequence[str]) -> str:
    events = [
        {"timestamp": 1795372265000 + at, "message": line, "ingestionTime": 1795372265900}
        for at, line in enumerate(lines)
    ]
    return json.dumps({"events": events, "nextForwardToken": "f/1"}, indent=4)


def insights(lines: Sequence[str]) -> str:
    rows = [
        [{"field": "@timestamp", "value": stamp(at)[:23].replace("T", " ")}, {"field": "@message", "value": line}]
        for at, line in enumerate(lines)
    ]
    return json.dumps({"results": rows[::-1], "status": "Complete"})


def loki(lines: Sequence[str]) -> str:
    values = [[str(1795372265000000000 + at), line] for at, line in enumerate(lines)]
    return json.dumps(
        {"status": "success", "data": {"resultType": "streams", "result": [{"stream": {}, "values": values[::-1]}]}}
    )


def logcli(lines: Sequence[str]) -> str:
    return "\n".join(
        json.dumps({"labels": {"pod": "m-x"}, "line": line, "timestamp": stamp(at)})
        for at, line in reversed(list(enumerate(lines)))
    )


def logcli_text(lines: Sequence[str]) -> str:
    return "\n".join(f'{stamp(at)} {{pod="m-x"}} {line}' for at, line in reversed(list(enumerate(lines))))


def grafana(lines: Sequence[str]) -> str:
    return "\n".join(f"{stamp(at)[:23].replace('T', ' ')}\t{line}" for at, line in reversed(list(enumerate(lines))))


def kibana(lines: Sequence[str]) -> str:
    hits = [{"_id": f"a{at}", "_source": {"@timestamp": stamp(at), "message": line}} for at, line in enumerate(lines)]
    return json.dumps({"took": 3, "hits": {"total": {"value": 2}, "hits": hits[::-1]}}, indent=1)


def docker(lines: Sequence[str]) -> str:
    return "\n".join(
        json.dumps({"log": f"{line}\n", "stream": "stderr", "time": stamp(at)}) for at, line in enumerate(lines)
    )


WRAPS = [google, google_lines, cloudwatch, insights, loki, logcli, logcli_text, grafana, kibana, docker]


@pytest.mark.parametrize("wrap", WRAPS, ids=lambda wrap: wrap.__name__)
@pytest.mark.parametrize("exit_code", [3, None])
def test_the_newest_try_of_a_collection_counts(wrap: Callable[[Sequence[str]], str], exit_code: int | None) -> None:
    found = diagnose_log(wrap([PULLING, OLDER, PULLING, NEWER]), exit_code)

    assert (found.reason, found.remedy, found.retry) == (Reason.RepoNotFound, "Check the name.", False)


@pytest.mark.parametrize("wrap", WRAPS, ids=lambda wrap: wrap.__name__)
def test_a_pull_that_was_killed_is_seen_in_a_collection(wrap: Callable[[Sequence[str]], str]) -> None:
    found = diagnose_log(wrap([OLDER, PULLING]), 137)

    assert (found.reason, "killed at 12 of 100 bytes" in found.message) == (Reason.DownloadFailed, True)


@pytest.mark.parametrize("wrap", WRAPS, ids=lambda wrap: wrap.__name__)
def test_a_servers_log_in_a_collection_is_a_servers(wrap: Callable[[Sequence[str]], str]) -> None:
    assert diagnose_log(wrap(SERVER), 1) == diagnose_log("\n".join(SERVER), 1)


def test_a_servers_own_times_tell_that_the_newest_is_first() -> None:
    found = diagnose_log("\n".join(SERVER[::-1]), 1)

    assert (found.reason, found.rule) == (Reason.AdapterRankTooHigh, diagnose_log("\n".join(SERVER), 1).rule)
    assert collected("\n".join(SERVER)) == "\n".join(SERVER)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_powershell_writes_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], encoding: str, end: str
) -> None:
    mark = codecs.BOM_UTF16_BE if encoding == "utf-16-be" else b""
    (log := tmp_path / "pull.log").write_bytes(mark + (NEWER + end).encode(encoding))

    assert main(["diagnose", str(log), "--exit-code", "3", "--output", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["reason"] == "RepoNotFound"


SIDECARS = {
    "istio-prefixed": "[pod/pull-x/istio-proxy] 2026-11-22T18:31:58.621234Z\terror\taccept tcp [::]:15020: use of closed network connection",
    "istio": "2026-11-22T18:31:58.621234Z\terror\taccept tcp [::]:15020: use of closed network connection",
    "envoy": '[2026-11-22T18:31:06.112Z] "GET /api/models HTTP/1.1" 500 - via_upstream - "-" 0 132 33 33 "-"',
    "linkerd": "[   104.2s]  INFO ThreadId(01) linkerd_proxy::signal: received SIGTERM, starting shutdown",
    "gcsfuse": "[pod/pull-x/gke-gcsfuse-sidecar] I1122 18:31:58.621234 1 main.go:62] received SIGTERM signal",
}


@pytest.mark.parametrize("line", SIDECARS.values(), ids=SIDECARS)
def test_a_sidecars_lines_are_no_part_of_it(line: str) -> None:
    many = "\n".join([line] * 12)
    failed = diagnose_log(f"{many}\n{NEWER}\n{many}", 3)
    well = diagnose_log(f"{PULLING}\n{WELL}\n{many}", 0)

    assert (failed.reason, failed.excerpt) == (Reason.RepoNotFound, NEWER)
    assert ("ended well" in well.message, well.retry) == (True, False)


def test_what_kubectl_says_before_the_log_is_no_excerpt() -> None:
    found = diagnose_log(f'Defaulted container "weights" out of: weights, istio-proxy, istio-init (init)\n{NEWER}\n', 3)

    assert found.excerpt == NEWER


@pytest.mark.parametrize(
    ("lines", "exit_code", "reason"),
    [
        ([OLDER, PULLING], None, Reason.DownloadFailed),
        ([NEWER, PULLING], 137, Reason.DownloadFailed),
        ([OLDER, NEWER, PULLING], 1, Reason.DownloadFailed),
        ([NEWER, OLDER], 3, Reason.RepoNotFound),
        ([OLDER, NEWER], 1, Reason.HubUnreachable),
        ([OLDER, NEWER], 3, Reason.RepoNotFound),
        ([OLDER, NEWER], None, Reason.RepoNotFound),
        ([NEWER], 1, Reason.RepoNotFound),
        ([OLDER], 137, Reason.DownloadFailed),
        ([PULLING, OLDER, PULLING, NEWER], 3, Reason.RepoNotFound),
    ],
)
def test_of_several_tries_the_one_counts_that_ended(
    lines: Sequence[str], exit_code: int | None, reason: Reason
) -> None:
    assert diagnose_log("\n".join(lines), exit_code).reason is reason


def test_what_an_older_try_had_brought_is_not_told_of_the_newer() -> None:
    found = diagnose_log(f"{PULLING}\n{OLDER}", 137)

    assert "12 of 100" not in found.message and "killed" in found.message


@pytest.mark.parametrize(
    "raw",
    [
        "[" * 100_000,
        "{" * 100_000,
        '{"a":' * 50_000,
        "[]",
        "{}",
        "[1, 2]",
        '{"events": [1, {}]}',
        '{"data": {"result": [{"values": [[1]]}]}}',
        "\x00" * 99,
    ],
)
def test_what_is_no_collection_is_read_as_it_is(raw: str) -> None:
    before = time.monotonic()

    assert diagnose_log(raw, 1).reason is Reason.ServerCrashed
    assert diagnose_log(raw.encode(), 1).reason is Reason.ServerCrashed
    assert time.monotonic() - before < 20


def cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


@pytest.mark.parametrize(
    "table",
    [
        f"@timestamp,@message\n2026-11-22 18:31:05.123,{cell(OLDER)}\n2026-11-22 18:31:09.123,{cell(NEWER)}\n",
        f'"@timestamp","kubernetes.pod.name","message"\r\n"Nov 22, 2026 @ 18:31","pull-x",{cell(NEWER)}\r\n',
        f"Date,Host,Service,Content\n2026-11-22T18:31:09Z,n1,pull,{cell(NEWER)}\n2026-11-22T18:31:05Z,n1,pull,{cell(PULLING)}\n",
        "timestamp,log\n2026-11-22T18:31:05Z," + cell(json.dumps({"log": NEWER + "\n", "stream": "stdout"})) + "\n",
        json.dumps({"data": [{"id": "A", "attributes": {"message": NEWER, "timestamp": stamp(9)}}]}, indent=1),
    ],
)
def test_a_table_is_read_by_its_column_of_lines(table: str) -> None:
    assert diagnose_log(table, 3).reason is Reason.RepoNotFound


def test_a_servers_lines_in_a_table_are_the_servers() -> None:
    table = "timestamp,message\n" + "".join(f"{stamp(at)},{cell(line)}\n" for at, line in enumerate(SERVER))

    assert diagnose_log(table, 1).reason is Reason.AdapterRankTooHigh


def test_a_log_that_begins_with_commas_is_no_table() -> None:
    log = "a, message, of somebody's\n" + "\n".join(SERVER)

    assert diagnose_log(log, 1).reason is Reason.AdapterRankTooHigh


@pytest.mark.parametrize("serving_last", [False, True])
def test_of_two_pods_in_one_log_the_one_that_failed_is_told(serving_last: bool) -> None:
    failed = [f"[pod/qwen-a/vllm] {line}" for line in SERVER]
    serving = ["[pod/qwen-b/vllm] (APIServer pid=1) INFO:     Application startup complete."] * 3
    serving.append('[pod/qwen-b/vllm] (APIServer pid=1) INFO:     10.0.0.7:40103 - "GET /health HTTP/1.1" 200 OK')
    lines = failed + serving if serving_last else [serving[0], *failed, *serving[1:]]

    assert diagnose_log("\n".join(lines), 1).reason is Reason.AdapterRankTooHigh

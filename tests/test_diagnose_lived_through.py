"""What was said before the exception that ended the server, and lived through, is not the cause: nor is it that of an end from outside."""

import pytest

from vllm_operator.diagnose import Reason, diagnose_log

LIVED_THROUGH = {
    "a cache of the hub's that is read-only": "Could not cache non-existence of file. Will ignore error and continue. "
    "Error: [Errno 30] Read-only file system: '/cache/hub/models--org--name/.no_exist/0a1b2c/generation_config.json'",
    "a folder that transformers may not write": "There was a problem when trying to write in your cache folder (/home/vllm/.cache/huggingface/hub).",
    "a copy that an entrypoint could not make": "cp: cannot create regular file '/home/vllm/.cache/warm.tar': No space left on device",
    "an old fault in the kernel's log": "[91231.113] NVRM: Xid (PCI:0000:17:00): 79, pid='<unknown>', GPU has fallen off the bus.",
    "NVIDIA's tool without a driver": "Failed to initialize NVML: Unknown Error",
    "a program of the entrypoint's that failed": "Traceback (most recent call last):\n"
    '  File "<string>", line 1, in <module>\n'
    "huggingface_hub.errors.HfHubHTTPError: 401 Client Error: Unauthorized for url: https://huggingface.co/api/whoami-v2\n"
    "Invalid credentials in Authorization header",
    "NCCL, which went on by sockets": "m:1:9 [0] misc/ibvwrap.cc:262 NCCL WARN Call to ibv_reg_mr_iova2 failed with error "
    "Cannot allocate memory errno 12, using sockets",
}
STARTED = "(APIServer pid=1) INFO 11-20 10:00:06 [utils.py:286] non-default args: {'model': '/models/m'}\n"
FAILED = """(EngineCore pid=146) ERROR 11-20 10:00:56 [core.py:1510] EngineCore failed to start.
(EngineCore pid=146) ERROR 11-20 10:00:56 [core.py:1510] Traceback (most recent call last):
(EngineCore pid=146) ERROR 11-20 10:00:56 [core.py:1510]   File "/usr/lib/python3/dist-packages/vllm/v1/engine/core.py", line 1481, in run_engine_core
(EngineCore pid=146) ERROR 11-20 10:00:56 [core.py:1510]     engine_core = EngineCoreProc(*args, **kwargs)
(EngineCore pid=146) ERROR 11-20 10:00:56 [core.py:1510] {error}
(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {{}}
"""
TOO_SMALL = (
    "ValueError: To serve at least one request with the model's max seq len (131072), (16.0 GiB KV cache is needed, which is "
    "larger than the available KV cache memory (4.36 GiB). Based on the available memory, the estimated maximum model length "
    "is 35712."
)


@pytest.mark.parametrize("said", LIVED_THROUGH.values(), ids=LIVED_THROUGH)
@pytest.mark.parametrize("first", [True, False], ids=["before the server", "by the server"])
def test_the_exception_that_ended_it_is_the_cause(said: str, first: bool) -> None:
    log = said + "\n" + STARTED if first else STARTED + said + "\n"

    assert diagnose_log(log + FAILED.format(error=TOO_SMALL), 1).reason is Reason.KVCacheTooSmall


@pytest.mark.parametrize(
    "said", [said for name, said in LIVED_THROUGH.items() if "NVIDIA" not in name and "kernel" not in name]
)
def test_one_that_no_rule_knows_is_shown_itself(said: str) -> None:
    found = diagnose_log(said + "\n" + STARTED + FAILED.format(error="ValueError: the unheard of has come to pass"), 1)

    assert found.reason is Reason.ServerCrashed
    assert "the unheard of" in found.message


@pytest.mark.parametrize("said", [said for said in LIVED_THROUGH.values() if "Traceback" not in said])
def test_an_end_from_outside_has_no_cause_in_it(said: str) -> None:
    log = said + "\n" + STARTED + "(APIServer pid=1) INFO:     Application startup complete.\n"

    found = diagnose_log(
        log + "(APIServer pid=1) INFO 11-20 11:00:00 [launcher.py:254] [shutdown] API server: shutdown triggered\n", 143
    )

    assert found.reason is Reason.ServerCrashed
    assert "asked to stop" in found.message


@pytest.mark.parametrize(
    ("end", "code", "reason"),
    [
        (
            "usage: vllm serve [model_tag] [options]\nvllm serve: error: unrecognized arguments: --swap-space 4\n",
            2,
            "InvalidArgument",
        ),
        (
            STARTED + "(APIServer pid=1) INFO 11-20 10:01:00 [model.py:733] Resolved architecture: LlamaForCausalLM\n",
            137,
            "ServerCrashed",
        ),
        (
            STARTED + "(APIServer pid=1) INFO 11-20 10:01:00 [model.py:733] Resolved architecture: LlamaForCausalLM\n",
            143,
            "ServerCrashed",
        ),
        (STARTED, 1, "KVCacheTooSmall"),
    ],
    ids=["arguments that cannot be read", "killed", "stopped", "a start that has only begun"],
)
def test_an_earlier_start_in_the_same_log_is_not_the_cause_of_the_last_ones_end(
    end: str, code: int, reason: str
) -> None:
    assert diagnose_log(STARTED + FAILED.format(error=TOO_SMALL) + end, code).reason == reason


def test_what_the_driver_said_before_is_why_there_is_no_gpu() -> None:
    log = (
        "Failed to initialize NVML: Unknown Error\n"
        + STARTED
        + FAILED.format(error="RuntimeError: Failed to infer device type")
    )

    assert "NVML" in diagnose_log(log, 1).message

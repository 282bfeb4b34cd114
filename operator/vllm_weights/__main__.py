"""`python -m vllm_weights inspect|pull|prepare|clear`: all input by environment, the answer as the termination message.

Ends with 0, with 1 where the same try may succeed later, with 3 where somebody has to change something first.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from vllm_weights import limits, termination
from vllm_weights.failure import Reason, WeightsError
from vllm_weights.inspection import inspect
from vllm_weights.node import clear, prepare
from vllm_weights.progress import Progress, served
from vllm_weights.pull import Pull
from vllm_weights.request import parse
from vllm_weights.tokens import without_secrets

DEFAULT_PROGRESS_PORT = 8079
DEFAULT_PROGRESS_FILE = "/tmp/vllm-weights-progress.json"
LONGEST_INSPECTION_SECONDS = 60.0
"""Of a handful of requests. Each has its own limits, but for a hub that sends a byte now and then."""
EXIT_RETRY = 1
EXIT_PERMANENT = 3
MOST_OPEN_FILES = 65536
"""Two a file of the model; a soft limit of 1,024 is too few for the largest."""


def main(argv: list[str] | None = None) -> int:
    """Runs the command and says how it ended; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    environment = os.environ
    try:
        answer = _run(arguments, environment)
    except WeightsError as error:
        termination.write(error.as_json(), environment)
        return EXIT_RETRY if error.retry else EXIT_PERMANENT
    except (SystemExit, KeyboardInterrupt):
        raise
    except ImportError as error:
        print(without_secrets(traceback.format_exc(), environment), file=sys.stderr, flush=True)
        remedy = "The image of the weights program lacks this, or it does not fit: set images.weights of the platform's settings to a whole one."
        incomplete = WeightsError(Reason.DOWNLOAD_FAILED, f"{type(error).__name__}: {error}.", remedy, is_final=True)
        termination.write(incomplete.as_json(), environment)
        return EXIT_PERMANENT
    except BaseException as error:  # The last resort: still one JSON answer, and the traceback in the log.
        print(without_secrets(traceback.format_exc(), environment), file=sys.stderr, flush=True)
        remedy = "Look at the log of this container, and report it."
        failure = limits.of_threads(error) or WeightsError(
            Reason.DOWNLOAD_FAILED, f"{type(error).__name__}: {error}", remedy
        )
        termination.write(failure.as_json() | {"excerpt": _where(error)}, environment)
        return EXIT_RETRY
    termination.write(answer, environment)
    return 0


def _where(error: BaseException) -> str:
    """The frame that it was raised in, and what it says."""
    frames = traceback.extract_tb(error.__traceback__)[-1:]
    return "\n".join(
        [*(f"{frame.filename}:{frame.lineno} in {frame.name}: {frame.line}" for frame in frames), repr(error)]
    )


def _run(arguments: list[str], environment: Mapping[str, str]) -> dict[str, Any]:
    if arguments not in (["inspect"], ["pull"], ["prepare"], ["clear"]):
        raise WeightsError(
            Reason.INVALID_ARGUMENT,
            f"The command is inspect, pull, prepare or clear, not {' '.join(arguments) or 'nothing'}.",
            "Run python -m vllm_weights inspect, or pull.",
        )
    if arguments in (["prepare"], ["clear"]):
        return prepare(environment) if arguments == ["prepare"] else clear(environment)
    requests, as_list = parse(environment)
    progress = Progress()
    signal.signal(signal.SIGTERM, partial(_end_now, progress))
    if arguments == ["inspect"]:
        with _given_up_after(LONGEST_INSPECTION_SECONDS):
            return inspect(requests, as_list, environment)
    _allow_open_files()
    file = Path(environment.get("PROGRESS_FILE") or DEFAULT_PROGRESS_FILE)
    with served(progress, int(environment.get("PROGRESS_PORT") or DEFAULT_PROGRESS_PORT)):
        return Pull(environment, progress, file).run(requests, as_list)


def _end_now(progress: Progress, _signal: int, _frame: FrameType | None) -> None:
    """In a thread of its own: the signal may meet this one in the middle of a line that it prints."""
    threading.Thread(target=_end, args=(progress,), daemon=True).start()


def _end(progress: Progress) -> None:
    """Nothing needs saving: what was counted is on the disk."""
    message, remedy = "The pod was told to end.", "The next try goes on where this one stopped."
    if progress.phase == "waiting":
        message = "The pod was told to end while it waited: another pull of the same destination holds its lock."
        remedy = (
            "The next try goes on with what that one has brought. Where no such pull runs, a pod or a node that is gone still holds the "
            "lock: find who has the volume mounted, and end it."
        )
    error = WeightsError(Reason.DOWNLOAD_FAILED, message, remedy)
    termination.write(error.as_json(), os.environ)
    os._exit(EXIT_RETRY)


@contextmanager
def _given_up_after(seconds: float) -> Iterator[None]:
    """Ends the process when the block takes longer."""

    def give_up() -> None:
        error = WeightsError(
            Reason.HUB_UNREACHABLE,
            f"The source did not answer in whole within {seconds:.0f} s.",
            "Check the network on the way to it, its status page, and whether a proxy is what is slow.",
        )
        termination.write(error.as_json(), os.environ)
        os._exit(EXIT_RETRY)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _allow_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_OPEN_FILES if hard == resource.RLIM_INFINITY else min(MOST_OPEN_FILES, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def console() -> None:
    """Ends the process at once, also where a worker hangs in a silent connection."""
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    console()

"""Limits of the pod or its node that a library meets in words of its own."""

from __future__ import annotations

import re

from vllm_weights.failure import Reason, WeightsError

_NO_THREAD = re.compile(r"can't start new thread|can.t spawn (?:worker )?thread|failed to spawn thread|os error 11\b")


def of_threads(error: BaseException) -> WeightsError | None:
    """DownloadFailed where no thread could be begun, whatever was being done; None for any other error."""
    if not _NO_THREAD.search(str(error)):
        return None
    return WeightsError(
        Reason.DOWNLOAD_FAILED,
        f"The pod may have no more processes and threads: {error}.",
        "It is tried again. Where it stays so, have the limit raised (podPidsLimit of the kubelet, the node's own; an old container runtime's "
        "seccomp profile refuses them, too), or lower `download.parallelism`.",
    )

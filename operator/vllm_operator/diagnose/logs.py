"""From a log, of a server or of a Job, as somebody has it, to the failure that it shows."""

from vllm_operator.diagnose.collected import collected, of_each_pod
from vllm_operator.diagnose.crash import judge
from vllm_operator.diagnose.downloads import (
    from_weights_log,
    is_cut_download,
    of_a_download,
    of_a_download_that_went_well,
)
from vllm_operator.diagnose.failure import Failure
from vllm_operator.diagnose.log import gather
from vllm_operator.diagnose.reasons import Reason


def diagnose_log(text: object, exit_code: int | None = None) -> Failure:
    """The failure a log shows; `ServerCrashed` with an excerpt when no rule knows it. Takes any text or bytes, never raises."""
    found = [_of_one(log, exit_code) for log in of_each_pod(collected(text))]
    return next((failure for failure in found if failure.reason is not Reason.ServerCrashed), found[-1])


def _of_one(raw: str, exit_code: int | None) -> Failure:
    said = from_weights_log(raw, exit_code) or (None if exit_code else of_a_download_that_went_well(raw))
    if said is None and is_cut_download(raw, exit_code):
        said = of_a_download(raw, exit_code)
    if said is not None:
        return said.on("", exit_code)
    return judge(gather(raw, exit_code), exit_code).on("", exit_code)

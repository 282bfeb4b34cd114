"""From what a failed pod, Job, claim or log shows to one reason, one sentence and one remedy. Pure: no cluster, no clock."""

from vllm_operator.diagnose.crash import fatal_while_starting
from vllm_operator.diagnose.failure import Failure, failure, masked
from vllm_operator.diagnose.logs import diagnose_log
from vllm_operator.diagnose.pods import FOLDER_IS_GONE, look_at_pod
from vllm_operator.diagnose.podstate import SERVERS
from vllm_operator.diagnose.reasons import MEANINGS, Meaning, Reason
from vllm_operator.diagnose.rules import prepare
from vllm_operator.diagnose.scheduling import rollout_waits
from vllm_operator.diagnose.workloads import (
    look_at_adapter_answer,
    look_at_answer,
    look_at_claim,
    look_at_deployment,
    look_at_job,
)

__all__ = [
    "FOLDER_IS_GONE",
    "MEANINGS",
    "SERVERS",
    "Failure",
    "Meaning",
    "Reason",
    "diagnose_log",
    "failure",
    "fatal_while_starting",
    "look_at_adapter_answer",
    "look_at_answer",
    "look_at_claim",
    "look_at_deployment",
    "look_at_job",
    "look_at_pod",
    "masked",
    "prepare",
    "rollout_waits",
]

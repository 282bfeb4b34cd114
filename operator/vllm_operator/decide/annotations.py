"""The annotations that decisions read and write; those that plans write have their home in `plan.labels`."""

from __future__ import annotations

from typing import Final

from vllm_operator.plan.labels import (
    COMMITS_ANNOTATION as COMMITS,
)
from vllm_operator.plan.labels import (
    IGNORE_FIT_ANNOTATION as IGNORE_FIT,
)
from vllm_operator.plan.labels import (
    MADE_WITH_ANNOTATION as MADE_WITH,
)
from vllm_operator.plan.labels import (
    REFRESH_ANNOTATION as REFRESH,
)
from vllm_operator.plan.labels import (
    TEMPLATE_ANNOTATION as TEMPLATE,
)
from vllm_operator.plan.labels import (
    WANTED_ANNOTATION as WANTED,
)

# On the Deployment: the version (WANTED's value) that failed for good and stands at zero.
STOPPED: Final = "vllm-operator.dev/stopped"
# On the Deployment: the version (WANTED's value) that stands at zero because its weights are gone and fetched anew.
AWAITS_WEIGHTS: Final = "vllm-operator.dev/awaits-weights"
# On the inspection's Job: its answer, which thereby outlives the pod.
RESULT: Final = "vllm-operator.dev/result"

__all__ = ["AWAITS_WEIGHTS", "COMMITS", "IGNORE_FIT", "MADE_WITH", "REFRESH", "RESULT", "STOPPED", "TEMPLATE", "WANTED"]

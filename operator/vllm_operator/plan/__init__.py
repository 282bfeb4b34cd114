"""From a VLLMModel and the platform's settings to everything that must exist for it.

Pure: same model and settings, same plan. `plan_model` never raises for a model that was parsed; what is wrong is in
`problems`. What the inspection found is passed on by hand: `plan_weights(plan, answer)`, `plan_server(plan, weights)`.
"""

from vllm_operator.plan.adapters import plan_adapter_pull
from vllm_operator.plan.jobs import pinned_commit
from vllm_operator.plan.model import plan_model
from vllm_operator.plan.server import plan_server
from vllm_operator.plan.types import (
    AdapterPlan,
    AdapterPullPlan,
    ClaimPlan,
    ConfigMapPlan,
    DeploymentPlan,
    FolderJobPlan,
    JobPlan,
    NodesPlan,
    Plan,
    Problem,
    ProblemReason,
    ServerPlan,
    ServicePlan,
    VolumePlan,
    WeightsPlan,
)
from vllm_operator.plan.wanted import wanted
from vllm_operator.plan.weights import plan_weights

__all__ = [
    "AdapterPlan",
    "AdapterPullPlan",
    "ClaimPlan",
    "ConfigMapPlan",
    "DeploymentPlan",
    "FolderJobPlan",
    "JobPlan",
    "NodesPlan",
    "Plan",
    "Problem",
    "ProblemReason",
    "ServerPlan",
    "ServicePlan",
    "VolumePlan",
    "WeightsPlan",
    "pinned_commit",
    "plan_adapter_pull",
    "plan_model",
    "plan_server",
    "plan_weights",
    "wanted",
]

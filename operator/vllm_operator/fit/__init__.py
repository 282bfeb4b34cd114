"""Does a model fit a GPU? A pure answer from config.json, the weights' size, engine arguments and the accelerator.

    verdict = judge(config, WeightsSummary(16_060_522_240), Arguments(max_model_len=131072), accelerators()["nvidia-l4"])

Every number is per GPU; formulas stand in the docstrings of `weights`, `cache` and `overhead`.
"""

from vllm_operator.fit.hardware import accelerators
from vllm_operator.fit.judge import judge
from vllm_operator.fit.values import Accelerator, Arguments, Budget, Problem, Reason, Verdict, WeightsSummary

__all__ = [
    "Accelerator",
    "Arguments",
    "Budget",
    "Problem",
    "Reason",
    "Verdict",
    "WeightsSummary",
    "accelerators",
    "judge",
]

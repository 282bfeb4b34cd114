"""vLLM's flags: those of each known release, whose they are, and what `extraArgs` may not hold."""

from vllm_operator.plan.flags.problems import extra_args_problems, field_problems, may_mean
from vllm_operator.plan.flags.refusals import Refusal, flag_name, refusals
from vllm_operator.plan.flags.releases import (
    RELEASES,
    known_flags,
    known_keys,
    known_names,
    release_of,
    tagged_release,
)

__all__ = [
    "RELEASES",
    "Refusal",
    "extra_args_problems",
    "field_problems",
    "flag_name",
    "known_flags",
    "known_keys",
    "known_names",
    "may_mean",
    "refusals",
    "release_of",
    "tagged_release",
]

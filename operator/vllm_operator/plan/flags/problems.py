"""What stands against a model's `extraArgs`, as problems of its plan.

The CRD refuses most of it at the API server; this holds for objects that were stored before a rule was there, for flags
that a known release of vLLM does not have, and for flags that the platform keeps to itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vllm_operator.plan.flags.refusals import flag_name, is_flag, refusals
from vllm_operator.plan.flags.releases import release_of
from vllm_operator.plan.types import Problem, ProblemReason

_REMEDY = "Change extraArgs as the message says, or leave it out."


def may_mean(word: str, flag: str) -> bool:
    """Whether vLLM's parser could take the word for that flag: any spelling, any unambiguous beginning."""
    name = flag_name(word)
    return is_flag(word) and len(name) > len("--") and flag.startswith(name)


def extra_args_problems(extra_args: Sequence[str], image: str, kept: Iterable[str] = ()) -> list[Problem]:
    """One problem for each refused word. `kept` are flags that the platform sets itself."""
    found = [f"extraArgs: {refusal.message}." for refusal in refusals(extra_args, release_of(image))]
    found += [
        f'extraArgs: "{word}": the platform sets {flag}.'
        for flag in kept
        for word in extra_args
        if may_mean(word, flag)
    ]
    return [Problem(ProblemReason.INVALID_SPEC, message, _REMEDY) for message in found]

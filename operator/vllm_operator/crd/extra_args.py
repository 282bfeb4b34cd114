"""The CEL rules of `extraArgs`, made from the flag tables: each refused flag gets its own answer at the API server.

They hold for every image, so they say nothing of flags that exist in no table; the plan does, for known releases.
"""

from __future__ import annotations

import json

from vllm_operator.plan.flags.owners import FORBIDDEN_TEXT
from vllm_operator.plan.flags.refusals import (
    answers,
    free_aliases,
    free_flags_inside_refused,
    refused_aliases,
)

# What CEL makes of one word: the name of its flag, with vLLM's dashes; CEL has no variables, a list of one serves.
_FLAG = "self.split('=')[0].split('.')[0]"
_NAME = f"{_FLAG}.replace('_', '-')"
_SHORT = "self.startsWith('-') && !self.startsWith('--') && self != '-' && !self.matches('^-[0-9]+[kKmMgGtT]?$')"


def extra_args_rules() -> list[dict[str, str]]:
    """The rules of the list `spec.extraArgs`."""
    return [
        {
            "rule": "size(self) == 0 || self[0].startsWith('-')",
            "message": 'extraArgs: begin with a flag, such as "--max-logprobs=5"',
        }
    ]


def extra_arg_rules() -> list[dict[str, str]]:
    """The rules of each word of `spec.extraArgs`."""
    return [_named(), _begun(), _short(), *_forbidden()]


def _named() -> dict[str, str]:
    """A refused flag, by its whole name: the message takes the answer from the map."""
    table = _cel(dict(sorted(answers().items())))
    return {
        "rule": f"!self.startsWith('--') || !({_NAME} in {_cel(sorted(answers()))})",
        "message": "extraArgs: a flag that a field owns, that the operator sets or that is refused",
        "messageExpression": f"'extraArgs: ' + {_NAME} + ' ' + {table}[{_NAME}]",
    }


def _begun() -> dict[str, str]:
    """The beginning of a refused flag, which vLLM's parser takes for the whole."""
    names = _cel(sorted(flag for flag in answers() if not answers()[flag].startswith("does not exist")))
    whole = free_flags_inside_refused()
    free = f" || n in {_cel(list(whole))}" if whole else ""
    # A whole name can begin another refused one (--tokenizer, --tokenizer-mode): the rule above answers it.
    begun = f"{names}.exists(f, f.startsWith(n) && f != n)"
    return {
        "rule": f"!self.startsWith('--') || [{_NAME}].all(n, !{begun}{free})",
        "message": "extraArgs: the beginning of a flag that a field owns or that is refused; write flags in full",
    }


def _short() -> dict[str, str]:
    table = _cel(dict(sorted(refused_aliases().items())))
    unknown = "is no flag; write flags long, and negative values behind a ="
    return {
        "rule": f"!({_SHORT}) || {_FLAG} in {_cel(list(free_aliases()))}",
        "message": "extraArgs: write flags in their long spelling",
        "messageExpression": f"'extraArgs: ' + {_FLAG} + ' ' + ({_FLAG} in {table} ? {table}[{_FLAG}] : '{unknown}')",
    }


def _forbidden() -> list[dict[str, str]]:
    texts = dict(FORBIDDEN_TEXT) | {"$(": "Kubernetes would expand it; write the value itself"}
    return [
        {"rule": f"!self.contains({_cel(text)})", "message": f'extraArgs: "{text}": {reason}'}
        for text, reason in texts.items()
    ] + [
        {"rule": "!(self in ['--', '-']) && !self.startsWith('---')", "message": "extraArgs: -- alone is no flag"},
    ]


def _cel(value: object) -> str:
    """A CEL literal: JSON's lists, maps and strings are CEL's, too."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True)

"""The truths that hold between fields, as the CRD's CEL rules: a dry run refuses what breaks one, and says what to do.

A rule belongs to a place in the object (`spec`, `spec.cache`, `spec.env[]`) and may name the field that it blames.
Rules about `extraArgs` are made from the flag tables, in crd/.
"""

from __future__ import annotations

from collections.abc import Mapping

from vllm_operator.api.old_names import OLD_FIELDS, OLD_OVERRIDES, OLD_VALUES
from vllm_operator.api.rules import arguments, environment, kubernetes, weights
from vllm_operator.api.rules.rule import Rule

__all__ = ["NAME_LIMIT", "RULES", "Rule"]

NAME_LIMIT = 45  # "inspect-", a hash and a pod's suffix must fit beside it into 63 characters

ROOT_RULES = (
    Rule(
        f"size(self.metadata.name) <= {NAME_LIMIT}",
        f"metadata.name has at most {NAME_LIMIT} characters, because names of other objects are made from it",
    ),
    Rule(
        "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "metadata.name begins with a letter and holds letters, digits and dashes only, because a Service gets it",
    ),
)

_OLD = (
    *(Rule(f"!has(self.{name})", f"{name}: {old.answer}", name) for name, old in OLD_FIELDS.items()),
    *(
        Rule(f"!has(self.{field}) || self.{field} != '{value}'", f"{field}: {value}: {answer}", field)
        for field, answers in OLD_VALUES.items()
        for value, answer in answers.items()
    ),
)

SPEC_RULES = (
    *_OLD,
    *weights.SOURCES,
    *weights.CACHE_AND_SOURCE,
    *arguments.ENGINE,
    *arguments.LORA_RULES,
    *arguments.SERVER,
)

# By place. "[]" stands for the items of a list.
RULES: Mapping[str, tuple[Rule, ...]] = {
    "": ROOT_RULES,
    "spec": SPEC_RULES,
    "spec.model": (weights.SOURCE,),
    "spec.tokenizer": (weights.SOURCE,),
    "spec.adapterCache": weights.ADAPTER_CACHE,
    "spec.adapters[]": weights.ADAPTER,
    "spec.adapters[].source": (weights.SOURCE,),
    "spec.cache": weights.CACHE,
    "spec.chatTemplate": arguments.TEMPLATE,
    "spec.download.include[]": (weights.GLOB,),
    "spec.download.exclude[]": (weights.GLOB,),
    "spec.env[]": environment.ENV,
    "spec.overrideGenerationConfig": tuple(
        Rule(f"!has(self.{name})", f"overrideGenerationConfig.{name}: {old.answer}", name)
        for name, old in OLD_OVERRIDES.items()
    ),
    "spec.pod": kubernetes.POD,
    "spec.pod.tolerations[]": kubernetes.TOLERATION,
    "spec.resources": kubernetes.RESOURCES,
    "spec.rollout": kubernetes.ROLLOUT,
}

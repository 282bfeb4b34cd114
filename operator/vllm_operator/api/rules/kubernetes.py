"""Rules about pods: keys that are not for users, resources, tolerations, rollout."""

from __future__ import annotations

from vllm_operator.api.rules.rule import Rule, needs

_RESERVED_LABELS = (
    *("vllm-operator.dev/", "app.kubernetes.io/", "batch.kubernetes.io/", "kubernetes.io/"),
    *("pod-template-hash", "controller-uid", "job-name", "pod-security.kubernetes.io/"),
)
# Istio's user volumes mount what the operator's pods must not: folders of the node.
_RESERVED_ANNOTATIONS = (
    *("vllm-operator.dev/", "kopf.", "kubernetes.io/", "sidecar.istio.io/user"),
    *("container.apparmor.security.beta.kubernetes.io/", "seccomp.security.alpha.kubernetes.io/"),
)


def _none_begins(field: str, prefixes: tuple[str, ...], message: str) -> Rule:
    listed = ", ".join(f"'{prefix}'" for prefix in prefixes)
    begins = f"self.{field}.all(k, ![{listed}].exists(p, k.startsWith(p)))"
    return Rule(f"!has(self.{field}) || {begins}", message, field)


_KEY = "'^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$'"
POD = (
    _none_begins(
        "labels", _RESERVED_LABELS, "pod.labels: this prefix is the operator's or Kubernetes' own; choose another"
    ),
    _none_begins("annotations", _RESERVED_ANNOTATIONS, "pod.annotations: this prefix is not for users; choose another"),
    *(
        Rule(
            f"!has(self.{field}) || self.{field}.all(k, size(k) <= 317 && k.matches({_KEY}))",
            f"pod.{field}: a key is a name with an optional domain: example.org/team",
            field,
        )
        for field in ("labels", "annotations", "nodeSelector")
    ),
)

RESOURCES = (
    *(
        Rule(
            f"!has(self.{field}) || self.{field}.all(k, k in ['cpu', 'memory', 'ephemeral-storage'])",
            f"resources.{field}: only cpu, memory and ephemeral-storage; devices follow from accelerator and the parallel sizes",
            field,
        )
        for field in ("requests", "limits")
    ),
    Rule(
        "!has(self.requests) || !has(self.limits) || self.requests.all(k, !(k in self.limits) || "
        "!isQuantity(string(self.requests[k])) || !isQuantity(string(self.limits[k])) || "
        "quantity(string(self.requests[k])).compareTo(quantity(string(self.limits[k]))) <= 0)",
        "resources.requests: a request is at most its limit",
        "requests",
    ),
)

TOLERATION = (
    Rule(
        "!has(self.value) || !has(self.operator) || self.operator != 'Exists'",
        "pod.tolerations: operator Exists takes no value",
    ),
    Rule(
        "has(self.key) || has(self.operator) && self.operator == 'Exists'",
        "pod.tolerations: without key, operator must be Exists",
    ),
    Rule(
        "!has(self.tolerationSeconds) || has(self.effect) && self.effect == 'NoExecute'",
        "pod.tolerations: tolerationSeconds belongs to effect NoExecute",
    ),
)

ROLLOUT = (
    *(
        needs(
            field,
            "!(has(self.strategy) && self.strategy == 'Recreate')",
            f"rollout.{field}: strategy Recreate stops the old server first; leave it out",
        )
        for field in ("maxSurge", "maxUnavailable")
    ),
    Rule(
        "!has(self.maxSurge) || !has(self.maxUnavailable) || !(string(self.maxSurge) in ['0', '0%']) || "
        "!(string(self.maxUnavailable) in ['0', '0%'])",
        "rollout.maxSurge: 0 together with maxUnavailable 0 leaves no way to replace a pod",
        "maxSurge",
    ),
)

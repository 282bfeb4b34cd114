"""Rules about where weights come from and where they lie."""

from __future__ import annotations

from vllm_operator.api.rules.rule import Rule, needs, wants
from vllm_operator.api.source import SOURCE_FORMS, SOURCE_PATTERN

_MOUNTED = "(self.model.startsWith('pvc://') || self.model.startsWith('oci://') || self.model.startsWith('file://'))"
_HUB = "(self.model.startsWith('hf://') || self.model.startsWith('modelscope://') || !self.model.contains('://'))"
_CLAIM = "(!has(self.type) || self.type == 'PersistentVolumeClaim')"

_AT_LEAST_A_MEBIBYTE = (
    "!has(self.size) || !isQuantity(string(self.size)) || quantity(string(self.size)).compareTo(quantity('1Mi')) >= 0"
)

SOURCE = Rule(f"self.matches('{SOURCE_PATTERN}')", f"a source is written {SOURCE_FORMS}")

SOURCES = (
    needs("revision", _HUB, "revision: only hf:// and modelscope:// sources have revisions"),
    needs(
        "revision", "!self.model.contains('@')", "revision: model names one already, behind its @; keep one of the two"
    ),
    needs(
        "tokenizerRevision", "has(self.tokenizer)", "tokenizerRevision: needs tokenizer; revision is the model's own"
    ),
    needs(
        "tokenizerRevision",
        "!has(self.tokenizer) || !self.tokenizer.contains('@')",
        "tokenizerRevision: tokenizer names one already, behind its @; keep one of the two",
    ),
    needs(
        "codeRevision",
        "(has(self.trustRemoteCode) && self.trustRemoteCode)",
        "codeRevision: needs trustRemoteCode: true, for there is no other code to take",
    ),
    *(
        needs(
            field,
            "!has(self.cache) || !has(self.cache.type) || self.cache.type != 'ExistingClaim'",
            f"{field}: with cache.type ExistingClaim nothing is downloaded; the claim holds what it holds",
        )
        for field in ("revision", "download")
    ),
    needs("download", f"!{_MOUNTED}", "download: nothing is downloaded from pvc://, oci:// and file:// sources"),
    needs(
        "tokenSecretRef",
        f"{_HUB} || has(self.tokenizer) || has(self.speculativeConfig) || has(self.adapters) && self.adapters.exists(a, "
        "a.source.startsWith('hf://') || a.source.startsWith('modelscope://') || !a.source.contains('://'))",
        "tokenSecretRef: is for hubs (hf://, modelscope://), and nothing here comes from one",
    ),
    needs(
        "credentialsSecretRef",
        "[self.model].exists(m, m.startsWith('s3://') || m.startsWith('gs://')) || has(self.adapters) && "
        "self.adapters.exists(a, a.source.startsWith('s3://') || a.source.startsWith('gs://')) || "
        "has(self.tokenizer) && (self.tokenizer.startsWith('s3://') || self.tokenizer.startsWith('gs://')) || "
        "has(self.speculativeConfig) && has(self.speculativeConfig.model) && "
        "(self.speculativeConfig.model.startsWith('s3://') || self.speculativeConfig.model.startsWith('gs://'))",
        "credentialsSecretRef: is for s3:// and gs:// sources; the hub's token goes into tokenSecretRef",
    ),
)

CACHE_AND_SOURCE = (
    *(
        Rule(f"!has(self.cache) || !has(self.cache.type) || {condition}", message, "cache.type")
        for condition, message in (
            (
                "self.cache.type != 'Image' || self.model.startsWith('oci://')",
                "cache.type: Image is for oci://image@sha256:digest sources",
            ),
            (
                "!self.model.startsWith('oci://') || self.cache.type == 'Image'",
                "cache.type: an oci:// source is mounted as an image; use Image, or leave it out",
            ),
            (
                f"self.cache.type != 'ExistingClaim' || {_HUB} || self.model.startsWith('pvc://')",
                "cache.type: ExistingClaim is read and never written: model is a repository that lies in it by its name, org/name",
            ),
            (
                "!self.model.startsWith('pvc://')",
                "cache.type: a pvc:// source is a volume already and needs no cache; leave it out",
            ),
            (
                "!self.model.startsWith('file://') || self.cache.type == 'Node'",
                "cache.type: a file:// source lies on the node; use Node, or leave it out",
            ),
        )
    ),
    *(
        Rule(
            f"!has(self.cache) || !has(self.cache.{field}) || !{_MOUNTED}",
            f"cache.{field}: the source is mounted as it is; no volume is made for it",
            f"cache.{field}",
        )
        for field in ("size", "storageClassName", "accessModes", "retain", "claimName")
    ),
)

CACHE = (
    needs(
        "claimName",
        "has(self.type) && self.type == 'ExistingClaim'",
        "cache.claimName: belongs to type ExistingClaim",
    ),
    Rule(
        "!has(self.type) || self.type != 'ExistingClaim' || has(self.claimName)",
        "cache.claimName: type ExistingClaim needs it",
        "claimName",
    ),
    *(
        needs(field, _CLAIM, f"cache.{field}: belongs to type PersistentVolumeClaim")
        for field in ("size", "storageClassName", "accessModes")
    ),
    needs(
        "retain",
        "!has(self.type) || self.type in ['PersistentVolumeClaim', 'Node']",
        "cache.retain: belongs to the types PersistentVolumeClaim and Node",
    ),
    wants(
        "compileCache",
        "!has(self.type) || !(self.type in ['None', 'Image', 'ExistingClaim'])",
        "cache.compileCache: needs a volume that may be written; use another type",
    ),
    Rule(
        _AT_LEAST_A_MEBIBYTE,
        "cache.size: at least 1Mi; a number alone is bytes, so write the unit: 100Gi",
        "size",
    ),
)

ADAPTER_CACHE = (
    Rule(
        _AT_LEAST_A_MEBIBYTE,
        "adapterCache.size: at least 1Mi; a number alone is bytes, so write the unit: 10Gi",
        "size",
    ),
)

ADAPTER = (
    needs(
        "revision",
        "self.source.startsWith('hf://') || self.source.startsWith('modelscope://') || !self.source.contains('://')",
        "adapters[].revision: only hf:// and modelscope:// sources have revisions",
    ),
    needs(
        "revision",
        "!self.source.contains('@')",
        "adapters[].revision: source names one already, behind its @; keep one of the two",
    ),
)

GLOB = Rule("!self.contains('..')", "download: a pattern cannot climb out of the repository with ..")

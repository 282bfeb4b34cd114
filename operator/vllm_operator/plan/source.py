"""What follows from where a model lies: its everyday name, its exact address, and who may use it.

The grammar itself is the API's (`vllm_operator.api.source`): the CRD and the plan read the same text alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from vllm_operator.api.source import Scheme, Source, parse_source

BUCKETS = frozenset({Scheme.S3, Scheme.GS})
HUBS = frozenset({Scheme.HF, Scheme.MODELSCOPE})

__all__ = ["BUCKETS", "HUBS", "Scheme", "Source", "everyday_name", "is_allowed", "parse_source"]


def everyday_name(source: Source) -> str:
    """What people call the model: the repository id, else the last piece of the path, claim or image (no tag, no digest)."""
    if source.scheme in HUBS:
        return source.name
    if source.scheme is Scheme.OCI:
        return source.name.split("@")[0].rsplit("/", 1)[-1].split(":")[0]
    return source.path.rsplit("/", 1)[-1] or source.name


def is_allowed(source: Source, globs: Sequence[str]) -> bool:
    """Whether the platform's `policy.allowedSources` admit it. No globs admit every source.

    A glob is matched against the full address and, for the Hugging Face hub, against the bare `org/name`, too.
    """
    forms = [source.uri, source.name] if source.scheme is Scheme.HF else [source.uri]
    return not globs or any(fnmatchcase(form, glob) for form in forms for glob in globs)

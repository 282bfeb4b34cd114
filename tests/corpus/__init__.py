"""Objects that a release accepted, kept as they were: the next release must accept them, and must not restart their servers.

One file a release, written once by `python -m tests.corpus RELEASE` and never changed afterwards. Each entry has the object's metadata
and spec, and the hash of what it wants: another hash for the same object would restart its servers at an upgrade.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from vllm_operator.api import API_VERSION, KIND, VLLMModel
from vllm_operator.plan import wanted

HERE = Path(__file__).parent
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def wanted_of(body: dict[str, Any]) -> str:
    """The hash of what an object wants, at a fixed commit."""
    metadata = {"namespace": "default", "uid": "u", **body["metadata"]}
    return wanted(VLLMModel.model_validate({**body, "metadata": metadata}), COMMIT)


@cache
def kept() -> dict[str, dict[str, Any]]:
    """Every kept entry, by release and name."""
    found = {}
    for file in sorted(HERE.glob("*.yaml")):
        for name, entry in yaml.safe_load(file.read_text("utf-8")).items():
            found[f"{file.stem}: {name}"] = entry
    return found


def body_of(entry: dict[str, Any]) -> dict[str, Any]:
    """The object of an entry."""
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": entry["metadata"], "spec": entry["spec"]}

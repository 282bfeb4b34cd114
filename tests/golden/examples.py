"""Every example of the CRD as manifests, with a canned answer of the inspection: what is in tests/golden/."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.golden.canned import answer_to, settings
from vllm_operator.api import VLLMModel, parse_strict
from vllm_operator.plan import plan_model
from vllm_operator.plan.manifests import manifests

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "crds" / "examples").glob("*.yaml"))
GOLDEN = ROOT / "tests" / "golden"
# Three examples show what a platform has to allow, or to offer.
GIVEN = settings(
    policy={"allowNodePaths": True, "allowLiveAdapters": True},
    nodeCache={"path": "/var/lib/vllm-operator/weights"},
)
SMALL = 500_000_000  # what a model for a CPU weighs


def models_of(path: Path) -> list[VLLMModel]:
    """The VLLMModels of an example, with the uid that a cluster would give."""
    documents = yaml.load_all(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    found = [document for document in documents if document and document.get("kind") == "VLLMModel"]
    for document in found:
        document["metadata"] = {"namespace": "demo", "uid": "00000000-0000-0000-0000-000000000001"} | document[
            "metadata"
        ]
    return [parse_strict(document) for document in found]


@cache
def rendered(path: Path) -> list[dict[str, Any]]:
    """All objects of an example, in the order in which the operator makes them."""
    objects: list[dict[str, Any]] = []
    for model in models_of(path):
        plan = plan_model(model, GIVEN)
        size = {"size": SMALL} if model.spec.accelerator == "cpu" else {}
        objects += manifests(model, GIVEN, answer_to(plan, **size))
    return objects


def as_text(objects: list[dict[str, Any]]) -> str:
    """The objects as a golden file has them."""
    return str(yaml.dump_all(objects, Dumper=yaml.CSafeDumper, sort_keys=False, width=140, allow_unicode=True))

"""The chat template as a file in the server's pod: from the spec by way of a ConfigMap of ours, or from the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vllm_operator.api import VLLMModel
from vllm_operator.plan.labels import model_labels, owner_of
from vllm_operator.plan.names import digest, short_name
from vllm_operator.plan.types import ConfigMapPlan
from vllm_operator.settings import Settings

FILE = "chat-template.jinja"
FOLDER = "/etc/vllm-chat-template"


@dataclass(frozen=True, slots=True)
class Template:
    """Where the template is, and what must exist for it."""

    path: str
    volume: Mapping[str, Any]
    mount: Mapping[str, Any]
    config_map: ConfigMapPlan | None


def chat_template(model: VLLMModel, settings: Settings) -> Template | None:
    """The template of a model, None where the tokenizer's own is used."""
    wish = model.spec.chat_template
    if wish is None:
        return None
    if wish.inline is not None:
        config_map = _config_map(model, settings, wish.inline)
        return _template(config_map.name, FILE, config_map)
    if wish.config_map_key_ref is not None:
        return _template(wish.config_map_key_ref.name, wish.config_map_key_ref.key, None)
    return None


def _template(name: str, key: str, config_map: ConfigMapPlan | None) -> Template:
    volume = {"name": "chat-template", "configMap": {"name": name, "items": [{"key": key, "path": FILE}]}}
    mount = {"name": "chat-template", "mountPath": FOLDER, "readOnly": True}
    return Template(f"{FOLDER}/{FILE}", volume, mount, config_map)


def _config_map(model: VLLMModel, settings: Settings, text: str) -> ConfigMapPlan:
    """Named by its text: another text is another object, so that old pods keep theirs while new ones start."""
    return ConfigMapPlan(
        name=short_name(model.metadata.name, f"-chat-template-{digest(text)}"),
        namespace=model.metadata.namespace,
        labels=model_labels(model.metadata),
        annotations=dict(settings.child_annotations),
        owner=owner_of(model.metadata),
        data={FILE: text},
    )

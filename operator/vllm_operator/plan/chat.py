"""The chat template as a file in the server's pod: from the spec by way of a ConfigMap of ours, or from the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import TemplateSyntaxError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from vllm_operator.api import Spec, VLLMModel
from vllm_operator.plan.labels import model_labels, owner_of
from vllm_operator.plan.names import digest, short_name
from vllm_operator.plan.types import ConfigMapPlan, Problem, ProblemReason
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


class _Generation(Extension):
    """`{% generation %}`, which transformers adds to the language of chat templates."""

    tags = {"generation"}  # noqa: RUF012  jinja2 declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """What stands inside, as if the tag were not there."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


# The language of transformers, which compiles the templates of vLLM. Nothing is rendered here.
_LANGUAGE = ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation]
)


def template_problems(spec: Spec) -> list[Problem]:
    """An inline template that cannot be read: the server would start, and refuse every chat."""
    text = spec.chat_template.inline if spec.chat_template else None
    fault = _fault(text) if text is not None else None
    if fault is None:
        return []
    remedy = "Correct the Jinja template, or leave chatTemplate out to use the tokenizer's own."
    return [Problem(ProblemReason.INVALID_SPEC, f"chatTemplate.inline: {fault}.", remedy)]


@lru_cache(maxsize=64)
def _fault(text: str) -> str | None:
    try:
        _LANGUAGE.parse(text)
    except TemplateSyntaxError as error:
        return f"line {error.lineno}: {(error.message or '').rstrip('.')}"
    except RecursionError:
        return "it is nested too deeply"
    return None


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

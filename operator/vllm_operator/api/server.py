"""The server's arguments: the names, templates, parsers and sampling defaults that clients of a model meet."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from vllm_operator.api.base import Base, Bool, Int, JsonObject, Number
from vllm_operator.api.engine import Word

ServedName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./:@-]*$", max_length=128)]
ObjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=253)]
DataKey = Annotated[str, Field(pattern=r"^[-._a-zA-Z0-9]+$", min_length=1, max_length=253)]
# No process takes an argument or a variable with a zero byte: its container would never start.
_NO_ZERO_BYTE = r"^[^\x00]*$"
ExtraArg = Annotated[str, Field(min_length=1, max_length=1024, pattern=_NO_ZERO_BYTE)]
ModalityCount = Annotated[Int, Field(ge=0, le=100_000)]


class ConfigMapKeyRef(Base):
    """One key of a ConfigMap in the model's namespace."""

    name: ObjectName
    key: DataKey


class ChatTemplate(Base):
    """A Jinja chat template, given here or in a ConfigMap."""

    inline: Annotated[str, Field(min_length=1, max_length=65536)] | None = Field(
        None, description="The template itself."
    )
    config_map_key_ref: ConfigMapKeyRef | None = Field(None, description="The ConfigMap's key that holds it.")


class GenerationOverrides(Base):
    """Sampling defaults that win over the model's generation_config.json: those that each known release reads from there."""

    temperature: Number | None = Field(None, ge=0, le=2, description="0 is greedy.")
    top_p: Number | None = Field(None, gt=0, le=1, description="Smallest set of tokens with this probability.")
    top_k: Int | None = Field(None, ge=-1, le=2**31 - 1, description="Number of likeliest tokens; 0 and -1 mean all.")
    min_p: Number | None = Field(
        None, ge=0, le=1, description="Least probability, as a share of the likeliest token's."
    )
    repetition_penalty: Number | None = Field(None, gt=0, le=2, description="Above 1 punishes what was said before.")
    presence_penalty: Number | None = Field(None, ge=-2, le=2, description="Above 0 favours new tokens.")
    frequency_penalty: Number | None = Field(None, ge=-2, le=2, description="Above 0 punishes frequent tokens.")
    max_new_tokens: Int | None = Field(None, ge=1, le=2**31 - 1, description="Most tokens of an answer.")

    def as_vllm(self) -> dict[str, Any]:
        """The overrides under vLLM's own names, without those that are unset."""
        return self.model_dump(mode="json", exclude_none=True)


class EnvVar(Base):
    """One variable of the server's environment."""

    name: Annotated[str, Field(pattern=r"^[A-Z_][A-Z0-9_]*$", max_length=128)]
    value: Annotated[str, Field(max_length=4096, pattern=_NO_ZERO_BYTE)] = ""


class ServerArguments(Base):
    """Arguments of the server, flat in `spec`."""

    served_model_name: tuple[ServedName, ...] = Field(
        (),
        max_length=8,
        json_schema_extra={"x-kubernetes-list-type": "set"},
        description="Names that clients may ask for; metrics carry the first. Unset: the repository's id.",
    )
    runner: Literal["auto", "generate", "pooling"] | None = Field(
        None, description="generate: text comes out; pooling: embeddings, classes or scores."
    )
    convert: Literal["auto", "none", "embed", "classify"] | None = Field(
        None, description="Turn a text model into one that embeds or classifies."
    )
    limit_mm_per_prompt: dict[Annotated[str, Field(pattern="^[a-z_]+$")], ModalityCount] | None = Field(
        None, max_length=16, description="Most items of a modality in one prompt: image: 2, video: 0."
    )
    mm_processor_kwargs: JsonObject | None = Field(None, description="Arguments of the image or audio processor.")
    mm_processor_cache_gb: Number | None = Field(
        None, ge=0, le=1024, description="GiB of host memory for processed inputs; 0 is off, vLLM's default is 4."
    )
    structured_outputs_config: JsonObject | None = Field(
        None, description="backend: auto, xgrammar, guidance, outlines …, under vLLM's own names."
    )
    reasoning_parser: Word | None = Field(
        None, description="Who cuts the reasoning from the answer: deepseek_r1, qwen3 …."
    )
    tool_call_parser: Word | None = Field(
        None, description="Who reads tool calls: hermes, llama3_json, mistral, openai …."
    )
    enable_auto_tool_choice: Bool | None = Field(None, description="Let the model call tools; needs toolCallParser.")
    chat_template: ChatTemplate | None = Field(None, description="Chat template. Unset: the tokenizer's own.")
    chat_template_content_format: Literal["auto", "string", "openai"] | None = Field(
        None, description="How the template wants a message's content: as text, or as a list of parts."
    )
    generation_config: Literal["auto", "vllm"] | None = Field(
        None, description="Sampling defaults: auto takes the model's generation_config.json, vllm takes neutral ones."
    )
    override_generation_config: GenerationOverrides | None = Field(
        None, description="Sampling defaults that win over both."
    )
    log_level: Literal["debug", "info", "warning", "error"] | None = Field(None, description="What the server logs.")
    enable_log_requests: Bool | None = Field(
        None, description="Log each request's id and parameters; prompts at debug."
    )
    extra_args: tuple[ExtraArg, ...] = Field(
        (),
        max_length=64,
        description='Any other flag of "vllm serve", in its long spelling: "--max-logprobs=5". One that a field owns is refused.',
    )
    env: tuple[EnvVar, ...] = Field(
        (),
        max_length=64,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        description="Variables of the server's environment; the platform says which names are allowed.",
    )

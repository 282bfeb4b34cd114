"""What all types of the API share: names as Kubernetes writes them, frozen values, reading that survives newer CRDs.

Attributes are snake_case, JSON is camelCase with the acronyms that vLLM's users know (`max_lora_rank` is
`maxLoRARank`). Reading ignores unknown fields: the API server is the strict gate, and an older operator must
survive a newer CRD. `parse_strict` is for files that people write.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    Strict,
    model_serializer,
)

from vllm_operator.api.quantity import check_quantity

_ACRONYMS = {"gb": "GB", "lora": "LoRA", "loras": "LoRAs", "cpu": "CPU", "mm": "MM"}


def camel(name: str) -> str:
    """The JSON name of an attribute: `max_cpu_loras` is `maxCPULoRAs`; a leading acronym stays small (`cpuOffloadGB`)."""
    first, *rest = name.split("_")
    return first + "".join(_ACRONYMS.get(word, word.capitalize()) for word in rest)


class Base(BaseModel):
    """A part of the object: frozen, read by its JSON names or by its attributes."""

    model_config = ConfigDict(
        alias_generator=camel,
        populate_by_name=True,
        frozen=True,
        extra="ignore",
        protected_namespaces=(),
        allow_inf_nan=False,
    )

    @model_serializer(mode="wrap")
    def _without_empty(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Empty lists, maps and groups are as good as unset: a field added later changes no older object's dump."""
        return {key: value for key, value in dump(self).items() if value not in ([], (), {})}

    def as_json(self) -> dict[str, Any]:
        """The value as Kubernetes would store it: JSON names, nothing that is unset or empty."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def _whole_number_as_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


# JSON is typed: "8192" is no number and 1 is no bool, as at the API server.
Int = Annotated[int, Strict()]
Number = Annotated[float, Strict()]
Bool = Annotated[bool, Strict()]
JsonObject = Annotated[dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]
Quantity = Annotated[
    str,
    BeforeValidator(_whole_number_as_text),
    AfterValidator(check_quantity),
    Field(json_schema_extra={"x-kubernetes-int-or-string": True}),
]
_COUNT_OR_SHARE = r"^[0-9]{1,4}%?$"
CountOrShare = Annotated[
    str,
    BeforeValidator(_whole_number_as_text),
    # Twice: pydantic leaves the pattern out of the schema of a value that was converted first.
    Field(pattern=_COUNT_OR_SHARE, json_schema_extra={"x-kubernetes-int-or-string": True, "pattern": _COUNT_OR_SHARE}),
]

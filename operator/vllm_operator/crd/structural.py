"""From pydantic's JSON schema to Kubernetes' structural one.

Pydantic emits `$ref`, `anyOf: [..., null]`, a number for `exclusiveMinimum` and titles; Kubernetes wants everything
in one place, optional fields simply not required, and a boolean `exclusiveMinimum`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]

# Defaults that the API server fills in. All others are the operator's, so that a later operator may have better ones.
_KEPT_DEFAULTS = {"replicas", "key"}
_QUANTITY = r"^[0-9]+(\.[0-9]{1,9})?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei|e[0-9]{1,2})?$"
# Long enough for each real value. CEL's cost estimate counts what is allowed, not what is meant.
_INT_OR_STRING_LENGTH = 32
_DROPPED = {"title", "default", "propertyNames", "patternProperties", "uniqueItems", "prefixItems", "const"}


def structural(model: type[BaseModel]) -> Schema:
    """The structural schema of a type, without CEL rules."""
    schema = model.model_json_schema(by_alias=True, mode="validation")
    converted = _convert(schema, schema.get("$defs", {}))
    converted.pop("description", None)
    return converted


def _convert(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    resolved = _resolve(schema, definitions)
    result = {key: value for key, value in resolved.items() if key not in _DROPPED}
    if result.get("x-kubernetes-int-or-string"):
        return _int_or_string(result)
    if result.get("x-kubernetes-preserve-unknown-fields"):
        result.pop("additionalProperties", None)
    if "const" in resolved:
        result["enum"] = [resolved["const"]]
    if result.get("type") == "integer":
        result["format"] = "int64"
    _exclusive(result, "Minimum")
    _exclusive(result, "Maximum")
    if "properties" in result:
        result["properties"] = {
            name: _property(name, field, definitions) for name, field in result["properties"].items()
        }
        result.pop("additionalProperties", None)
    elif isinstance(values := _values(resolved), Mapping):
        result["additionalProperties"] = _convert(values, definitions)
    if "items" in result:
        result["items"] = _convert(result["items"], definitions)
    return result


def _property(name: str, field: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    converted = _convert(field, definitions)
    kept = field.get("default") if name in _KEPT_DEFAULTS else None
    return converted if kept is None else converted | {"default": kept}


def _resolve(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    """The schema with its reference and its null taken out; what it says of itself wins (a field's own description)."""
    result = dict(schema)
    for choice in result.pop("anyOf", []):
        if choice.get("type") != "null":
            result = _resolve(choice, definitions) | result
    if reference := result.pop("$ref", None):
        result = _resolve(definitions[reference.rsplit("/", 1)[-1]], definitions) | result
    result.pop("$defs", None)
    return result


def _values(schema: Mapping[str, Any]) -> Any:
    """The schema of a map's values; CEL rules check its keys."""
    patterns = schema.get("patternProperties")
    return next(iter(patterns.values())) if patterns else schema.get("additionalProperties")


def _int_or_string(schema: Schema) -> Schema:
    kept = {key: value for key, value in schema.items() if key not in {"type", "anyOf"}}
    pattern = kept.pop("pattern", _QUANTITY)
    return kept | {"pattern": pattern, "maxLength": _INT_OR_STRING_LENGTH}


def _exclusive(schema: Schema, bound: str) -> None:
    if (limit := schema.pop(f"exclusive{bound}", None)) is not None:
        schema |= {bound.lower(): limit, f"exclusive{bound}": True}

"""Does a live object already hold a manifest? Then nothing is written, and a model at rest costs no request.

The server fills in defaults, writes quantities its own way and drops what is empty; none of that is drift. What is
drift: another value, an item that is gone, and a field that our last apply owns and the manifest no longer names
(only `metadata.managedFields` tells that). What others added (a sidecar, a label) is theirs and is left alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

FIELD_MANAGER: Final = "vllm-operator"

# Lists that server-side apply merges item by item, and the fields that name an item (Kubernetes' OpenAPI,
# x-kubernetes-list-map-keys). `ports` has containerPort in a container and port in a Service.
_KEYED: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "containers": (("name",),),
    "initContainers": (("name",),),
    "env": (("name",),),
    "ports": (("containerPort", "protocol"), ("port", "protocol")),
    "volumes": (("name",),),
    "volumeMounts": (("mountPath",),),
    "imagePullSecrets": (("name",),),
    "ownerReferences": (("uid",),),
    "resourceClaims": (("name",),),
    "claims": (("name",),),
    "topologySpreadConstraints": (("topologyKey", "whenUnsatisfiable"),),
    "hostAliases": (("ip",),),
}
_KEY_DEFAULTS: Final = {"protocol": "TCP"}

# The fields whose values are quantities: "1024Mi" comes back as "1Gi".
_QUANTITIES: Final = frozenset({"requests", "limits", "sizeLimit", "capacity"})

# Booleans that the server leaves out when they are false; every other absent boolean may mean true.
_FALSE_IS_ABSENT: Final = frozenset(
    {"hostNetwork", "hostPID", "hostIPC", "readOnly", "stdin", "stdinOnce", "tty", "publishNotReadyAddresses", "paused"}
)

_NUMBER: Final = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|([numkMGTPE]|[KMGTPE]i)?)")
_SUFFIX: Final = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1),
    **{letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", 1)},
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
}  # fmt: skip


def holds(live: Mapping[str, Any], manifest: Mapping[str, Any]) -> bool:
    """True when applying the manifest would change nothing of the live object that is ours."""
    return next(_differences(live, manifest), None) is None


def differences(live: Mapping[str, Any], manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """The paths (`spec.template.spec.containers[name=vllm].image`) where the live object is not the manifest."""
    return tuple(_differences(live, manifest))


def owns(live: Mapping[str, Any], *path: str, manager: str = FIELD_MANAGER) -> bool:
    """True when our last apply set that field and nobody has changed it since (`metadata.managedFields`)."""
    fields: Any = _applied_fields(live, manager)
    for name in path:
        fields = fields.get(f"f:{name}")
        if not isinstance(fields, Mapping):
            return False
    return True


def has_managers(live: Mapping[str, Any]) -> bool:
    """Whether the object says who set which field; a copy may have been stripped of it."""
    return bool((live.get("metadata") or {}).get("managedFields"))


def quantity(value: object) -> Decimal | None:
    """A Kubernetes quantity ("500m", "16Gi", 4) as a number; None for what is none."""
    found = _NUMBER.fullmatch(str(value).strip())
    if found is None:
        return None
    number, exponent, suffix = found.groups()
    return Decimal(number + (exponent or "")) * _SUFFIX[suffix or ""]


def _differences(live: Mapping[str, Any], manifest: Mapping[str, Any]) -> Iterator[str]:
    yield from _map(live, manifest, "", "")
    yield from _left_over(_applied_fields(live, FIELD_MANAGER), manifest, "")


def _applied_fields(live: Mapping[str, Any], manager: str) -> Mapping[str, Any]:
    entries = (live.get("metadata") or {}).get("managedFields") or ()
    for entry in entries:
        # A status written by the same manager is another entry, of the subresource.
        if entry.get("manager") == manager and entry.get("operation") == "Apply" and not entry.get("subresource"):
            fields = entry.get("fieldsV1")
            return fields if isinstance(fields, Mapping) else {}
    return {}


def _value(live: object, wanted: object, name: str, parent: str, path: str) -> Iterator[str]:
    if wanted is None:  # null: the field must not be there
        if live is not None:
            yield path
    elif live is None:
        if not _absent_is_equal(wanted, name):
            yield path
    elif isinstance(wanted, Mapping):
        yield from _map(live, wanted, name, path) if isinstance(live, Mapping) else (path,)
    elif _is_list(wanted):
        yield from _list(live, wanted, name, path) if _is_list(live) else (path,)
    elif not _same_scalar(live, wanted, name, parent):
        yield path


def _map(live: Mapping[str, Any], wanted: Mapping[str, Any], name: str, path: str) -> Iterator[str]:
    for key, value in wanted.items():
        yield from _value(live.get(key), value, key, name, f"{path}.{key}" if path else key)


def _list(live: Any, wanted: Any, name: str, path: str) -> Iterator[str]:
    keys = _keys_of(name, wanted)
    if keys is None:
        if len(live) != len(wanted):
            yield path
            return
        for index, (there, item) in enumerate(zip(live, wanted, strict=True)):
            yield from _value(there, item, "", name, f"{path}[{index}]")
        return
    by_key = {_key(item, keys): item for item in live if isinstance(item, Mapping)}
    for item in wanted:
        label = ",".join(f"{key}={item[key]}" for key in keys if key in item)
        yield from _value(by_key.get(_key(item, keys)), item, "", name, f"{path}[{label}]")


def _left_over(fields: Mapping[str, Any], wanted: object, path: str) -> Iterator[str]:
    """Fields of our last apply that the manifest no longer has; applying it takes them away."""
    for mark, inside in fields.items():
        kind, _, rest = mark.partition(":")
        if kind == "f" and isinstance(wanted, Mapping):
            here = f"{path}.{rest}" if path else rest
            if rest not in wanted:
                yield here
            elif inside:
                yield from _left_over(inside, wanted[rest], here)
        elif kind == "k" and _is_list(wanted):
            item = _item_with(json.loads(rest), wanted)
            if item is None:
                yield f"{path}[{rest}]"
            else:
                # The key fields themselves may be defaults that the manifest leaves out (protocol: TCP).
                yield from _left_over(_without_defaults(inside, item), item, f"{path}[{rest}]")


def _without_defaults(fields: Mapping[str, Any], item: Mapping[str, Any]) -> Mapping[str, Any]:
    return {mark: inside for mark, inside in fields.items() if mark[2:] in item or mark[2:] not in _KEY_DEFAULTS}


def _item_with(key: Mapping[str, Any], items: Any) -> Mapping[str, Any] | None:
    for item in items:
        if isinstance(item, Mapping) and all(item.get(k, _KEY_DEFAULTS.get(k)) == v for k, v in key.items()):
            return item
    return None


def _keys_of(name: str, items: Any) -> tuple[str, ...] | None:
    for keys in _KEYED.get(name, ()):
        if all(isinstance(item, Mapping) and keys[0] in item for item in items):
            return keys
    return None


def _key(item: Mapping[str, Any], keys: tuple[str, ...]) -> tuple[object, ...]:
    return tuple(item.get(key, _KEY_DEFAULTS.get(key)) for key in keys)


def _absent_is_equal(wanted: object, name: str) -> bool:
    if wanted is False:
        return name in _FALSE_IS_ABSENT
    if isinstance(wanted, Mapping):
        # The server keeps `emptyDir: {}`: without it the volume is another one.
        return name != "emptyDir" and all(_absent_is_equal(value, key) for key, value in wanted.items())
    return wanted is None or wanted == "" or (_is_list(wanted) and not wanted)


def _same_scalar(live: object, wanted: object, name: str, parent: str) -> bool:
    if isinstance(live, bool) or isinstance(wanted, bool):
        return live is wanted
    if live == wanted:
        return True
    if name in _QUANTITIES or parent in _QUANTITIES:
        there, here = quantity(live), quantity(wanted)
        return there is not None and there == here
    return False


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)

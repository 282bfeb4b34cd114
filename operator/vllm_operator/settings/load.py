"""Reading the settings file: the built-in values, the platform's over them, and an error that names the key."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from vllm_operator.settings.types import Settings


class SettingsError(ValueError):
    """The settings cannot be used. The message names the file, the keys and what to write instead."""


def load(path: str | Path | None) -> Settings:
    """The settings of a YAML file over the built-in ones; the built-in ones alone for None.

    Raises SettingsError for a file that cannot be read, is no YAML mapping, or has a wrong key or value.
    """
    if path is None:
        return from_document({}, "the built-in settings")
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"settings {path} cannot be read: {error}") from error
    try:
        document = yaml.load(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise SettingsError(f"settings {path} is no YAML: {error}") from error
    except ValueError as error:  # a day that no month has
        raise SettingsError(f"settings {path} is no YAML that can be read: {error}") from error
    return from_document({} if document is None else document, f"settings {path}")


def from_document(document: object, called: str) -> Settings:
    """The settings of a parsed document over the built-in ones. Raises SettingsError, as `load` does."""
    if not isinstance(document, Mapping):
        raise SettingsError(f"{called}: the document is a {type(document).__name__}, not a mapping of keys")
    try:
        settings = Settings.model_validate(_over(_built_in(), document))
    except ValidationError as error:
        raise SettingsError("\n".join([f"{called}:", *_lines(error)])) from error
    if settings.default_accelerator not in settings.accelerators:
        known = _known(settings.default_accelerator, settings.accelerators)
        raise SettingsError(
            f'{called}: defaultAccelerator: there is no accelerator "{settings.default_accelerator}"; {known}'
        )
    return settings


@cache
def _built_in() -> Mapping[str, Any]:
    text = files("vllm_operator.settings").joinpath("built-in.yaml").read_text(encoding="utf-8")
    document: Mapping[str, Any] = yaml.load(text, Loader=yaml.CSafeLoader)
    return document


def _over(below: Mapping[str, Any], above: Mapping[Any, Any]) -> dict[Any, Any]:
    """`above` over `below`: images and accelerators by name, an accelerator's keys one by one, everything else whole."""
    merged: dict[Any, Any] = dict(below) | dict(above)
    profiles = above.get("accelerators")
    if isinstance(profiles, Mapping):
        merged["accelerators"] = dict(below["accelerators"]) | {
            name: {**below["accelerators"].get(name, {}), **profile} if isinstance(profile, Mapping) else profile
            for name, profile in profiles.items()
        }
    images = above.get("images")
    if isinstance(images, Mapping):
        servers = images.get("server", {})
        merged["images"] = dict(below["images"]) | dict(images)
        merged["images"]["server"] = below["images"]["server"] | servers if isinstance(servers, dict) else servers
    return merged


def _lines(error: ValidationError) -> list[str]:
    return [f"  {_line(detail)}" for detail in error.errors(include_url=False)]


def _line(detail: Any) -> str:
    where = ".".join(str(piece) for piece in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"{where}: there is no such key; {_known(str(detail['loc'][-1]), _keys_at(detail['loc'][:-1]))}"
    return f"{where}: {detail['msg']} (it is {detail['input']!r:.80})"


def _keys_at(loc: tuple[int | str, ...]) -> list[str]:
    """The keys that are known at a place of the document."""
    section: type[BaseModel] = Settings
    for piece in loc:
        field = next((f for f in section.model_fields.values() if f.alias == piece), None)
        if field is None:
            continue  # the name of an accelerator, an index
        inner = field.annotation
        candidates = (inner, *getattr(inner, "__args__", ()))
        section = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), section)
    return [field.alias or name for name, field in section.model_fields.items()]


def _known(wrong: str, names: Any) -> str:
    close = get_close_matches(wrong, [str(name) for name in names], n=1)
    return f'did you mean "{close[0]}"?' if close else "known are " + ", ".join(sorted(map(str, names)))

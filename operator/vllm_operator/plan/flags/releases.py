"""The flags of each release of vLLM that is known: which exist, how they are spelt, how many values they take.

The files beside this one were written by generate.py in each release's own environment.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

RELEASES = ("0.32", "0.33")
_STOCK = re.compile(r"(?:^|/)vllm-openai(?:-(?:rocm|xpu|cpu))?:v?\d+\.\d+\.\d+[^/]*$")
_TAG = re.compile(r"(?:^|/)[^/]*vllm[^/:@]*:(?:[a-z]+-)?v?(\d+)\.(\d+)(?:[.-].*)?")


@dataclass(frozen=True, slots=True)
class KnownFlag:
    """A flag of one release. `takes` is 0, 1 or "many" values; `also` are its aliases and negations.

    `choices` are all values that its parser takes; empty where it does not list them.
    """

    flag: str
    takes: int | str
    also: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()

    @property
    def spellings(self) -> tuple[str, ...]:
        """All that may stand for it."""
        return self.flag, *self.also


@cache
def _written(release: str) -> Mapping[str, Any]:
    made: Mapping[str, Any] = json.loads(files(__package__).joinpath(f"{release}.json").read_text("utf-8"))
    return made


@cache
def known_flags(release: str) -> Mapping[str, KnownFlag]:
    """The flags of a release in RELEASES, by every spelling that its parser lists."""
    known = (
        KnownFlag(line["flag"], line["takes"], tuple(line.get("also", ())), tuple(line.get("choices", ())))
        for line in _written(release)["flags"]
    )
    return {spelling: flag for flag in known for spelling in flag.spellings}


@cache
def all_known_flags() -> Mapping[str, KnownFlag]:
    """The flags of all known releases, the newest's where they differ."""
    return {spelling: flag for release in RELEASES for spelling, flag in known_flags(release).items()}


def known_names(release: str) -> Mapping[str, Sequence[str]]:
    """What a release's own registries hold for a flag, by flag; an image with plugins may hold more."""
    found: Mapping[str, Sequence[str]] = _written(release)["names"]
    return found


def known_keys(release: str) -> Mapping[str, Sequence[str]]:
    """The keys of the object that a flag takes, by flag: vLLM refuses any other."""
    found: Mapping[str, Sequence[str]] = _written(release)["keys"]
    return found


def is_stock(image: str) -> bool:
    """Whether an image is, by its name, one of vLLM's own, or a mirror of one: nobody added plugins to it."""
    return _STOCK.search(image.split("@")[0]) is not None


def tagged_release(image: str) -> tuple[int, int] | None:
    """The release of vLLM that an image's tag names, known or not ("vllm/vllm-openai:v0.33.0" is (0, 33)); else None."""
    found = _TAG.search(image.split("@")[0])
    return (int(found[1]), int(found[2])) if found else None


def release_of(image: str) -> str | None:
    """The known release that an image's tag names ("vllm/vllm-openai:v0.33.0" is 0.33); None for any other image."""
    tagged = tagged_release(image)
    release = f"{tagged[0]}.{tagged[1]}" if tagged else None
    return release if release in RELEASES else None

"""The accelerators known by name, from hardware.yaml."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

import yaml
from pydantic import BaseModel, ConfigDict, Field

from vllm_operator.fit.values import GIB, Accelerator


class Entry(BaseModel):
    """One line of hardware.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    gib: float | None = Field(None, gt=0)
    capability: str | None = Field(None, pattern=r"^\d+\.\d$")
    vendor: str = "nvidia"
    peers: bool = True


@cache
def accelerators() -> Mapping[str, Accelerator]:
    """Every built-in accelerator by its name (`nvidia-l4`); read once."""
    data = yaml.safe_load(files(__package__).joinpath("hardware.yaml").read_text("utf-8"))
    return MappingProxyType({name: _accelerator(name, Entry.model_validate(line)) for name, line in data.items()})


def _accelerator(name: str, entry: Entry) -> Accelerator:
    memory = None if entry.gib is None else int(entry.gib * GIB)
    return Accelerator(name, memory, entry.capability, entry.vendor, entry.peers)

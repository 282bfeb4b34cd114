"""One kind of weight matrix: how large, how often, where it lies and how tensor parallelism splits it."""

from dataclasses import dataclass
from typing import Literal

Place = Literal["layer", "embedding", "head", "vision", "host"]
Split = Literal["tensor", "expert", "none"]


@dataclass(frozen=True, slots=True)
class Matrix:
    """`copies` equal matrices of `elements` values, `kv_elements` of which make keys and values.

    `made`: vLLM fills it from others, and the files do not hold it. `across` tells that tensor parallelism splits the inputs, as it does of the matrices that bring its parts together. On the `host`: in the node's memory, not in a GPU's.
    """

    elements: int
    copies: int
    place: Place = "layer"
    split: Split = "tensor"
    linear: bool = True
    experts: bool = False
    kv_elements: int = 0
    inputs: int = 0
    across: bool = False
    kv_heads: int = 0
    made: bool = False

    @property
    def total(self) -> int:
        return self.elements * self.copies

    @property
    def outputs(self) -> int:
        return self.elements // self.inputs if self.inputs else 0

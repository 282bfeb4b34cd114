"""Kubernetes quantities: the text people write ("20Gi", "500m") and the whole number it stands for."""

from __future__ import annotations

import re
from decimal import Decimal
from math import ceil

QUANTITY_PATTERN = r"^[0-9]+(\.[0-9]{1,9})?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei|e[0-9]{1,2})?$"
LARGEST = 2**63 - 1  # Kubernetes counts no further
_PARTS = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,9})?)(m|k|Ki|Mi|Gi|Ti|Pi|Ei|M|G|T|P|E|e[0-9]{1,2})?")
_SUFFIXES = {"": Decimal(1), "m": Decimal("0.001"), "k": Decimal(1000)}
_SUFFIXES |= {suffix: Decimal(1000) ** power for power, suffix in enumerate("MGTPE", start=2)}
_SUFFIXES |= {f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)}


def quantity_value(text: str) -> Decimal:
    """The number that a quantity stands for: bytes for "20Gi", cores for "500m".

    Raises ValueError, with an example of what is right, for anything else (negative, too long, unknown suffix).
    """
    found = _PARTS.fullmatch(text)
    if found is None:
        raise ValueError(f'{text!r} is no quantity; write a number with an optional unit, such as "20Gi" or "500m"')
    number, suffix = found[1], found[2] or ""
    factor = Decimal(10) ** int(suffix[1:]) if suffix.startswith("e") else _SUFFIXES[suffix]
    return Decimal(number) * factor


def quantity_bytes(text: str) -> int:
    """The whole bytes of a quantity, rounded up as Kubernetes does."""
    return ceil(quantity_value(text))


def check_quantity(text: str) -> str:
    """The same text, when it is a quantity that Kubernetes can count; ValueError otherwise."""
    if quantity_value(text) > LARGEST:
        raise ValueError(f"{text!r} is more than {LARGEST}, the largest quantity of Kubernetes")
    return text

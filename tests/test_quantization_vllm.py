"""The table of quantization methods against the installed vLLM: capability, dtypes, platforms, what is made while loading;
and the devices that AMD's profiles name."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.test_args_vllm import vllm_python
from vllm_operator.fit.quantization import Making, Method, canonical, methods
from vllm_operator.settings import load

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]

# Stricter than get_min_capability(), for a reason that is in the table.
STRICTER = {"nvfp4_per_token": 100}
# vLLM rewrites these to a name that the platform's list has, before it looks there.
REWRITTEN = {"awq_marlin", "gptq_marlin"}


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    program = Path(__file__).with_name("vllm_quantization.py")
    done = subprocess.run([vllm_python(), str(program)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert done.returncode == 0, "run tests/vllm_quantization.py with vLLM's Python to see why"
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def entry(name: str) -> Method:
    return methods()[canonical(name)]


def agrees(ours: Making, theirs: dict[str, Any]) -> bool:
    """Activations in fp8 are nobody's dtype: no `dtype` of a model can be it."""
    return (ours.least, set(ours.dtypes)) == (theirs["least"], set(theirs["dtypes"]) - {"float8_e4m3fn"})


def test_every_method_of_the_release_is_in_the_table_and_no_other(told: dict[str, Any]) -> None:
    ours = {name for name, method in methods().items() if method.absent is None}
    assert ours == {canonical(name) for name in told["methods"]}


def test_each_asks_for_the_capability_and_the_dtypes_of_the_release(told: dict[str, Any]) -> None:
    wrong = {
        name: (entry(name), theirs)
        for name, theirs in told["methods"].items()
        if not agrees(entry(name).asks(online=False), theirs | {"least": STRICTER.get(name, theirs["least"])})
    }
    assert wrong == {}


def test_what_is_made_while_loading_asks_for_what_the_release_asks(told: dict[str, Any]) -> None:
    theirs = told["online"]
    assert {name for name in told["shorthands"] if not entry(name).online} == set()
    for name, made in told["shorthands"].items():
        assert agrees(entry(name).asks(online=True), theirs | {"least": STRICTER.get(name, theirs["least"])}), name
        assert entry(name).experts is not made["linear"], name


@pytest.mark.parametrize("vendor", ["amd", "intel"])
def test_a_vendor_has_the_methods_of_its_platforms_list(told: dict[str, Any], vendor: str) -> None:
    listed = set(told["platforms"][vendor])
    wrong = {
        name: name in listed
        for name in told["methods"]
        if name not in REWRITTEN and (vendor in entry(name).vendors) is not (name in listed)
    }
    assert listed and wrong == {}


def test_nvidia_and_the_cpu_have_no_list_and_are_refused_nothing(told: dict[str, Any]) -> None:
    assert (told["platforms"]["nvidia"], told["platforms"]["cpu"]) == ([], [])
    assert [name for name in told["methods"] if "nvidia" not in entry(name).vendors] == []


def test_deprecated_is_what_the_release_calls_so(told: dict[str, Any]) -> None:
    assert {name for name in told["methods"] if entry(name).deprecated} == set(told["deprecated"])


@pytest.mark.parametrize(
    ("profile", "names"),
    [("amd-mi300x", ("AMD_Instinct_MI300X", "AMD_Instinct_MI300X_HF")), ("amd-mi325x", ("AMD_Instinct_MI325X",))],
)
def test_a_profile_of_amd_takes_every_device_that_the_release_calls_so(
    told: dict[str, Any], profile: str, names: tuple[str, ...]
) -> None:
    ids = {key.removeprefix("0x") for key, name in told["devices"].items() if name in names}
    assert set(load(None).accelerators[profile].node_selector["amd.com/gpu.device-id"]) == ids

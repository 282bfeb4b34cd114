"""The settings: what is built in, what a file changes, and errors that name the key."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from vllm_operator.api.rules.environment import RESERVED_ENV, RESERVED_ENV_PREFIXES
from vllm_operator.diagnose.reasons import MEANINGS
from vllm_operator.diagnose.rules import all_rules
from vllm_operator.fit import accelerators
from vllm_operator.plan.environment import reserved_names
from vllm_operator.settings import Profile, Settings, SettingsError, load
from vllm_operator.settings.types import Probe


def from_text(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path)


def error_of(tmp_path: Path, text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        from_text(tmp_path, text)
    return str(caught.value)


def test_without_a_file_everything_has_a_value() -> None:
    settings = load(None)

    assert settings.default_accelerator == "nvidia"
    assert settings.accelerators["nvidia"].resource_name == "nvidia.com/gpu"
    assert settings.images.server["nvidia"].startswith("vllm/vllm-openai:v")


def test_an_empty_file_is_the_built_in_settings(tmp_path: Path) -> None:
    assert from_text(tmp_path, "") == load(None) == from_text(tmp_path, "{}")


def test_every_accelerator_that_the_fit_knows_has_a_profile_of_the_same_vendor() -> None:
    profiles = load(None).accelerators

    assert {name: known.vendor for name, known in accelerators().items()}.items() <= {
        name: profile.vendor for name, profile in profiles.items()
    }.items()


def test_a_cpu_asks_for_no_device() -> None:
    assert load(None).accelerators["cpu"].resource_name is None


def test_every_other_accelerator_asks_for_one() -> None:
    profiles = load(None).accelerators

    assert [name for name, profile in profiles.items() if profile.resource_name is None] == ["cpu"]


def test_a_mig_slice_is_a_resource_of_its_own() -> None:
    assert load(None).accelerators["nvidia-a100-80gb-mig-1g.10gb"].resource_name == "nvidia.com/mig-1g.10gb"


def test_a_file_adds_an_accelerator_beside_the_built_in_ones(tmp_path: Path) -> None:
    settings = from_text(tmp_path, "accelerators: {ours: {resourceName: example.com/npu, memory: 64Gi, vendor: npu}}")

    assert settings.accelerators["ours"].memory == "64Gi"
    assert "nvidia-l4" in settings.accelerators


def test_a_file_changes_one_key_of_a_built_in_accelerator(tmp_path: Path) -> None:
    settings = from_text(tmp_path, "accelerators: {nvidia-l4: {runtimeClassName: nvidia}}")

    assert settings.accelerators["nvidia-l4"].runtime_class_name == "nvidia"
    assert settings.accelerators["nvidia-l4"].node_selector == {"nvidia.com/gpu.product": "NVIDIA-L4"}


def test_a_file_changes_one_image_and_keeps_the_others(tmp_path: Path) -> None:
    settings = from_text(tmp_path, "images: {server: {nvidia: registry.example.com/vllm:1}}")

    assert settings.images.server["nvidia"] == "registry.example.com/vllm:1"
    assert settings.images.server["cpu"] == load(None).images.server["cpu"]
    assert settings.images.weights == load(None).images.weights


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("polcy: {}", 'polcy: there is no such key; did you mean "policy"?'),
        ("policy: {allowedImage: []}", 'policy.allowedImage: there is no such key; did you mean "allowedImages"?'),
        (
            "accelerators: {x: {resourcename: a}}",
            'accelerators.x.resourcename: there is no such key; did you mean "resourceName"?',
        ),
        ("probes: {liveness: {periodSeconds: soon}}", "probes.liveness.periodSeconds: Input should be a valid integer"),
        (
            "defaults: {shutdownTimeoutSeconds: 0}",
            "defaults.shutdownTimeoutSeconds: Input should be greater than or equal to 1",
        ),
        (
            "defaultAccelerator: nvidia-l44",
            'defaultAccelerator: there is no accelerator "nvidia-l44"; did you mean "nvidia-l4"?',
        ),
        ("hub: {endpoint: hub.example.com}", "hub.endpoint: String should match pattern"),
        ("accelerators: [nvidia]", "accelerators: Input should be a valid dictionary"),
        ("accelerators: {x: 3}", "accelerators.x: Input should be a valid dictionary"),
        ("images: {server: [a]}", "images.server: Input should be a valid dictionary"),
        ("images: a", "images: Input should be a valid dictionary"),
        ("[1]", "the document is a list, not a mapping"),
        ("a: [", "is no YAML"),
        ("a: 2024-13-45", "is no YAML that can be read: month must be in 1..12"),
        ("a: !!int x", "is no YAML that can be read"),
        ("a: !!python/object:os.system {}", "is no YAML"),
    ],
)
def test_a_wrong_file_is_refused_with_its_key(tmp_path: Path, text: str, wanted: str) -> None:
    message = error_of(tmp_path, text)

    assert wanted in message
    assert "settings.yaml" in message


def test_every_wrong_key_is_named_at_once(tmp_path: Path) -> None:
    message = error_of(tmp_path, "hubb: {}\npolicy: {x: 1}")

    assert "hubb" in message
    assert "policy.x" in message


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent\.yaml cannot be read"):
        load(tmp_path / "absent.yaml")


def test_dangerous_variables_are_not_in_the_safe_list() -> None:
    from fnmatch import fnmatchcase

    globs = load(None).policy.allowed_env
    dangerous = (
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING VLLM_SERVER_DEV_MODE VLLM_PLUGINS VLLM_ALLOW_INSECURE_SERIALIZATION "
        "LD_PRELOAD LD_LIBRARY_PATH PYTHONPATH PATH HF_ENDPOINT HF_TOKEN HF_HUB_OFFLINE VLLM_API_KEY VLLM_PORT HOME "
        "HTTP_PROXY HTTPS_PROXY AWS_SECRET_ACCESS_KEY VLLM_LOGGING_CONFIG_PATH VLLM_MODEL_REDIRECT_PATH"
    )

    assert [name for name in dangerous.split() if any(fnmatchcase(name, glob) for glob in globs)] == []


def keys_of(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        key, inner = f"{prefix}{field.alias or name}", field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel) and not issubclass(inner, Probe):
            yield from keys_of(inner, f"{key}.")
        else:
            yield key


def test_a_variable_that_a_remedy_says_to_set_may_be_set() -> None:
    """What a remedy says to take away belongs to the operator or to no user; everything else it names is to be set."""
    remedies = [rule.remedy for rule in all_rules()] + [meaning.remedy for meaning in MEANINGS.values()]
    named = {
        name
        for text in remedies
        for name in re.findall(r"\b(?:VLLM|NCCL|PYTORCH|CUDA|OMP|HF|RAY)_[A-Za-z0-9_]+\b", text)
    }
    named = (
        {name for name in named if not name.startswith(RESERVED_ENV_PREFIXES)} - reserved_names() - RESERVED_ENV.keys()
    )
    allowed = load(None).policy.allowed_env

    assert {"VLLM_WORKER_MULTIPROC_METHOD", "VLLM_CPU_KVCACHE_SPACE", "NCCL_DEBUG"} <= named
    assert [name for name in sorted(named) if not any(fnmatchcase(name, glob) for glob in allowed)] == []


def test_every_key_and_every_accelerator_is_in_the_docs() -> None:
    text = (Path(__file__).resolve().parents[1] / "docs" / "settings.md").read_text(encoding="utf-8")
    keys = [*keys_of(Settings), *(field.alias or name for name, field in Profile.model_fields.items())]
    names = [name if "-mig-" not in name else f"-{name.rpartition('-')[2]}`" for name in load(None).accelerators]

    assert [key for key in keys if f"`{key}" not in text] == []
    assert [name for name in names if name not in text] == []

"""The fit: a model that surely does not fit takes nothing, and a server that runs is not argued with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.builders import a_model, a_spec
from tests.decide_facts import (
    CONFIG,
    GIB,
    SETTINGS,
    ready,
    said,
)
from tests.decide_world import Cluster, a_serving_cluster
from vllm_operator.api import Condition
from vllm_operator.decide.annotations import IGNORE_FIT
from vllm_operator.decide.question import accelerator_of, answer_to, arguments_of, question_of
from vllm_operator.decide.types import DeviceSeen
from vllm_operator.fit import Verdict
from vllm_operator.plan import plan_model


def a_small_device() -> Any:
    profiles = dict(SETTINGS.accelerators)
    profiles["small"] = profiles["nvidia"].model_copy(update={"memory": "1Gi"})
    return SETTINGS.model_copy(update={"accelerators": profiles, "default_accelerator": "small"})


def test_a_model_that_surely_does_not_fit_takes_no_volume_and_no_pod():
    cluster = Cluster(settings=a_small_device())

    status = cluster.settle().status

    assert said(status, "Fits").status == "False"
    assert said(status, "Stalled").reason == said(status, "Fits").reason
    assert status.fit is not None and status.fit.fits is False
    assert cluster.claims == {} and cluster.live == {}


def test_the_annotation_to_ignore_the_fit_goes_on_and_says_so():
    cluster = Cluster(settings=a_small_device())
    cluster.annotate(IGNORE_FIT, "true")

    status = cluster.settle().status

    assert ready(status) == ("True", "Serving")
    assert said(status, "Fits").status == "False"
    assert "ignored" in said(status, "Fits").message


def test_a_change_that_does_not_fit_leaves_the_older_server_alone():
    cluster = a_serving_cluster()
    cluster.settings = a_small_device()
    cluster.edit(max_model_len=4096)

    status = cluster.settle().status

    assert said(status, "Stalled").reason == said(status, "Fits").reason
    assert said(status, "Available").status == "True"
    assert status.url is not None
    assert ready(status)[0] == "False"


def test_a_server_that_runs_is_not_argued_with():
    cluster = a_serving_cluster()
    cluster.settings = a_small_device()

    status = cluster.settle().status

    assert ready(status) == ("True", "Serving")
    assert said(status, "Fits").status == "False"
    assert status.condition("Stalled") is None


def test_a_model_that_fits_says_with_what():
    profiles = dict(SETTINGS.accelerators)
    profiles["large"] = profiles["nvidia"].model_copy(update={"memory": "80Gi", "compute_capability": "9.0"})
    settings = SETTINGS.model_copy(update={"accelerators": profiles, "default_accelerator": "large"})

    status = Cluster(settings=settings).settle().status

    assert said(status, "Fits").status == "True"
    assert "GiB of weights" in said(status, "Fits").message
    assert status.fit is not None and status.fit.fits and status.fit.kv_cache_tokens


def test_of_several_accelerators_one_that_fits_is_enough_and_the_others_are_named():
    settings = a_small_device()
    profiles = dict(settings.accelerators)
    profiles["large"] = profiles["nvidia"].model_copy(update={"memory": "80Gi", "compute_capability": "9.0"})
    settings = settings.model_copy(update={"accelerators": profiles})

    status = Cluster(model=a_model(accelerators=["small", "large"]), settings=settings).settle().status

    assert said(status, "Fits").status == "True"
    assert "does not fit on small" in said(status, "Fits").message


def test_what_the_nodes_say_counts_where_nobody_else_knows():
    device = DeviceSeen(memory_bytes=GIB, compute_capability="8.0")
    cluster = Cluster()
    profiles = dict(plan_model(cluster.model, SETTINGS).profiles)

    assert accelerator_of("nvidia", profiles["nvidia"], device).memory_bytes == GIB
    assert accelerator_of("nvidia-l4", SETTINGS.accelerators["nvidia-l4"], device).memory_bytes != GIB


LARGE = DeviceSeen(80 * GIB, "9.0", "NVIDIA-H100")
SMALL = DeviceSeen(GIB, "8.9", "NVIDIA-TOY")


def fits_on(*devices: DeviceSeen) -> Condition:
    """The condition where the accelerator is any NVIDIA one, and nodes have these."""
    return said(Cluster(devices={"nvidia": devices}).settle().status, "Fits")


def test_nodes_of_different_devices_fit_when_each_of_them_does():
    assert fits_on(LARGE, replace(LARGE, memory_bytes=40 * GIB)).status == "True"
    assert fits_on(SMALL).status == "False"
    mixed = fits_on(LARGE, SMALL)

    assert (mixed.status, mixed.reason) == ("Unknown", "FitUnknown")
    assert "it fits on NVIDIA-H100 (80 GiB), and not on NVIDIA-TOY (1 GiB)" in mixed.message
    assert "pod.nodeSelector" in mixed.message


def test_a_node_that_does_not_tell_its_devices_memory_leaves_it_open():
    assert "missing is the memory of nvidia" in fits_on(SMALL, DeviceSeen()).message


def test_a_device_that_pods_share_is_no_sure_fit():
    assert "up to 4 pods share" in fits_on(replace(LARGE, shared_by=4)).message
    assert fits_on(replace(SMALL, shared_by=4)).status == "False"


def test_a_slice_has_no_peers():
    profile = SETTINGS.accelerators["nvidia"]

    assert not accelerator_of("nvidia", profile, replace(LARGE, is_slice=True)).peers
    assert not accelerator_of(
        "mine", profile.model_copy(update={"resource_name": "nvidia.com/mig-1g.10gb"}), LARGE
    ).peers


def test_as_long_as_fits_is_a_length_that_fits():
    def verdict(length: int | str) -> Verdict:
        asked = a_spec(accelerator="nvidia-t4", max_model_len=length, kv_cache_memory="100Mi")
        return answer_to(question_of(asked, SETTINGS, "nvidia-t4", SETTINGS.accelerators["nvidia-t4"]), CONFIG, None)

    assert verdict(32768).fits is False
    longest = verdict("auto")
    assert longest.fits is True and 0 < (longest.max_model_len or 0) < 32768


@pytest.mark.parametrize("word", ["--allow-deprecated-quantization", "--allow_deprecated_quantization"])
def test_a_deprecated_method_that_extra_args_allow_is_not_refused(word: str):
    wish = {"quantization": "fbgemm_fp8", "accelerator": "nvidia-h100-80gb"}
    config = CONFIG | {"quantization_config": {"quant_method": "fbgemm_fp8"}}

    def verdict(**spec: Any) -> Verdict:
        profile = SETTINGS.accelerators["nvidia-h100-80gb"]
        return answer_to(question_of(a_spec(**wish, **spec), SETTINGS, "nvidia-h100-80gb", profile), config, None)

    assert verdict().reason == "QuantizationUnknown"
    assert verdict(extra_args=(word,)).fits is True


@pytest.mark.parametrize(
    ("image", "estimates"),
    [
        ("vllm/vllm-openai:v0.33.0", True),
        ("vllm/vllm-openai:v0.32.1", True),
        ("vllm/vllm-openai:v1.2.0", True),
        ("vllm/vllm-openai:latest", True),
        ("example.org/ours@sha256:" + "0" * 64, True),
        ("vllm/vllm-openai:v0.26.0", False),
        ("example.org/mirror/vllm-openai:v0.9.1", False),
    ],
)
def test_the_estimate_of_cuda_graphs_follows_the_release(image: str, estimates: bool):
    assert arguments_of(a_spec(), image).estimates_cuda_graphs is estimates


@pytest.mark.parametrize(
    ("wish", "limits", "pixels"),
    [
        ({}, {}, None),
        ({"limit_mm_per_prompt": {"image": 4, "video": 0}}, {"image": 4, "video": 0}, None),
        ({"mm_processor_kwargs": {"max_pixels": 1003520}}, {}, 1003520),
        ({"mm_processor_kwargs": {"size": {"longest_edge": 65536}}}, {}, 65536),
        ({"mm_processor_kwargs": {"max_pixels": "many", "size": 3}}, {}, None),
    ],
)
def test_what_a_prompt_may_hold_bounds_what_an_encoder_is_tried_with(
    wish: dict[str, Any], limits: dict[str, int], pixels: int | None
):
    arguments = arguments_of(a_spec(**wish), "vllm/vllm-openai:v0.33.0")

    assert (arguments.limits, arguments.max_pixels) == (limits, pixels)


@pytest.mark.parametrize(("value", "old"), [("0", True), ("1", False), ("", None), ("no", None)])
def test_the_environment_chooses_the_model_runner(value: str, old: bool | None):
    asked = a_spec(accelerator="nvidia-h200", env=({"name": "VLLM_USE_V2_MODEL_RUNNER", "value": value},))

    found = question_of(asked, SETTINGS, "nvidia-h200", SETTINGS.accelerators["nvidia-h200"])
    assert found.arguments.old_runner is old


@pytest.mark.parametrize(
    ("value", "goes_on"), [("true", True), (" True ", True), ("false", False), ("yes", False), ("", False)]
)
def test_a_misfit_is_ignored_at_one_word_and_says_what_the_word_is_now(value: str, goes_on: bool):
    cluster = Cluster(settings=a_small_device())
    cluster.annotate(IGNORE_FIT, value)
    status = cluster.settle().status

    assert said(status, "Fits").status == "False"
    assert bool(cluster.pods) is goes_on
    assert (f'to "true" (it is "{value}").' in said(status, "Fits").message) is (not goes_on and value != "")


def test_a_misfit_on_each_of_several_accelerators_names_them_all():
    settings = a_small_device()
    profiles = dict(settings.accelerators)
    profiles["smaller"] = profiles["small"].model_copy(update={"memory": "800Mi"})
    model = a_model(accelerators=["small", "smaller"])
    cluster = Cluster(model=model, settings=settings.model_copy(update={"accelerators": profiles}))

    assert "Nor does it fit on smaller." in said(cluster.settle().status, "Fits").message


@pytest.mark.parametrize(
    ("image", "fits"),
    [(None, False), ("mirror.example.org/vllm/vllm-openai:v0.33.0", False), ("ours.example.org/team/bnb:1", None)],
)
def test_a_method_that_stock_images_lack_may_be_in_another_image(image: str | None, fits: bool | None):
    question = question_of(a_spec(image=image), SETTINGS, "nvidia-l4", SETTINGS.accelerators["nvidia-l4"])
    verdict = answer_to(question, CONFIG | {"quantization_config": {"quant_method": "bitsandbytes"}}, None)

    assert verdict.fits is fits
    assert "bitsandbytes" in (verdict.message or verdict.note)


@pytest.mark.parametrize(
    ("settings", "method"),
    [
        ({"method": "mtp", "num_speculative_tokens": 1}, "mtp"),
        ({"model": "[ngram]", "num_speculative_tokens": 4}, "ngram"),
        ({"model": "yuhuili/EAGLE3-LLaMA3.1-Instruct-8B"}, "eagle"),
        ({"model": "Qwen/Qwen3-0.6B", "num_speculative_tokens": 4}, "draft_model"),
        (None, ""),
    ],
)
def test_the_method_of_speculation_is_told_as_vllm_infers_it(settings: dict[str, object] | None, method: str):
    assert arguments_of(a_spec(speculative_config=settings), "").speculative_method == method


def test_a_draft_model_that_only_the_server_sees_leaves_a_fit_open_and_a_misfit_sure():
    draft = {"method": "eagle3", "model": "pvc://drafts/head", "num_speculative_tokens": 3}

    def condition(device: DeviceSeen) -> Condition:
        cluster = Cluster(model=a_model(speculative_config=draft), devices={"nvidia": (device,)})
        return said(cluster.settle().status, "Fits")

    assert condition(LARGE).status == "Unknown"
    assert "speculativeConfig.model" in condition(LARGE).message
    assert condition(SMALL).status == "False"

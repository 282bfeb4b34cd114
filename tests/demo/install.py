"""Puts the operator (by its chart) and the hub on the cluster."""

from __future__ import annotations

import json
from pathlib import Path

from tests.demo.clusters import tool
from tests.demo.shell import ROOT, run, side_by_side, step

HERE = Path(__file__).parent
OPERATOR_NAMESPACE = "vllm-operator"


def kubectl(*words: str | Path, input: str | None = None, check: bool = True) -> str:
    """kubectl's output, on the demo's cluster."""
    return run(*tool("kubectl"), *words, input=input, check=check)


def install(images: dict[str, str], *, extra_values: dict[str, object] | None = None) -> None:
    """Installs hub and operator side by side, and waits until both run."""
    side_by_side(lambda: install_hub(images), lambda: install_operator(images, extra_values or {}))


# Addresses that tests put their own stores behind; nothing answers there else.
STORES = {
    "s3": {"endpoint": "http://s3.stores.svc", "region": "us-east-1"},
    "gs": {"endpoint": "http://gs.stores.svc"},
    "modelscope": {"endpoint": "http://modelscope.stores.svc"},
}


def install_hub(images: dict[str, str]) -> None:
    """A hub that speaks the Hugging Face protocol, in namespace `hub`, with the demo's two models."""
    with step("installing the hub (namespace hub)"):
        manifest = (HERE / "hub.yaml").read_text().replace("HUB_IMAGE", images["hub"])
        kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=manifest)
        kubectl("-n", "hub", "rollout", "status", "deployment/hub", "--timeout=180s")


def install_operator(images: dict[str, str], extra_values: dict[str, object]) -> None:
    """The operator by helm, with the settings of this cluster: its hub, its images."""
    repository, _, tag = images["operator"].rpartition(":")
    values = {
        "image": {"repository": repository, "tag": tag},
        "settings": {
            "hub": {"endpoint": "http://hub.hub.svc"},
            "sources": STORES,
            "images": {
                "weights": images["weights"],
                "server": {"cpu": images["vllm-cpu"], "nvidia": images["vllm-cpu"]},
            },
            "policy": {"allowedImages": ["vllm-operator.local/"], "allowLiveAdapters": True},
        },
        **extra_values,
    }
    with step(f"installing the operator by helm (namespace {OPERATOR_NAMESPACE})"):
        chart = ROOT / "charts" / "vllm-operator"
        helm = (
            "upgrade",
            "--install",
            "vllm-operator",
            str(chart),
            "--namespace",
            OPERATOR_NAMESPACE,
            "--create-namespace",
        )
        options = (
            "--take-ownership",
            "--force-conflicts",
            "--wait",
            "--timeout",
            "180s",
        )  # a CRD that was kept, or applied by hand, is taken over
        run(*tool("helm"), *helm, "--values", "-", *options, input=json.dumps(values))


def uninstall() -> None:
    """Takes the demo's objects off a cluster that stays."""
    kubectl("delete", "namespace", "demo", "--ignore-not-found", check=False)
    run(*tool("helm"), "uninstall", "vllm-operator", "--namespace", OPERATOR_NAMESPACE, check=False)
    kubectl("delete", "crd", "vllmmodels.vllm-operator.dev", "--ignore-not-found", check=False)
    kubectl("delete", "namespace", "hub", OPERATOR_NAMESPACE, "--ignore-not-found", check=False)

"""Brings the node up: what must come after what, and what may go on at the same time."""

from __future__ import annotations

import json
import time
from concurrent.futures import Future, ThreadPoolExecutor

from tests.cluster import (
    binary,
    certificates,
    host,
    images,
    kubernetes,
    network,
    ownership,
    processes,
    runtime,
    teardown,
)
from tests.cluster.kubernetes import COMPONENTS
from tests.cluster.places import BINARIES, CACHE, HERE, KUBECONFIG, NODE_NAME, STATE
from tests.cluster.steps import StepFailed, all_done, run, say, step, wait_until

FAKE_GPUS = 8


def up(wanted_images: tuple[str, ...]) -> None:
    """The node, Ready, with the images on it. Quick when it is up already; mends what has died."""
    ownership.require_root()
    begun = time.monotonic()
    with ownership.sole_command():
        ownership.refuse_if_anothers()
        if ownership.is_orphaned():
            teardown.remove_everything()
        ownership.claim()
        CACHE.mkdir(parents=True, exist_ok=True)
        STATE.mkdir(exist_ok=True)
        if not is_up():
            host.install(host.NODE_PACKAGES)
            certificates.issue()
            network.set_up()
        # The programs take minutes of compiling, the images minutes of downloading: they fill each other's pauses.
        with ThreadPoolExecutor() as pool:
            started = pool.submit(runtime.start, images.pause_reference())
            work = [started, pool.submit(_start_kubernetes, started)]
            work += [pool.submit(_put, name, started) for name in wanted_images]
            all_done(work)
    say(f"The node is up after {time.monotonic() - begun:.1f} s: export KUBECONFIG={KUBECONFIG}")


def is_up() -> bool:
    """Whether every process of the node runs, the API answers, and the node is Ready."""
    return all(processes.is_running(name) for name in COMPONENTS) and _api_is_ready() and _node_is_ready()


def _put(name: str, runtime_started: Future[None]) -> None:
    if not binary.runtime_folder().exists():
        images.build(name)  # while containerd compiles
    runtime_started.result()
    images.put_on_node(name)


def _start_kubernetes(runtime_started: Future[None]) -> None:
    if is_up():
        return
    runtime_started.result()  # one compiler after the other: what both need is then compiled once
    folder = binary.built()
    binary.link(folder)
    images.put_pause_on_node(folder)
    with step("starting the control plane"):
        kubernetes.start_etcd()
        kubernetes.start_apiserver()
        processes.wait_for("kube-apiserver", "the API server is ready", _api_is_ready)
        kubernetes.start_controllers()
    with step("starting the node"):
        if not processes.is_running("kubelet"):
            runtime.remove_pods()  # of an earlier life that ended hard: containerd's store remembers them
        kubernetes.start_kubelet()
        kubernetes.start_proxy()
        kubernetes.start_dns()
        kubernetes.start_volumes()
        kubectl("apply", "--server-side", "--force-conflicts", "-f", str(HERE / "objects.yaml"))
        processes.wait_for("kubelet", f"node {NODE_NAME} is Ready", _node_is_ready, 120)
        _give_gpus()
    died = [name for name in COMPONENTS if not processes.is_running(name)]
    if died:
        raise StepFailed("\n".join(f"{name} ended; its log ends with:\n{processes.log_tail(name)}" for name in died))


def kubectl(*words: str, check: bool = True) -> str:
    """kubectl's standard output, as the node's administrator."""
    return run(BINARIES / "kubectl", "--kubeconfig", KUBECONFIG, *words, check=check)


def _api_is_ready() -> bool:
    return KUBECONFIG.exists() and kubectl("get", "--raw", "/readyz", check=False) == "ok"


def _node_is_ready() -> bool:
    printed = kubectl("get", "node", NODE_NAME, "--output=json", "--ignore-not-found", check=False)
    conditions = json.loads(printed)["status"].get("conditions", []) if printed else []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _give_gpus() -> None:
    """Tells the scheduler of GPUs that are not there: kubelet keeps what is patched into the node's status."""
    count = {"nvidia.com/gpu": str(FAKE_GPUS)}
    patch = json.dumps({"status": {"capacity": count, "allocatable": count}})
    wait_until("the node takes its GPUs", lambda: _patched(patch), 20)


def _patched(patch: str) -> bool:
    return "patched" in kubectl("patch", "node", NODE_NAME, "--subresource=status", "--patch", patch, check=False)


def status() -> tuple[str, bool]:
    """A line per component for a person, and whether the node is up."""
    holder = ownership.owner()
    lines = [f"belongs to: {holder or 'nobody (down)'}"]
    for name in COMPONENTS:
        pid = processes.pid_of(name)
        lines.append(f"{name:24} {'running, pid ' + str(pid) if pid else 'not running'}")
    ready = is_up()
    return "\n".join([*lines, f"node {NODE_NAME}: {'Ready' if ready else 'not ready'}"]), ready

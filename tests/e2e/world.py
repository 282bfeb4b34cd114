"""The cluster as a test meets it: models applied, conditions awaited, servers asked, the audit log counted."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tests.demo.clusters import tool
from tests.demo.shell import ROOT, STATE, python

Object = dict[str, Any]
T = TypeVar("T")
API_VERSION = "vllm-operator.dev/v1alpha1"
OPERATOR_USER = "system:serviceaccount:vllm-operator:vllm-operator"
WRITES = {"create", "update", "patch", "delete", "deletecollection"}
TINY = "vllm-operator/tiny-chat"
GO_ON = {"vllm-operator.dev/ignore-fit": "true"}  # the fit would say most of this before; here vLLM itself is to say it


class NotSoon(AssertionError):
    """What a test waits for did not come; the message holds the last thing seen."""


def kubectl(*words: str | Path, input: str | None = None, check: bool = True) -> str:
    """kubectl's output; an AssertionError with its words when it refuses."""
    done = subprocess.run([*tool("kubectl"), *map(str, words)], input=input, text=True, capture_output=True, cwd=ROOT)
    if check and done.returncode != 0:
        raise AssertionError(f"kubectl {' '.join(map(str, words))}: {done.stderr.strip()}")
    return done.stdout if done.returncode == 0 else done.stdout + done.stderr


def images() -> dict[str, str]:
    """The references of the images on the node, by name."""
    out = subprocess.run(
        python("tests.cluster", "images", "--names-only", "--output", "json"),
        text=True,
        capture_output=True,
        cwd=ROOT,
        check=True,
    )
    return dict(json.loads(out.stdout))


def await_that(look: Callable[[], T], good: Callable[[T], object], seconds: float, what: str) -> T:
    """Looks twice a second until it is good; raises NotSoon with the last look."""
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if good(seen):
            return seen
        if time.monotonic() > deadline:
            raise NotSoon(
                f"{what} did not come within {seconds:.0f} s; last seen: {json.dumps(seen, default=str)[:3000]}"
            )
        time.sleep(0.5)


@dataclass
class Namespace:
    """One namespace of a test, with what tests do in it."""

    name: str
    images: Mapping[str, str] = field(default_factory=dict)

    def apply(self, name: str, *, annotations: Mapping[str, str] | None = None, **spec: Any) -> None:
        """Applies a VLLMModel as a user would; `spec` is in the API's own words."""
        metadata = {"name": name, "namespace": self.name, "annotations": dict(annotations or {})}
        body = {"apiVersion": API_VERSION, "kind": "VLLMModel", "metadata": metadata, "spec": spec}
        kubectl("apply", "-f", "-", input=json.dumps(body))

    def apply_fake(self, name: str = "m", **spec: Any) -> None:
        """A model whose server has vLLM's manners and no model: quick."""
        small = {"requests": {"cpu": "10m", "memory": "32Mi"}}
        fake = {"image": self.images["vllm-fake"], "resources": small, "maxModelLen": 512}
        self.apply(name, **{"model": TINY, "accelerator": "cpu", **fake, **spec})

    def apply_real(self, name: str = "m", **spec: Any) -> None:
        """A model served by the real vLLM on CPU."""
        cpu = {"enforceEager": True, "env": [{"name": "VLLM_CPU_KVCACHE_SPACE", "value": "1"}]}
        small = {"requests": {"cpu": "100m", "memory": "2Gi"}}
        self.apply(name, **{"model": TINY, "accelerator": "cpu", "maxModelLen": 512, "resources": small, **cpu, **spec})

    def patch(self, name: str, **spec: Any) -> None:
        """Merges into the model's spec."""
        self.kubectl("patch", "vllmmodel", name, "--type=merge", "-p", json.dumps({"spec": spec}))

    def kubectl(self, *words: str | Path, input: str | None = None, check: bool = True) -> str:
        """kubectl in this namespace."""
        return kubectl("-n", self.name, *words, input=input, check=check)

    def get(self, kind: str, name: str) -> Object:
        """An object, or an empty dict."""
        text = self.kubectl("get", kind, name, "-o", "json", "--ignore-not-found")
        return dict(json.loads(text)) if text.strip() else {}

    def list(self, kinds: str, *words: str) -> list[Object]:
        """All objects of these kinds."""
        return list(json.loads(self.kubectl("get", kinds, "-o", "json", *words))["items"])

    def status(self, name: str = "m") -> Object:
        """The model's status."""
        return dict(self.get("vllmmodel", name).get("status", {}))

    def condition(self, type: str, name: str = "m") -> Object:
        """One condition, or an empty dict."""
        return next((c for c in self.status(name).get("conditions", []) if c["type"] == type), {})

    def await_condition(
        self, type: str, status: str, reason: str = "", *, name: str = "m", seconds: float = 90
    ) -> Object:
        """Waits for a condition of the model's present generation."""

        def good(model: Object) -> bool:
            found = next((c for c in model.get("status", {}).get("conditions", []) if c["type"] == type), {})
            current = found.get("observedGeneration") == model.get("metadata", {}).get("generation")
            return current and found["status"] == status and (not reason or found["reason"] == reason)

        model = await_that(lambda: self.get("vllmmodel", name), good, seconds, f"{type}={status} {reason} of {name}")
        return next(c for c in model["status"]["conditions"] if c["type"] == type)

    def await_ready(self, name: str = "m", seconds: float = 120) -> Object:
        """Waits for Ready=True and returns the status."""
        self.await_condition("Ready", "True", name=name, seconds=seconds)
        return self.status(name)

    def server_pods(self, name: str = "m") -> list[Object]:
        """The model's server pods that are not on their way out."""
        pods = self.list("pods", "-l", f"vllm-operator.dev/model={name},!vllm-operator.dev/job")
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def ask(self, path: str, name: str = "m", body: object = None) -> Any:
        """Asks the model's Service by its cluster address, as a client in the cluster does; returns the parsed answer."""
        service = self.get("service", name)
        port = service["spec"]["ports"][0]["port"]
        return fetch(f"http://{service['spec']['clusterIP']}:{port}{path}", body)

    def fault(self, kind: str, name: str = "m") -> None:
        """Tells every fake server of the model to fail."""
        for pod in self.server_pods(name):
            fetch(f"http://{pod['status']['podIP']}:8000/_fault", {"kind": kind})


def await_failure(namespace: Namespace, reason: str, seconds: float) -> Object:
    """`status.lastFailure` with that reason."""
    look = lambda: dict(namespace.status().get("lastFailure", {}))  # noqa: E731
    return await_that(look, lambda failure: failure.get("reason") == reason, seconds, f"lastFailure {reason}")


def fetch(url: str, body: object = None, method: str | None = None) -> Any:
    """GET, or POST of JSON, or another method; the parsed answer (None when empty)."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def hub(path: str, body: object = None, method: str | None = None) -> Any:
    """Asks the hub on the node."""
    service = json.loads(kubectl("-n", "hub", "get", "service", "hub", "-o", "json"))
    try:
        return fetch(f"http://{service['spec']['clusterIP']}{path}", body, method)
    except urllib.error.HTTPError as error:
        raise AssertionError(f"the hub said {error.code} to {path}: {error.read()[:500]!r}") from error


def break_hub(repo: str, kind: str, **how: object) -> None:
    """Sets a fault of one repository, in the words of tests/hub/faults.py; it lasts until it is mended."""
    hub("/_faults", {"repo": repo, "kind": kind, "times": -1, **how})


def mend_hub(repo: str) -> None:
    """Ends every fault of one repository."""
    hub(f"/_faults?repo={repo}", method="DELETE")


@contextmanager
def slow_hub(repo: str, bytes_per_second: int) -> Iterator[None]:
    """The hub sends the files of one repository slowly."""
    break_hub(repo, "slow", bytesPerSecond=bytes_per_second)
    try:
        yield
    finally:
        mend_hub(repo)


class Audit:
    """The requests of the operator in one namespace since a moment, from the API server's audit log."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.log = STATE / "audit.log"
        self.begin = self.log.stat().st_size

    def requests(self) -> list[Object]:
        """Every finished request of the operator, oldest first (watches excluded)."""
        with self.log.open("rb") as log:
            log.seek(self.begin)
            lines = [json.loads(line) for line in log.read().splitlines() if line.endswith(b"}")]
        return [line for line in lines if self._counts(line)]

    def writes(self) -> list[str]:
        """Verb and object of every write; a dry run is none."""
        said = [(line["verb"], line["requestURI"]) for line in self.requests()]
        return [f"{verb} {uri}" for verb, uri in said if verb in WRITES and "dryRun=All" not in uri]

    def _counts(self, line: Object) -> bool:
        mine = line.get("user", {}).get("username") == OPERATOR_USER and line.get("stage") == "ResponseComplete"
        return mine and line.get("verb") != "watch" and line.get("objectRef", {}).get("namespace") == self.namespace

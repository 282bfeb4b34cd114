"""What a cluster does by itself, played on the fake API: Jobs run, volumes bind, Deployments get pods, pods get ready.

Immediate by default; a test that wants to look at a state in between holds the step back.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tests.wire.apiserver import KINDS, Kubernetes
from tests.wire.objects import Change, Object
from tests.wire.pods import VLLM
from vllm_operator.plan.labels import NODE_ANNOTATION
from vllm_operator.plan.nodes import NODE_CLASS

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ANSWER: dict[str, Any] = {
    "version": 1,
    "ok": True,
    "source": "hf://demo/tiny",
    "commit": COMMIT,
    "bytes": 1_000_000,
    "files": 5,
    "largestFileBytes": 900_000,
    "format": "safetensors",
    "config": {"model_type": "llama", "architectures": ["LlamaForCausalLM"]},
    "weights": {"totalBytes": 900_000, "parameters": {"BF16": 450_000}},
    "hasTokenizer": True,
    "hasChatTemplate": True,
    "customCode": False,
    "architectures": ["LlamaForCausalLM"],
}


@dataclass(slots=True)
class Controllers:
    """Listens to the fake's changes and answers them. `holds` names the steps that a test keeps back."""

    fake: Kubernetes
    holds: set[str] = field(default_factory=set)  # "inspect", "pull", "ready", or "pull NODE"
    answer: dict[str, Any] = field(default_factory=lambda: dict(ANSWER))
    fails: dict[str, str] = field(default_factory=dict)  # actions whose Jobs end for good, with their last words
    server: VLLM = field(default_factory=VLLM)

    def start(self) -> Controllers:
        self.fake.store.listeners.append(self.on_change)
        return self

    def on_change(self, change: Change) -> None:
        kind = KINDS[change.place.root, change.place.plural]
        if kind == "Job" and change.type == "ADDED" and "template" in change.object["spec"]:
            self.run_job(change.object)
        elif kind == "PersistentVolumeClaim":
            self.on_claim(change)
        elif kind == "PersistentVolume" and change.type == "ADDED":
            self.bind(change.object["spec"]["claimRef"]["name"])
        elif kind == "Deployment" and change.type == "DELETED":
            self.remove_pods(change.object["metadata"]["name"])
        elif kind == "Deployment":
            self.roll_out(change.object)

    def on_claim(self, change: Change) -> None:
        """Volumes are made, resized and released."""
        claim = change.object
        if change.type == "DELETED":
            self.release(claim["metadata"]["uid"])
        elif change.type == "MODIFIED":
            self.resize(claim)
        elif claim["spec"].get("storageClassName") != NODE_CLASS:
            self.bind(change.place.name)

    def bind(self, claim: str) -> None:
        """A volume for the claim is there, of the size that was asked for."""
        found = self.fake.get("PersistentVolumeClaim", claim)
        size = found["spec"]["resources"]["requests"]["storage"] if found else "1Gi"
        self.fake.edit("PersistentVolumeClaim", claim, {"status": {"phase": "Bound", "capacity": {"storage": size}}})

    def resize(self, claim: Object) -> None:
        """The storage gives what is asked for, unless the test holds it back."""
        asked, status = claim["spec"]["resources"]["requests"]["storage"], claim.get("status") or {}
        if "grow" not in self.holds and status.get("phase") == "Bound" and status["capacity"]["storage"] != asked:
            self.fake.edit(
                "PersistentVolumeClaim", claim["metadata"]["name"], {"status": {"capacity": {"storage": asked}}}
            )

    def release(self, claim_uid: str) -> None:
        """The claim's volume, where it outlives it, has no claim any more."""
        for volume in self.fake.all("PersistentVolume"):
            if volume["spec"]["claimRef"]["uid"] == claim_uid:
                self.fake.edit("PersistentVolume", volume["metadata"]["name"], {"status": {"phase": "Released"}})

    def run_job(self, job: Object) -> None:
        """Makes the Job's pod, and ends it well unless the test holds it back."""
        name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
        action = job["metadata"]["labels"]["vllm-operator.dev/job"]
        labels = {**job["spec"]["template"]["metadata"]["labels"], "batch.kubernetes.io/job-name": name}
        owner = {"kind": "Job", "name": name, "uid": job["metadata"]["uid"]}
        self.make_pod(f"{name}-pod", labels, {}, owner, namespace=namespace)
        self.fake.edit("Pod", f"{name}-pod", _running("weights"), namespace)
        self.fake.edit("Job", name, {"status": {"active": 1}}, namespace)
        if action in self.fails:
            self.end_job(name, self.fails[action], 3, namespace)
            return
        node = (job["metadata"].get("annotations") or {}).get(NODE_ANNOTATION, "")
        if not {action, f"{action} {node}"} & self.holds:
            self.end_job(name, namespace=namespace)

    def end_job(self, name: str, message: str | None = None, code: int = 0, namespace: str = "team") -> None:
        """Ends the Job's pod and the Job: well with code 0, else for good."""
        said = message if message is not None else json.dumps(self.answer)
        ended = {"terminated": {"exitCode": code, "message": said, "reason": "Completed" if code == 0 else "Error"}}
        status = {"name": "weights", "ready": False, "restartCount": 0, "state": ended}
        phase = "Succeeded" if code == 0 else "Failed"
        self.fake.edit("Pod", f"{name}-pod", {"status": {"phase": phase, "containerStatuses": [status]}}, namespace)
        condition = {"type": "Complete" if code == 0 else "Failed", "status": "True", "reason": "PodFailurePolicy"}
        counts = {"succeeded": 1} if code == 0 else {"failed": 1}
        self.fake.edit("Job", name, {"status": {"active": 0, "conditions": [condition], **counts}}, namespace)

    def roll_out(self, deployment: Object) -> None:
        """Makes the Deployment's pods of its present template, and takes away those of others."""
        name, spec = deployment["metadata"]["name"], deployment["spec"]
        template, replicas = spec["template"], spec.get("replicas", 1)
        generation = deployment["metadata"]["generation"]
        if (deployment.get("status") or {}).get("observedGeneration") == generation:
            return
        wanted = {f"{name}-{generation}-{number}" for number in range(replicas)}
        self.remove_pods(name)
        metadata = template["metadata"]
        owner = {"kind": "ReplicaSet", "name": name, "uid": f"rs-of-{deployment['metadata']['uid']}"}
        for pod_name in sorted(wanted):
            self.make_pod(pod_name, metadata["labels"], metadata.get("annotations") or {}, owner, template["spec"])
            self.fake.edit("Pod", pod_name, _running("vllm"))
        counts = {"replicas": replicas, "updatedReplicas": replicas, "readyReplicas": 0}
        self.fake.edit("Deployment", name, {"status": {"observedGeneration": generation, **counts}})
        if "ready" not in self.holds:
            self.make_ready(name)

    def remove_pods(self, deployment: str) -> None:
        """The Deployment's pods are taken away."""
        for pod in self.fake.all("Pod"):
            owner = pod["metadata"]["ownerReferences"][0]
            if owner["kind"] == "ReplicaSet" and owner["name"] == deployment:
                self.fake.remove("Pod", pod["metadata"]["name"])

    def make_ready(self, name: str) -> None:
        """The Deployment's servers have loaded their model."""
        pods = [pod for pod in self.fake.all("Pod") if pod["metadata"]["ownerReferences"][0]["name"] == name]
        for pod in pods:
            pod_name = pod["metadata"]["name"]
            self.fake.pod_servers[pod_name] = self.server
            ready = {"conditions": [{"type": "Ready", "status": "True"}]}
            status = _running("vllm")["status"]
            status["containerStatuses"][0] |= {"ready": True, "started": True}
            self.fake.edit("Pod", pod_name, {"status": {**status, **ready}})
        self.fake.edit("Deployment", name, {"status": {"readyReplicas": len(pods), "availableReplicas": len(pods)}})

    def make_pod(
        self, name: str, labels: Any, annotations: Any, owner: Object, spec: Object | None = None,
        namespace: str = "team",
    ) -> Object:  # fmt: skip
        metadata = {"name": name, "namespace": namespace, "labels": labels, "annotations": annotations}
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata | {"ownerReferences": [owner]},
            "spec": spec or {},
        }
        return self.fake.put(body)


def _running(container: str) -> Object:
    status = {
        "name": container,
        "ready": False,
        "started": False,
        "restartCount": 0,
        "state": {"running": {"startedAt": "2026-11-21T10:00:00Z"}},
    }
    return {"status": {"phase": "Running", "podIP": "10.0.0.1", "containerStatuses": [status]}}

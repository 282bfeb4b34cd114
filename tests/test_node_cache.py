"""Weights on the nodes' own disks, against an API server with several nodes: filled, labelled, served from."""

from __future__ import annotations

from tests.golden.canned import settings
from tests.wire.fixtures import a_vllmmodel
from tests.wire.nodes import HOME, ROOT, a_model, a_node, filled, jobs, marks, message, nodes, sweep
from tests.wire.operator import Operator
from vllm_operator.api import VLLMModel
from vllm_operator.plan import plan_model, plan_weights

GONE = f'MountVolume.SetUp failed for volume "w" : hostPath type check failed: {ROOT}/team/x is not a directory'


async def test_every_node_is_filled_by_a_job_of_its_own_labelled_and_served_from() -> None:
    async with nodes("a", "b", "c") as op:
        a_model(op)
        await op.settle(looks=20)

        assert filled(op) == {"a", "b", "c"}
        assert set(jobs(op, "pull")) == set(jobs(op, "prepare")) == {"a", "b", "c"}
        assert {job["metadata"]["namespace"] for job in jobs(op, "prepare").values()} == {HOME}
        deployment = op.fake.all("Deployment")[0]["spec"]["template"]["spec"]
        required = deployment["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        (label,) = marks(op)["a"]
        assert required["nodeSelectorTerms"] == [{"matchExpressions": [{"key": label, "operator": "Exists"}]}]
        assert op.condition("Ready") == ("True", "Serving")
        assert op.status()["weights"]["nodes"] == {"ready": 3, "desired": 3}
        assert op.status()["weights"]["percent"] == 100
        before = len(op.fake.audit)
        await op.look()
        assert op.fake.audit[before:] == [] or all("/proxy/" in path for _, path in op.fake.audit[before:])


async def test_the_tenant_s_pods_mount_a_claim_and_no_folder_of_the_node() -> None:
    async with nodes("a") as op:
        a_model(op, cache={"type": "Node", "compileCache": True})
        await op.settle(looks=20)

        pods = [job["spec"]["template"]["spec"] for job in jobs(op, "pull").values()]
        pods.append(op.fake.all("Deployment")[0]["spec"]["template"]["spec"])
        assert not any("hostPath" in volume for pod in pods for volume in pod["volumes"])
        claim = op.fake.all("PersistentVolumeClaim")[0]["metadata"]
        volume = op.fake.all("PersistentVolume")[0]["spec"]
        assert volume["hostPath"]["type"] == "Directory"
        assert volume["hostPath"]["path"].startswith(f"{ROOT}/team/{claim['name']}-")
        assert (volume["claimRef"]["namespace"], volume["claimRef"]["uid"]) == ("team", claim["uid"])
        assert all(pod["securityContext"]["runAsNonRoot"] for pod in pods)


async def test_two_models_of_one_source_share_files_jobs_and_labels() -> None:
    async with nodes("a", "b") as op:
        a_model(op, "m")
        a_model(op, "n", maxModelLen=1024)
        await op.settle("m", looks=20)
        await op.settle("n", looks=20)

        assert len(op.fake.all("PersistentVolume")) == 1
        assert len(jobs(op, "pull")) == 2
        assert all(len(job["metadata"]["ownerReferences"]) == 2 for job in jobs(op, "pull").values())
        assert all(len(labels) == 1 for labels in marks(op).values())
        op.fake.remove("VLLMModel", "m")
        await sweep(op)
        assert filled(op) == {"a", "b"}
        assert len(op.fake.all("PersistentVolume")) == 1


async def test_the_same_source_in_another_namespace_is_another_folder_and_another_label() -> None:
    async with nodes("a") as op:
        a_model(op)
        other = a_vllmmodel("m", cache={"type": "Node"}, replicas=0)
        await op.settle(looks=20)
        (first,) = marks(op)["a"]
        other["metadata"] |= {"namespace": "rivals", "uid": "u"}
        plan = plan_model(VLLMModel.model_validate(other), settings(nodeCache={"path": ROOT}))
        weights = plan_weights(plan, op.controllers.answer)

        assert weights.nodes is not None and weights.nodes.label != first


async def test_only_nodes_that_could_run_the_model_are_filled() -> None:
    async with nodes("a") as op:
        a_node(op, "no-gpu", gpus="0")
        a_node(op, "tainted", taints=[{"key": "team", "value": "x", "effect": "NoSchedule"}])
        a_node(op, "gpu-tainted", taints=[{"key": "nvidia.com/gpu", "effect": "NoSchedule"}])
        a_model(op)
        await op.settle(looks=20)

        assert filled(op) == {"a", "gpu-tainted"}


async def test_a_failing_node_holds_up_no_other_and_is_named() -> None:
    async with nodes("a", "b") as op:
        op.controllers.holds.add("pull b")
        a_model(op)
        for _ in range(8):
            await op.look()
        name = jobs(op, "pull")["b"]["metadata"]["name"]
        op.controllers.end_job(
            name,
            '{"version":1,"ok":false,"reason":"DiskFull","message":"No room.","remedy":"Make some.","retry":false}',
            code=3,
        )
        await op.settle(looks=20)

        assert op.condition("Ready") == ("True", "Serving")
        assert op.condition("WeightsReady") == ("True", "Downloaded")
        assert "on 1 of 2 nodes" in message(op, "WeightsReady")
        assert "b: No room. Make some." in message(op, "WeightsReady")
        assert jobs(op, "pull")["b"]["metadata"]["name"] == name

        op.controllers.holds.clear()
        op.fake.edit("VLLMModel", "m", {"metadata": {"annotations": {"vllm-operator.dev/refresh": "1"}}})
        await op.settle(looks=30)
        assert filled(op) == {"a", "b"}


async def test_when_every_node_fails_the_reason_is_the_download_s() -> None:
    async with nodes("a") as op:
        op.controllers.holds.add("pull")
        a_model(op)
        for _ in range(8):
            await op.look()
        op.controllers.end_job(
            jobs(op, "pull")["a"]["metadata"]["name"],
            '{"version":1,"ok":false,"reason":"DiskFull","message":"No room.","remedy":"Make some.","retry":false}',
            code=3,
        )
        await op.settle(looks=20)

        assert op.condition("WeightsReady") == ("False", "DiskFull")
        assert op.condition("Stalled") == ("True", "DiskFull")
        assert op.fake.all("Deployment") == []


async def test_a_node_that_joins_is_filled_without_touching_the_servers() -> None:
    async with nodes("a") as op:
        a_model(op)
        await op.settle(looks=20)
        generation = op.fake.all("Deployment")[0]["metadata"]["generation"]
        a_node(op, "b")
        await op.settle(looks=20)

        assert filled(op) == {"a", "b"}
        assert op.fake.all("Deployment")[0]["metadata"]["generation"] == generation


async def test_a_heartbeat_of_a_node_calls_for_no_look() -> None:
    async with nodes("a") as op:
        a_model(op)
        await op.settle(looks=20)
        await op.look()
        before = len(op.fake.audit)
        op.fake.edit(
            "Node", "a", {"status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "now"}]}}
        )
        await op.look()

        assert all("/proxy/" in path for _, path in op.fake.audit[before:])


async def test_a_node_that_is_gone_takes_its_job_along() -> None:
    async with nodes("a", "b") as op:
        a_model(op)
        await op.settle(looks=20)
        op.fake.remove("Node", "b")
        await op.settle(looks=20)

        assert set(jobs(op, "pull")) == {"a"}
        assert op.status()["weights"]["nodes"] == {"ready": 1, "desired": 1}


async def test_a_wiped_disk_loses_its_label_its_stuck_pod_and_is_filled_again() -> None:
    async with nodes("a", "b") as op:
        a_model(op)
        await op.settle(looks=20)
        first = {node: job["metadata"]["uid"] for node, job in jobs(op, "pull").items()}
        stuck(op, "b")
        op.controllers.holds.add("prepare b")
        await op.look()

        assert filled(op) == {"a"}
        assert not [pod for pod in op.fake.all("Pod") if pod["spec"].get("nodeName") == "b"]
        op.controllers.holds.clear()
        for name in (job["metadata"]["name"] for node, job in jobs(op, "prepare").items() if node == "b"):
            op.controllers.end_job(name, namespace=HOME)
        await op.settle(looks=20)
        again = {node: job["metadata"]["uid"] for node, job in jobs(op, "pull").items()}
        assert filled(op) == {"a", "b"}
        assert again["a"] == first["a"] and again["b"] != first["b"]


def stuck(op: Operator, node: str) -> None:
    """The server's pod has come to a node whose folder is gone: the kubelet cannot mount it."""
    pod = next(p for p in op.fake.all("Pod") if p["metadata"]["ownerReferences"][0]["kind"] == "ReplicaSet")
    waiting = {"name": "vllm", "ready": False, "restartCount": 0, "state": {"waiting": {"reason": "ContainerCreating"}}}
    status = {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "True"}],
        "containerStatuses": [waiting],
    }
    op.fake.edit("Pod", pod["metadata"]["name"], {"spec": {"nodeName": node}, "status": status})
    op.fake.put({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "team"}, "type": "Warning",
        "involvedObject": {"uid": pod["metadata"]["uid"]}, "reason": "FailedMount", "message": GONE, "count": 2,
        "lastTimestamp": "2026-11-21T10:00:00Z",
    })  # fmt: skip


async def test_no_more_nodes_are_filled_at_a_time_than_the_platform_says() -> None:
    async with nodes(*"abcde", nodesAtATime=2) as op:
        op.controllers.holds.add("pull")
        a_model(op)
        for _ in range(10):
            await op.look()
        assert set(jobs(op, "pull")) == {"a", "b"}
        op.controllers.holds.clear()
        for job in jobs(op, "pull").values():
            op.controllers.end_job(job["metadata"]["name"])
        await op.settle(looks=40)

        assert filled(op) == set("abcde")


async def test_weights_are_brought_before_they_are_served_with_no_replicas() -> None:
    async with nodes("a") as op:
        a_model(op, replicas=0)
        await op.settle(looks=20)

        assert op.condition("WeightsReady") == ("True", "Downloaded")
        assert filled(op) == {"a"}

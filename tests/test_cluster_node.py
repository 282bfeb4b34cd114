"""The real node: what every other cluster test takes for granted."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster import images
from tests.cluster.kubernetes import AUDIT_LOG
from tests.cluster.places import API_PORT, BINARIES, CERTIFICATES, KUBECONFIG, NODE_ADDRESS, NODE_NAME
from tests.cluster.runtime import images as images_on_node

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

SERVE = "import http.server as h; h.HTTPServer(('', 8080), h.SimpleHTTPRequestHandler).serve_forever()"
# Rules follow an endpoint within a second or so: until then a connection to the Service is refused.
ASK = """
import time, urllib.request
for _ in range(50):
    try:
        print(urllib.request.urlopen("http://%s/", timeout=5).status)
        break
    except OSError:
        time.sleep(0.2)
"""
NOT_ROOT = {"runAsUser": 65532, "runAsNonRoot": True, "fsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}}

DATA: dict[str, Any] = {
    "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
    "mounts": [{"name": "data", "mountPath": "/data"}],
}


def kubectl(*words: str, manifest: object = None) -> str:
    """kubectl's output; a test fails with all that it said."""
    done = subprocess.run(
        [BINARIES / "kubectl", "--kubeconfig", KUBECONFIG, *words],
        input=None if manifest is None else json.dumps(manifest),
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def read(*words: str) -> Any:
    return json.loads(kubectl("get", "--output=json", *words))


@pytest.fixture(scope="module")
def python_image() -> str:
    """An image with a Python that is on the node already."""
    wanted = images.reference(images.ALL["weights"])
    repository = wanted.rpartition(":")[0]
    there = images_on_node()
    return wanted if wanted in there else next(found for found in there if found.startswith(f"{repository}:"))


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"node-{uuid.uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


def a_pod(image: str, code: str, **spec: object) -> dict[str, Any]:
    """A pod template's spec with one container that runs Python code as nobody in particular."""
    limits = spec.pop("limits", {})
    mounts = spec.pop("mounts", [])
    container = {
        "name": "main",
        "image": image,
        "command": ["python", "-c", code],
        "resources": {"limits": limits},
        "volumeMounts": mounts,
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"securityContext": NOT_ROOT, "automountServiceAccountToken": False, "terminationGracePeriodSeconds": 0}
    return {"containers": [container], **security, **spec}


def a_job(name: str, pod: dict[str, Any]) -> dict[str, Any]:
    template = {"spec": {**pod, "restartPolicy": "Never"}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": template},
    }


def a_claim(name: str, storage: str, **spec: object) -> dict[str, Any]:
    resources = {"requests": {"storage": storage}}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": resources, **spec},
    }


def outcome_of(namespace: str, job: str) -> str:
    """What the job's pod said. The test fails with it when the job does not complete."""
    kubectl(
        "-n", namespace, "wait", f"job/{job}", "--for=jsonpath={.status.conditions[-1].status}=True", "--timeout=60s"
    )
    said = kubectl("-n", namespace, "logs", f"job/{job}")
    assert read("-n", namespace, "job", job)["status"].get("succeeded") == 1, said
    return said


def test_the_node_is_ready() -> None:
    node = read("node", NODE_NAME)

    ready = [condition["status"] for condition in node["status"]["conditions"] if condition["type"] == "Ready"]
    assert ready == ["True"]
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "8"


def test_a_service_is_reached_by_its_name_and_logs_and_exec_work(namespace: str, python_image: str) -> None:
    labels = {"app": "server"}
    ready = {"readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1}}
    pod = a_pod(python_image, SERVE)
    pod["containers"][0].update(ready)
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "server"},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
    }
    ports = [{"port": 80, "targetPort": 8080}]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "server"},
        "spec": {"selector": labels, "ports": ports},
    }
    kubectl(
        "-n",
        namespace,
        "apply",
        "-f",
        "-",
        manifest={"apiVersion": "v1", "kind": "List", "items": [deployment, service]},
    )
    kubectl("-n", namespace, "rollout", "status", "deployment/server", "--timeout=60s")

    kubectl(
        "-n", namespace, "apply", "-f", "-", manifest=a_job("ask", a_pod(python_image, ASK % f"server.{namespace}.svc"))
    )

    assert outcome_of(namespace, "ask").strip() == "200"
    assert "GET / HTTP" in kubectl("-n", namespace, "logs", "deployment/server")
    assert kubectl("-n", namespace, "exec", "deployment/server", "--", "python", "-c", "print(6 * 7)").strip() == "42"


def test_a_claim_is_bound_and_a_pod_that_is_not_root_writes_to_it(namespace: str, python_image: str) -> None:
    code = "import pathlib as p; f = p.Path('/data/f'); f.write_text('kept'); print(f.read_text(), f.stat().st_gid)"
    items = [a_claim("data", "1Gi"), a_job("write", a_pod(python_image, code, **DATA))]
    kubectl("-n", namespace, "apply", "-f", "-", manifest={"apiVersion": "v1", "kind": "List", "items": items})

    assert outcome_of(namespace, "write").split() == ["kept", "65532"]
    assert read("-n", namespace, "pvc", "data")["status"]["phase"] == "Bound"


def test_a_limited_volume_holds_no_more_than_was_asked_for(namespace: str, python_image: str) -> None:
    code = (
        "import errno\n"
        "try: open('/data/f', 'wb').write(bytes(2 << 20))\n"
        "except OSError as error: print(errno.errorcode[error.errno])"
    )
    items = [a_claim("data", "1Mi", storageClassName="limited"), a_job("write", a_pod(python_image, code, **DATA))]
    kubectl("-n", namespace, "apply", "-f", "-", manifest={"apiVersion": "v1", "kind": "List", "items": items})

    assert outcome_of(namespace, "write").strip() == "ENOSPC"


def test_an_image_is_a_volume_that_can_be_read_and_not_written(namespace: str, python_image: str) -> None:
    code = (
        "import errno, os\n"
        "try: open('/image/f', 'w')\n"
        "except OSError as error: print(errno.errorcode[error.errno], os.path.isdir('/image/usr/lib'))"
    )
    mount = {"name": "image", "mountPath": "/image", "readOnly": True}
    pod = a_pod(python_image, code, mounts=[mount], volumes=[{"name": "image", "image": {"reference": python_image}}])
    kubectl("-n", namespace, "apply", "-f", "-", manifest=a_job("look", pod))

    assert outcome_of(namespace, "look").split() == ["EROFS", "True"]


def test_a_pod_that_asks_for_gpus_is_scheduled(namespace: str, python_image: str) -> None:
    pod = a_pod(python_image, "print('ran')", limits={"nvidia.com/gpu": 2})
    kubectl("-n", namespace, "apply", "-f", "-", manifest=a_job("gpus", pod))

    assert outcome_of(namespace, "gpus").strip() == "ran"


def test_a_token_proves_who_one_is_and_the_audit_log_tells_what_was_asked(namespace: str) -> None:
    kubectl("-n", namespace, "create", "serviceaccount", "reader")
    token = kubectl("-n", namespace, "create", "token", "reader").strip()
    server = (f"--server=https://{NODE_ADDRESS}:{API_PORT}", f"--certificate-authority={CERTIFICATES / 'ca.crt'}")

    # The file's own certificate would win over the token: this call has no such file.
    nobody = [str(BINARIES / "kubectl"), "--kubeconfig=/dev/null", *server, f"--token={token}"]
    done = subprocess.run([*nobody, "auth", "whoami", "--output=json"], text=True, capture_output=True)

    account = f"system:serviceaccount:{namespace}:reader"
    assert json.loads(done.stdout)["status"]["userInfo"]["username"] == account
    asked = [json.loads(line) for line in AUDIT_LOG.read_text().splitlines() if account in line]
    assert any(entry["verb"] == "create" and entry["user"]["username"] == account for entry in asked)

"""The node's certificate authority, the certificates it signs, and a kubeconfig for each that holds one. All by openssl."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.places import (
    API_PORT,
    CERTIFICATES,
    DOMAIN,
    KUBECONFIG,
    NODE_ADDRESS,
    NODE_NAME,
    SERVICE_ADDRESS,
)
from tests.cluster.steps import run

DAYS = "3650"  # the node lives for hours, but a laptop may sleep
ELLIPTIC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True, slots=True)
class Identity:
    """One certificate: the user (common name) and group (organisation) that Kubernetes reads from it."""

    file: str
    user: str
    group: str = ""
    names: str = ""

    @property
    def subject(self) -> str:
        return f"/O={self.group}/CN={self.user}" if self.group else f"/CN={self.user}"


API_NAMES = ",".join(
    (
        *(f"DNS:{name}" for name in ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")),
        f"DNS:kubernetes.default.svc.{DOMAIN}",
        *(f"IP:{address}" for address in ("127.0.0.1", NODE_ADDRESS, SERVICE_ADDRESS)),
    )
)
ADMIN = Identity("admin", "kubernetes-admin", "system:masters")
CLIENTS = (
    ADMIN,
    Identity("kube-controller-manager", "system:kube-controller-manager"),
    Identity("kube-scheduler", "system:kube-scheduler"),
    Identity("kube-proxy", "system:kube-proxy"),
    Identity("kubelet", f"system:node:{NODE_NAME}", "system:nodes"),
)
SERVER = Identity("kube-apiserver", "kube-apiserver", names=API_NAMES)


def path(name: str) -> Path:
    """Where a certificate (.crt), a key (.key) or a kubeconfig (.kubeconfig) lies."""
    return CERTIFICATES / name


def issue() -> None:
    """Makes authority, certificates and kubeconfigs, unless an earlier `up` of this life did."""
    done = path("done")
    if done.exists():
        return
    CERTIFICATES.mkdir(parents=True, exist_ok=True)
    CERTIFICATES.chmod(0o700)
    files = ("-keyout", path("ca.key"), "-out", path("ca.crt"))
    run("openssl", "req", "-x509", *ELLIPTIC, "-days", DAYS, "-subj", "/CN=vllm-operator-node", *files)
    run("openssl", "genrsa", "-out", path("service-accounts.key"), "2048")
    with ThreadPoolExecutor() as pool:
        list(pool.map(_sign, (*CLIENTS, SERVER)))
    for identity in CLIENTS:
        _write_kubeconfig(identity, path(f"{identity.file}.kubeconfig"))
    _write_kubeconfig(ADMIN, KUBECONFIG)
    done.touch()


def _sign(identity: Identity) -> None:
    names = ("-addext", f"subjectAltName={identity.names}") if identity.names else ()
    authority = ("-CA", path("ca.crt"), "-CAkey", path("ca.key"), "-days", DAYS)
    files = ("-keyout", path(f"{identity.file}.key"), "-out", path(f"{identity.file}.crt"))
    # What req copies from its own configuration calls every certificate an authority: this one must not be.
    plain = ("-addext", "basicConstraints=critical,CA:FALSE")
    run("openssl", "req", "-x509", *ELLIPTIC, *authority, "-subj", identity.subject, *plain, *names, *files)


def _write_kubeconfig(identity: Identity, file: Path) -> None:
    def inline(name: str) -> str:
        return base64.b64encode(path(name).read_bytes()).decode()

    user = {
        "client-certificate-data": inline(f"{identity.file}.crt"),
        "client-key-data": inline(f"{identity.file}.key"),
    }
    cluster = {"server": f"https://{NODE_ADDRESS}:{API_PORT}", "certificate-authority-data": inline("ca.crt")}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": NODE_NAME,
        "clusters": [{"name": NODE_NAME, "cluster": cluster}],
        "users": [{"name": identity.user, "user": user}],
        "contexts": [{"name": NODE_NAME, "context": {"cluster": NODE_NAME, "user": identity.user}}],
    }
    file.touch(mode=0o600)
    file.write_text(json.dumps(config, indent=1) + "\n")  # JSON is YAML, too

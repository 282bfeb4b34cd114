"""The command lines and files of Kubernetes' own components, each reason beside its flag."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cluster import processes
from tests.cluster.certificates import path
from tests.cluster.places import (
    API_PORT,
    BINARIES,
    CONTAINERD_SOCKET,
    DEVICES,
    DOMAIN,
    ETCD_PEER_PORT,
    ETCD_PORT,
    MACHINE,
    NODE_ADDRESS,
    NODE_NAME,
    POD_RANGE,
    SERVICE_RANGE,
    STATE,
    VOLUMES,
)

COMPONENTS = (
    "containerd",
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "coredns",
    "volume-provisioner",
)
ETCD_URL = f"http://127.0.0.1:{ETCD_PORT}"
AUDIT_LOG = STATE / "audit.log"
LOOPBACK = "127.0.0.1"
KUBELET_ROOT = STATE / "kubelet"
POD_LOGS = STATE / "pod-logs"
COREFILE = """\
.:53 {
    bind %(address)s
    errors
    health 127.0.0.1:8089
    ready 127.0.0.1:8189
    kubernetes %(domain)s in-addr.arpa {
        kubeconfig %(kubeconfig)s %(context)s
        pods insecure
        ttl 5
    }
    forward . /etc/resolv.conf
    cache 10 {
        denial 1000 1
    }
}
"""


def start_etcd() -> None:
    """The store. Its state is young and worth nothing, so it need not wait for the disk."""
    peer = f"http://{LOOPBACK}:{ETCD_PEER_PORT}"
    processes.start(
        "etcd",
        BINARIES / "etcd",
        f"--data-dir={STATE / 'etcd'}",
        f"--listen-client-urls={ETCD_URL}",
        f"--advertise-client-urls={ETCD_URL}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    )


def start_apiserver() -> None:
    """Listens on the node's own address alone: nothing outside this machine reaches it."""
    policy = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata"}],
    }
    policy_file = _written("audit-policy.json", json.dumps(policy))
    processes.start(
        "kube-apiserver",
        BINARIES / "kube-apiserver",
        f"--etcd-servers={ETCD_URL}",
        f"--bind-address={NODE_ADDRESS}",
        f"--advertise-address={NODE_ADDRESS}",
        f"--secure-port={API_PORT}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        f"--tls-cert-file={path('kube-apiserver.crt')}",
        f"--tls-private-key-file={path('kube-apiserver.key')}",
        f"--client-ca-file={path('ca.crt')}",
        # kubelet lets this user read logs and run commands in pods.
        f"--kubelet-client-certificate={path('admin.crt')}",
        f"--kubelet-client-key={path('admin.key')}",
        "--kubelet-preferred-address-types=InternalIP",
        "--authorization-mode=Node,RBAC",
        # Beside the defaults, which have ValidatingAdmissionPolicy and PodSecurity: what strict clusters add.
        "--enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement",
        f"--service-account-issuer=https://kubernetes.default.svc.{DOMAIN}",
        f"--service-account-key-file={path('service-accounts.key')}",
        f"--service-account-signing-key-file={path('service-accounts.key')}",
        f"--audit-log-path={AUDIT_LOG}",
        f"--audit-policy-file={policy_file}",
        "--audit-log-maxsize=1000",
    )


def start_controllers() -> None:
    """Controller manager and scheduler."""
    processes.start(
        "kube-controller-manager",
        BINARIES / "kube-controller-manager",
        *_as("kube-controller-manager"),
        f"--service-account-private-key-file={path('service-accounts.key')}",
        f"--root-ca-file={path('ca.crt')}",
        "--use-service-account-credentials=true",
        "--leader-elect=false",
        f"--bind-address={LOOPBACK}",
    )
    processes.start(
        "kube-scheduler",
        BINARIES / "kube-scheduler",
        *_as("kube-scheduler"),
        "--leader-elect=false",
        f"--bind-address={LOOPBACK}",
    )


def start_kubelet() -> None:
    """The one node."""
    config = _written("kubelet.json", json.dumps(_kubelet_config(), indent=1))
    processes.start(
        "kubelet",
        BINARIES / "kubelet",
        f"--config={config}",
        f"--kubeconfig={path('kubelet.kubeconfig')}",
        f"--hostname-override={NODE_NAME}",
        f"--node-ip={NODE_ADDRESS}",
        f"--root-dir={KUBELET_ROOT}",
        f"--cert-dir={KUBELET_ROOT / 'pki'}",
    )


def _kubelet_config() -> dict[str, object]:
    never = {"memory.available": "50Mi", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%"}
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_ADDRESS,
        "authentication": {
            "x509": {"clientCAFile": str(path("ca.crt"))},
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "clusterDNS": [NODE_ADDRESS],
        "clusterDomain": DOMAIN,
        "podLogsDir": str(POD_LOGS),
        "healthzBindAddress": LOOPBACK,
        "readOnlyPort": 0,
        # Machines like ours have the older or both kinds of cgroups, no systemd, and sometimes swap.
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        # Without iptables there is nothing of kubelet's to clean up afterwards.
        "makeIPTablesUtilChains": False,
        # The machine's disk may well look full: neither images nor pods go for that.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": never,
        "maxPods": 250,
        "serializeImagePulls": False,
        "registerWithTaints": [],
        # Tests watch pods come and go: the node says so soon.
        "nodeStatusUpdateFrequency": "5s",
        "syncFrequency": "10s",
    }


def start_proxy() -> None:
    """Services by nftables."""
    config = _written("kube-proxy.json", json.dumps(_proxy_config(), indent=1))
    processes.start("kube-proxy", BINARIES / "kube-proxy", f"--config={config}")


def _proxy_config() -> dict[str, object]:
    # Connection tracking keeps the machine's own limits.
    untouched = {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"}
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(path("kube-proxy.kubeconfig"))},
        "hostnameOverride": NODE_NAME,
        "mode": "nftables",
        "clusterCIDR": POD_RANGE,
        "bindAddress": NODE_ADDRESS,
        "healthzBindAddress": f"{LOOPBACK}:10256",
        "metricsBindAddress": f"{LOOPBACK}:10249",
        "conntrack": untouched,
        # Ten times as quick as the default of a second: a pod that is Ready is reached soon.
        "nftables": {"minSyncPeriod": "100ms"},
    }


def start_dns() -> None:
    """CoreDNS as a process of the machine, on the node's address: no image, and there before the first pod."""
    admin = {"kubeconfig": json.dumps(str(path("admin.kubeconfig"))), "context": NODE_NAME}
    corefile = _written("Corefile", COREFILE % {"address": NODE_ADDRESS, "domain": DOMAIN, **admin})
    processes.start("coredns", BINARIES / "coredns", "-conf", corefile)


def start_volumes() -> None:
    """Folders as volumes for the storage classes of objects.yaml."""
    VOLUMES.mkdir(parents=True, exist_ok=True)
    kubeconfig = path("admin.kubeconfig")
    command = (BINARIES / "volume-provisioner", f"--kubeconfig={kubeconfig}", f"--root={VOLUMES}")
    processes.start("volume-provisioner", *command)


def start_devices(count: int) -> None:
    """Devices that are not there, by dynamic resource allocation: for the tests that want them, until the node goes down."""
    kubeconfig = path("admin.kubeconfig")
    folders = (f"--registry={KUBELET_ROOT / 'plugins_registry'}", f"--data={MACHINE / 'driver'}", f"--specs={DEVICES}")
    command = (BINARIES / "device-driver", f"--kubeconfig={kubeconfig}", f"--node={NODE_NAME}", f"--count={count}")
    processes.start("device-driver", *command, *folders)


def _written(name: str, text: str) -> Path:
    """The file of that name with that text. One that says so already is left alone: kube-proxy ends when its own is touched."""
    file = STATE / name
    if not file.exists() or file.read_text() != text:
        file.write_text(text)
    return file


def _as(component: str) -> tuple[str, ...]:
    file = path(f"{component}.kubeconfig")
    return tuple(f"--{kind}={file}" for kind in ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"))

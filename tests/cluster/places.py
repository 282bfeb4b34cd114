"""Where everything of the node lies, and which addresses it uses. Nothing else in this package builds such a path."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent

# What belongs to one life of the node: removed by `down`.
STATE = ROOT / ".cluster"
KUBECONFIG = STATE / "kubeconfig"
LOGS = STATE / "logs"
CERTIFICATES = STATE / "certificates"
VOLUMES = STATE / "volumes"
BINARIES = STATE / "bin"

# What belongs to the machine, which holds one node at a time. Sockets lie here too: a path to one must stay short.
MACHINE = Path("/run/vllm-operator")
PIDS = MACHINE / "pids"
OWNER = MACHINE / "owner.json"
LOCK = Path("/run/lock/vllm-operator-node.lock")
DEVICES = MACHINE / "devices"
CONTAINERD_STATE = MACHINE / "containerd"
CONTAINERD_SOCKET = CONTAINERD_STATE / "containerd.sock"

# What every later life uses again: binaries, images, models. `make clean-cache` removes it.
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vllm-operator"

NODE_NAME = "embedded"
# Ranges that few networks use: the machine's own routes win over nothing here.
NODE_ADDRESS = "10.213.255.1"
POD_RANGE = "10.213.0.0/23"  # 510 addresses: twice the most pods that the node takes
SERVICE_RANGE = "10.214.0.0/16"
SERVICE_ADDRESS = "10.214.0.1"  # of the Service `kubernetes`: always the first of the range
DOMAIN = "cluster.local"
API_PORT = 6443
ETCD_PORT = 23790  # etcd's own port stays free for an etcd of somebody else
ETCD_PEER_PORT = 23800

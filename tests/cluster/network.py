"""The node's network on this machine: its address, routes for pods, and what the kernel must allow.

Every pod has a link of its own to the machine (the `ptp` plugin), so all traffic is routed: no bridge, and nothing depends on
how this kernel filters bridged packets.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.cluster.places import MACHINE, NODE_ADDRESS, POD_RANGE, SERVICE_RANGE, STATE
from tests.cluster.steps import run, succeeds

CNI_CONFIG = STATE / "cni"
NFT_TABLE = ("ip", "vllm-operator-node")
# On the loopback interface: every kernel has that one, and an address there answers as long as the machine lives.
ADDRESS = (f"{NODE_ADDRESS}/32", "dev", "lo")
# What kubelet and we change; `down` puts the old values back.
SYSCTLS = (
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
    "vm/overcommit_memory",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
_SAVED = MACHINE / "sysctl.json"


def set_up() -> None:
    """Address, translation and the plugin's configuration. Harmless when they are there already."""
    _save_sysctls()
    if not _address_is_there():
        run("ip", "address", "add", *ADDRESS)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    run("nft", "-f", "-", input=_translation())
    _open_firewall()
    CNI_CONFIG.mkdir(parents=True, exist_ok=True)
    (CNI_CONFIG / "10-pods.conflist").write_text(json.dumps(_plugins(), indent=1))


def take_down() -> None:
    """Removes all of it. Pods' links are gone with their namespaces."""
    if _address_is_there():
        run("ip", "address", "delete", *ADDRESS)
    for table in (NFT_TABLE, ("ip", "kube-proxy"), ("ip6", "kube-proxy")):
        if succeeds("nft", "list", "table", *table):
            run("nft", "delete", "table", *table)
    _close_firewall()
    _restore_sysctls()


def _open_firewall() -> None:
    """Lets pods' packets through a machine that forwards none by default: Docker sets that policy, and no rule elsewhere lifts it."""
    if shutil.which("iptables") is None or "-P FORWARD DROP" not in run("iptables", "-S", "FORWARD", check=False):
        return
    for rule in _forwarding_rules():
        if not succeeds("iptables", "--check", "FORWARD", *rule):
            run("iptables", "--insert", "FORWARD", *rule)


def _close_firewall() -> None:
    if shutil.which("iptables") is None:
        return
    for rule in _forwarding_rules():
        if succeeds("iptables", "--check", "FORWARD", *rule):
            run("iptables", "--delete", "FORWARD", *rule)


def _forwarding_rules() -> tuple[tuple[str, ...], ...]:
    return (("--source", POD_RANGE, "--jump", "ACCEPT"), ("--destination", POD_RANGE, "--jump", "ACCEPT"))


def _address_is_there() -> bool:
    return f" {NODE_ADDRESS}/32 " in run("ip", "address", "show", "dev", "lo")


def _translation() -> str:
    """Pods reach the world outside under the machine's address, and each other and the Services under their own."""
    inside = f"{{ {POD_RANGE}, {SERVICE_RANGE}, {NODE_ADDRESS} }}"
    table = " ".join(NFT_TABLE)
    # Named, deleted and made: the usual way to replace a table that may or may not be there, in one transaction.
    return f"""\
table {table}
delete table {table}
table {table} {{
    chain outward {{
        type nat hook postrouting priority srcnat
        ip saddr {POD_RANGE} ip daddr != {inside} masquerade
    }}
}}
"""


def _plugins() -> dict[str, object]:
    addresses = {
        "type": "host-local",
        "dataDir": str(MACHINE / "addresses"),
        "ranges": [[{"subnet": POD_RANGE}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    pods = {"type": "ptp", "ipMasq": False, "ipam": addresses}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [pods]}


def _save_sysctls() -> None:
    if _SAVED.exists():
        return
    MACHINE.mkdir(parents=True, exist_ok=True)
    values = {name: path.read_text().strip() for name in SYSCTLS if (path := Path("/proc/sys") / name).exists()}
    _SAVED.write_text(json.dumps(values))


def _restore_sysctls() -> None:
    if not _SAVED.exists():
        return
    for name, value in json.loads(_SAVED.read_text()).items():
        path = Path("/proc/sys") / name
        if path.read_text().strip() != value:
            path.write_text(value)
    _SAVED.unlink()

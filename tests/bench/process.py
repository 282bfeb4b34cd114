"""The operator's real process, looked at from outside: its CPU time, its memory, and how long it lets a caller wait."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

MIB = 1 << 20
ASK_EVERY_SECONDS = 0.05
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Process:
    """A running `vllm-operator run`."""

    popen: subprocess.Popen[bytes]
    metrics_port: int
    log: Path

    def cpu_seconds(self) -> float:
        """CPU time of all its threads, user and system, since it began."""
        fields = Path(f"/proc/{self.popen.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def waited_seconds(self) -> float:
        """For how long its main thread could have run and other processes had the cores."""
        return int(Path(f"/proc/{self.popen.pid}/schedstat").read_text().split()[1]) / 1e9

    def memory(self) -> tuple[float, float]:
        """Resident memory now and at its highest, in MiB."""
        lines = Path(f"/proc/{self.popen.pid}/status").read_text().splitlines()
        found = dict(line.split(":", 1) for line in lines if ":" in line)
        now, highest = (int(found[key].split()[0]) * 1024 / MIB for key in ("VmRSS", "VmHWM"))
        return now, highest

    def last_words(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-3000:]


@contextmanager
def an_operator(url: str, folder: Path, nodes: bool) -> Iterator[Process]:
    """The process while the context lasts; it is told to end, and made to when it does not within ten seconds."""
    kubeconfig, log, port = folder / "kubeconfig", folder / "operator.log", _a_free_port()
    kubeconfig.write_text(yaml.safe_dump(_kubeconfig(url)))
    settings = folder / "settings.yaml"
    settings.write_text(
        yaml.safe_dump({"nodeCache": {"path": "/var/lib/weights", "namespace": "platform"}} if nodes else {})
    )
    command = [
        sys.executable,
        "-m",
        "vllm_operator",
        "run",
        "--metrics",
        f"127.0.0.1:{port}",
        "--settings",
        str(settings),
    ]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("KUBERNETES_")}
    with log.open("ab") as output:
        popen = subprocess.Popen(
            command, env={**environment, "KUBECONFIG": str(kubeconfig)}, stdout=output, stderr=output
        )
    try:
        yield Process(popen, port, log)
    finally:
        popen.terminate()
        try:
            popen.wait(10)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()


def _kubeconfig(url: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "bench",
        "clusters": [{"name": "bench", "cluster": {"server": url}}],
        "users": [{"name": "me", "user": {"token": "t"}}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "me"}}],
    }


def _a_free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@dataclass(slots=True)
class Lag:
    """How long the process let a caller wait who asked for nothing: its event loop was busy for as long."""

    port: int
    seconds: list[float] = field(default_factory=list)

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Asks every 50 ms while the context lasts. An answer costs the process some 0.3 ms."""
        ended = threading.Event()
        thread = threading.Thread(target=self._ask, args=(ended,))
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _ask(self, ended: threading.Event) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        while not ended.wait(ASK_EVERY_SECONDS):
            begun = time.monotonic()
            try:
                connection.request("GET", "/nothing")
                connection.getresponse().read()
            except OSError:
                connection.close()
                continue
            self.seconds.append(time.monotonic() - begun)
        connection.close()

    def at(self, share: float) -> float:
        """Milliseconds that this share of the answers did not exceed."""
        ordered = sorted(self.seconds) or [0.0]
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]

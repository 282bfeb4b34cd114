"""The phases of the bench: create, rest, a restart, a change, long loading, delete; each measured from its beginning to quiet."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.bench.cluster import Pace, Tally, main
from tests.bench.process import Lag, Process, an_operator

WATCHES = 8  # models, six kinds of children, and kopf watches the definitions of kinds
REST_SECONDS = 30.0
QUIET_SECONDS = 2.0  # without a request: longer than the queue's spacing and the cluster's steps
LOADING_SECONDS = 15.0  # three of the operator's looks at a loading server, and one reading of its log
SETTLED_SECONDS = 6.0  # after a change: the looks that it called for are over
LONGEST_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Phase:
    """What one phase cost the whole process."""

    name: str
    tally: Tally
    cpu_seconds: float
    seconds: float
    waited_seconds: float
    memory_mib: float


@dataclass(slots=True)
class Measured:
    """All phases, and what is told beside them."""

    models: int
    nodes: int = 0  # that each model's weights lie on; 0: on a volume
    phases: list[Phase] = field(default_factory=list)
    empty_mib: float = 0.0
    highest_mib: float = 0.0
    to_ready: dict[str, list[float]] = field(default_factory=dict)  # by phase: seconds of each model, in order
    lag: Lag = field(default_factory=lambda: Lag(0))

    def phase(self, name: str) -> Phase:
        """The phase of that name."""
        return next(phase for phase in self.phases if phase.name == name)


@dataclass(slots=True)
class Bench:
    """A cluster that obeys, and the operator that is measured."""

    pipe: Connection
    operator: Process
    measured: Measured
    say: Callable[[str], None]
    quiet: float = QUIET_SECONDS

    def ask(self, order: str, *arguments: Any) -> Any:
        """The cluster does it and answers."""
        self.pipe.send((order, *arguments))
        return self.pipe.recv()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measures what happens inside."""
        self.say(f"→ {name}")
        process = self.operator
        before: Tally = self.ask("seen")
        cpu, waited, begun = process.cpu_seconds(), process.waited_seconds(), time.monotonic()
        yield
        phase = Phase(
            name,
            self.ask("seen").minus(before),
            process.cpu_seconds() - cpu,
            time.monotonic() - begun,
            process.waited_seconds() - waited,
            process.memory()[0],
        )
        self.measured.phases.append(phase)
        self.measured.highest_mib = max(self.measured.highest_mib, process.memory()[1])
        self.say(f"✓ {name}: {phase.seconds:.0f} s")

    def until(self, is_done: Callable[[], bool], what: str) -> None:
        """Waits until it is done and the operator asks nothing any more. Raises TimeoutError with the process' log."""
        begun, before, since = time.monotonic(), -1, time.monotonic()
        while time.monotonic() - begun < LONGEST_SECONDS:
            if self.operator.popen.poll() is not None:
                raise RuntimeError(f"the operator has ended:\n{self.operator.last_words()}")
            seen: Tally = self.ask("seen")
            if not is_done() or seen.reads + seen.writes != before:
                before, since = seen.reads + seen.writes, time.monotonic()
            elif time.monotonic() - since > self.quiet:
                return
            time.sleep(0.1)
        raise TimeoutError(f"not within {LONGEST_SECONDS:.0f} s: {what}\n{self.operator.last_words()}")

    def until_ready(self) -> None:
        """Until all models are Ready with their present spec."""
        self.until(lambda: len(self.ask("waits")) == self.measured.models, "all models are Ready")


def measure(
    models: int,
    say: Callable[[str], None],
    *,
    rest: float = REST_SECONDS,
    loading: float = LOADING_SECONDS,
    quiet: float = QUIET_SECONDS,
    pace: Pace | None = None,
    nodes: int = 0,
) -> Measured:
    """Runs all phases with so many models. Leaves no process. Raises TimeoutError when a phase does not end."""
    measured = Measured(models, nodes)
    with tempfile.TemporaryDirectory() as name, a_cluster(pace or Pace()) as (pipe, url):
        folder = Path(name)
        with a_bench(pipe, url, folder, measured, say, quiet) as bench:
            measured.empty_mib = bench.operator.memory()[0]
            measured.lag.port = bench.operator.metrics_port
            _create_and_rest(bench, rest)
        with a_bench(pipe, url, folder, measured, say, quiet, name="restart") as bench:
            measured.lag.port = bench.operator.metrics_port
            _change_and_delete(bench, loading)
    return measured


def _create_and_rest(bench: Bench, rest: float) -> None:
    measured = bench.measured
    with measured.lag.measured(), bench.phase("create"):
        bench.ask("create", measured.models, measured.nodes)
        bench.until_ready()
    measured.to_ready["create"] = bench.ask("waits")
    with bench.phase("rest"):
        time.sleep(rest)


def _load(bench: Bench, seconds: float) -> None:
    """All servers load their model for a long time, as large ones do: what does waiting for them cost."""
    bench.say("→ new servers that do not come to an end with loading")
    bench.ask("load_forever")
    bench.ask("change", 512)
    begun = time.monotonic()
    while bench.ask("loading") < bench.measured.models:
        if time.monotonic() - begun > LONGEST_SECONDS:
            raise TimeoutError(f"not all servers load anew\n{bench.operator.last_words()}")
        time.sleep(0.1)
    time.sleep(min(seconds, SETTLED_SECONDS))
    with bench.phase("loading"):
        time.sleep(seconds)


def _change_and_delete(bench: Bench, loading: float) -> None:
    measured = bench.measured
    with measured.lag.measured(), bench.phase("change"):
        bench.ask("change", 1024)
        bench.until_ready()
    measured.to_ready["change"] = bench.ask("waits")
    _load(bench, loading)
    with measured.lag.measured(), bench.phase("delete"):
        bench.ask("delete")
        bench.until(lambda: bench.ask("left") == 0, "nothing is left of the models")


@contextmanager
def a_cluster(pace: Pace) -> Iterator[tuple[Connection, str]]:
    """The cluster's process, and the URL of its API."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=main, args=(theirs, pace), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours, ours.recv()
    finally:
        ours.close()
        process.join(10)
        if process.is_alive():
            process.kill()
            process.join()


@contextmanager
def a_bench(
    pipe: Connection,
    url: str,
    folder: Path,
    measured: Measured,
    say: Callable[[str], None],
    quiet: float,
    name: str = "start",
) -> Iterator[Bench]:
    """An operator that has started: it watches, has looked at everything, and asks nothing any more."""
    pipe.send(("seen",))
    before: Tally = pipe.recv()
    with an_operator(url, folder, measured.nodes > 0) as process:
        bench = Bench(pipe, process, measured, say, quiet)
        with bench.phase(name):  # from its first moment: it has hardly begun to import
            bench.until(lambda: bench.ask("seen").watches - before.watches >= WATCHES, "it watches")
        yield bench

"""The table of the bench, for a person."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench.phases import Measured, Phase

_COLUMNS = ("", "reads", "writes", "Events", "questions", "CPU ms", "seconds", "waited s", "RSS MiB")
_WHOLE = {"start"}  # phases without models: what the process costs by itself


def table(measured: Measured) -> str:
    """All that was measured, in lines."""
    return "\n".join(_lines(measured))


def _lines(measured: Measured) -> Iterator[str]:
    yield f"{measured.models} models; reads, writes (Events are counted apart), questions to servers and CPU are per model"
    yield _row(*_COLUMNS)
    for phase in measured.phases:
        yield _phase_row(phase, 1 if phase.name in _WHOLE else measured.models)
    yield ""
    after = measured.phase("rest").memory_mib
    per_model = (after - measured.empty_mib) * 1024 / measured.models
    yield f"memory: {measured.empty_mib:.0f} MiB with no model, {after:.0f} MiB at rest ({per_model:.0f} KiB a model), "
    yield f"        {measured.highest_mib:.0f} MiB at its highest, {measured.phase('restart').memory_mib:.0f} MiB after a restart"
    rest = measured.phase("rest")
    yield f"at rest for {rest.seconds:.0f} s: {rest.tally.reads + rest.tally.writes} requests to the API server in all, "
    yield f"        {100 * rest.cpu_seconds / rest.seconds:.1f} % of one core"
    loading = measured.phase("loading")
    share = 60 / loading.seconds / measured.models
    yield f"while a server loads: {share * loading.tally.reads:.0f} reads and {1000 * share * loading.cpu_seconds:.0f} ms CPU a minute"
    for name, waits in measured.to_ready.items():
        yield f"{name} to Ready: half of them within {waits[len(waits) // 2]:.1f} s, all within {waits[-1]:.1f} s"
    lag = measured.lag
    yield f"event loop: {lag.at(0.5):.0f} ms (half), {lag.at(0.99):.0f} ms (99 of 100), {lag.at(1.0):.0f} ms (worst) until it answered"
    yield "requests of a created model: " + _paths(measured.phase("create"), measured.models)
    yield "requests after a restart:    " + _paths(measured.phase("restart"), measured.models)


def _phase_row(phase: Phase, models: int) -> str:
    tally = phase.tally
    return _row(
        phase.name,
        f"{tally.reads / models:.1f}",
        f"{(tally.writes - tally.events) / models:.1f}",
        f"{tally.events / models:.1f}",
        f"{tally.asked / models:.1f}",
        f"{1000 * phase.cpu_seconds / models:.1f}",
        f"{phase.seconds:.0f}",
        f"{phase.waited_seconds:.1f}",
        f"{phase.memory_mib:.0f}",
    )


def _row(first: str, *cells: str) -> str:
    return f"{first:<8}" + "".join(f"{cell:>11}" for cell in cells)


def _paths(phase: Phase, models: int) -> str:
    return ", ".join(f"{path} {count / models:.1f}" for path, count in phase.tally.paths.most_common(24))

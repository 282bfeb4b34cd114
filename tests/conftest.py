"""A test that passes on its second try still shows why the first one failed."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    again = terminalreporter.getreports("rerun")
    if not again:
        return
    terminalreporter.section("first tries that failed")
    for report in again:
        terminalreporter.section(report.nodeid, "_")
        report.toterminal(terminalreporter._tw)

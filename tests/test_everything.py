"""The sum that `make test` prints is what the phases counted."""

from __future__ import annotations

from tests.everything import Sum


def test_a_phase_counts_by_its_closing_line() -> None:
    total = Sum()

    total.add("pure", 0, "....\n12 passed, 3 warnings in 1.02s\n")
    total.add("node", 1, "F.\nFAILED tests/test_x.py::test_y\n1 failed, 7 passed, 1 rerun in 60.00s (0:01:00)\n")

    assert (total.passed, total.failed, total.bad) == (19, 1, ["node"])


def test_a_phase_that_ends_without_a_closing_line_is_a_failure() -> None:
    total = Sum()

    total.add("pure", -15, "....\n")

    assert (total.passed, total.failed) == (0, 1)


def test_an_error_in_a_fixture_counts_as_a_failure() -> None:
    total = Sum()

    total.add("node", 1, "2 passed, 1 error in 3.00s\n")

    assert (total.passed, total.failed) == (2, 1)

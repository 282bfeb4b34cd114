"""The sum that `make test` prints is what the phases counted."""

from __future__ import annotations

from tests.everything import Sum


def test_a_phase_counts_by_its_closing_line() -> None:
    total = Sum()

    total.add("pure", 0, "....\n12 passed, 3 warnings in 1.02s\n")
    total.add("node", 1, "F.\nFAILED tests/test_x.py::test_y\n1 failed, 7 passed, 1 rerun in 60.00s (0:01:00)\n")

    assert (total.passed, total.failed, total.rerun, total.bad) == (19, 1, 1, ["node"])


def test_the_sum_is_a_closing_line_as_pytest_writes_it() -> None:
    total = Sum()
    total.add("pure", 0, "12 passed, 1 rerun in 1.02s\n")

    assert total.closing(71.5) == "12 passed, 1 rerun in 71.50s (0:01:11)"

    total.add("node", -9, "")

    assert total.closing(72) == "1 failed, 12 passed, 1 rerun in 72.00s (0:01:12)"


def test_a_phase_that_ends_without_a_closing_line_is_a_failure() -> None:
    total = Sum()

    total.add("pure", -15, "....\n")

    assert (total.passed, total.failed) == (0, 1)


def test_an_error_in_a_fixture_counts_as_a_failure() -> None:
    total = Sum()

    total.add("node", 1, "2 passed, 1 error in 3.00s\n")

    assert (total.passed, total.failed) == (2, 1)

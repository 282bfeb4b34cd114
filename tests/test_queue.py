"""The keyed queue: one run per key at a time, nothing lost, nothing hot."""

from __future__ import annotations

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from vllm_operator.queue import EVENT_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS, Key, Schedule

A, B, C = Key("team", "a"), Key("team", "b"), Key("team", "c")
NUMBERS = st.integers(0, 4)


def a_schedule(spacing: float = 0.0) -> Schedule:
    return Schedule(spacing=spacing, jitter=random.Random(1))


def test_the_same_key_asked_for_twice_runs_once() -> None:
    schedule = a_schedule()
    schedule.add(A, 0.0)
    schedule.add(A, 0.0)

    assert schedule.take(0.0) == A
    assert schedule.take(0.0) is None


def test_a_key_that_runs_is_not_given_out_a_second_time() -> None:
    schedule = a_schedule()
    schedule.add(A, 0.0)
    schedule.take(0.0)
    schedule.add(A, 1.0)

    assert schedule.take(1.0) is None


def test_an_event_during_a_run_brings_another_run() -> None:
    schedule = a_schedule()
    schedule.add(A, 0.0)
    schedule.take(0.0)
    schedule.add(A, 1.0)
    schedule.finished(A, 2.0, again_after=None)

    assert schedule.take(2.0) == A


def test_the_key_that_waited_longest_comes_first() -> None:
    schedule = a_schedule()
    schedule.add(B, 1.0)
    schedule.add(A, 0.0)

    assert [schedule.take(2.0), schedule.take(2.0)] == [A, B]


def test_a_deadline_is_kept_and_an_event_comes_before_it() -> None:
    schedule = a_schedule()
    schedule.add(A, 0.0)
    schedule.take(0.0)
    schedule.finished(A, 0.0, again_after=10.0)

    assert schedule.take(9.9) is None
    schedule.add(A, 5.0)
    assert schedule.take(5.0) == A
    schedule.finished(A, 5.0, again_after=None)
    assert schedule.take(100.0) is None, "the old deadline went with the run that came before it"


def test_a_deadline_set_during_the_run_is_not_lost() -> None:
    schedule = a_schedule()
    schedule.add(A, 0.0)
    schedule.take(0.0)
    schedule.add_at(A, 3.0)
    assert schedule.next_due() is None
    schedule.finished(A, 1.0, again_after=60.0)

    assert schedule.next_due() == 3.0


def test_a_storm_of_events_is_spaced() -> None:
    schedule = a_schedule(spacing=0.5)
    runs = 0
    for tick in range(200):  # ten seconds of an event every 50 ms
        now = tick * 0.05
        schedule.add(A, now)
        if schedule.take(now) == A:
            runs += 1
            schedule.finished(A, now, again_after=None)

    assert 19 <= runs <= 21


def test_errors_back_off_from_half_a_second_to_five_minutes_with_jitter() -> None:
    schedule = a_schedule()
    delays, now = [], 0.0
    schedule.add(A, now)
    for _ in range(14):
        assert schedule.take(now) == A
        delays.append(schedule.failed(A, now))
        now += delays[-1]

    assert 0.25 <= delays[0] <= 0.5
    assert 0.5 <= delays[1] <= 1.0
    assert all(LONGEST_BACKOFF_SECONDS / 2 <= delay <= LONGEST_BACKOFF_SECONDS for delay in delays[-3:])
    assert len(set(delays[-3:])) == 3, "jitter keeps many failing keys apart"


def test_who_is_too_busy_is_given_the_time_that_it_asked_for() -> None:
    schedule = a_schedule()
    schedule.add(A, 0.0)
    schedule.take(0.0)
    schedule.failed(A, 0.0, at_least=30.0)
    schedule.add(A, 1.0)

    assert schedule.take(29.9) is None
    assert schedule.take(31.0) == A


def test_a_success_ends_the_back_off() -> None:
    schedule = a_schedule()
    schedule.add(A, 0.0)
    now = 0.0
    for _ in range(8):
        schedule.take(now)
        now += schedule.failed(A, now)
    schedule.take(now)
    schedule.finished(A, now, again_after=None)
    schedule.add(A, now)
    schedule.take(now)

    assert schedule.failed(A, now) <= 0.5


def test_a_correction_is_not_made_to_wait_for_the_whole_back_off() -> None:
    schedule = a_schedule()
    schedule.add(A, 0.0)
    now = 0.0
    for _ in range(12):
        schedule.take(now)
        now += schedule.failed(A, now)
    schedule.take(now)
    schedule.failed(A, now)
    schedule.add(A, now + 1.0)

    due = schedule.next_due()
    assert due is not None
    assert due <= now + EVENT_BACKOFF_SECONDS


def test_a_model_that_is_gone_is_forgotten_and_can_come_back() -> None:
    schedule = a_schedule()
    schedule.add(A, 0.0)
    schedule.take(0.0)
    schedule.forget(A)
    schedule.finished(A, 0.0, again_after=10.0)
    assert (schedule.next_due(), len(schedule), schedule._entries) == (None, 0, {})

    schedule.add(A, 1.0)
    assert schedule.take(1.0) == A


def test_the_longest_wait_is_that_of_the_most_overdue_key() -> None:
    schedule = a_schedule()
    schedule.add(A, 0.0)
    schedule.add(B, 3.0)
    schedule.add_at(C, 100.0)

    assert schedule.longest_wait(10.0) == 10.0
    schedule.take(10.0)
    assert schedule.longest_wait(11.0) == 8.0


class WhatTheSchedulePromises(RuleBasedStateMachine):
    """No event is lost (each is followed by a start), and no key runs twice at once."""

    def __init__(self) -> None:
        super().__init__()
        self.schedule, self.now = a_schedule(spacing=0.3), 0.0
        self.owed: set[Key] = set()
        self.running: set[Key] = set()

    def tick(self, number: int, seconds: float = 0.1) -> Key:
        self.now += seconds
        return Key("team", str(number))

    @rule(number=NUMBERS)
    def event(self, number: int) -> None:
        key = self.tick(number)
        self.schedule.add(key, self.now)
        self.owed.add(key)

    @rule(number=NUMBERS)
    def deadline(self, number: int) -> None:
        self.schedule.add_at(self.tick(number), self.now + number)

    @rule()
    def start(self) -> None:
        key = self.schedule.take(self.now)
        if key is not None:
            assert key not in self.running
            self.running.add(key)
            self.owed.discard(key)

    @rule(number=NUMBERS, how=st.sampled_from(["well", "badly", "gone"]))
    def end(self, number: int, how: str) -> None:
        key = self.tick(number)
        if key not in self.running:
            return
        self.running.discard(key)
        if how == "badly":
            self.schedule.failed(key, self.now)
            return
        if how == "gone":
            self.schedule.forget(key)
        self.schedule.finished(key, self.now, again_after=None)

    def teardown(self) -> None:
        for _ in range(60):
            for key in list(self.running):
                self.end(int(key.name), "well")
            self.tick(0, 400.0)
            self.start()
        assert not self.owed
        assert self.schedule.next_due() is None


WhatTheSchedulePromises.TestCase.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
TestWhatTheSchedulePromises = WhatTheSchedulePromises.TestCase

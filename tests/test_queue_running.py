"""The queue on the event loop: its bounds hold, and no key holds up another."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

from vllm_operator.queue import Key, Queue, Schedule

A, B, C = Key("team", "a"), Key("team", "b"), Key("team", "c")


def a_schedule() -> Schedule:
    return Schedule(spacing=0.0, jitter=random.Random(1))


async def test_a_storm_over_many_keys_keeps_the_bounds_and_ends_at_rest() -> None:
    active: Counter[Key] = Counter()
    most_side_by_side, runs = 0, Counter[Key]()
    chance = random.Random(2)

    async def work(key: Key) -> float | None:
        nonlocal most_side_by_side
        active[key] += 1
        assert active[key] == 1, "one run per key at a time"
        most_side_by_side = max(most_side_by_side, active.total())
        await asyncio.sleep(chance.random() / 500)
        active[key] -= 1
        runs[key] += 1
        return None

    queue = Queue(work, concurrency=8, schedule=a_schedule())
    runner = asyncio.create_task(queue.run())
    keys = [Key("team", f"m{i}") for i in range(50)]
    async with asyncio.timeout(20):
        for _ in range(40):
            for key in chance.sample(keys, 25):
                queue.add(key)
            await asyncio.sleep(0.002)
        for _ in range(2000):
            if not len(queue):
                break
            await asyncio.sleep(0.005)
    runner.cancel()
    await asyncio.gather(runner, return_exceptions=True)

    assert set(runs) == set(keys)
    assert most_side_by_side == 8


async def test_a_key_that_fails_or_hangs_does_not_hold_up_the_others() -> None:
    done = asyncio.Event()

    async def work(key: Key) -> float | None:
        if key == A:
            raise ValueError("a bad model")
        if key == B:
            await asyncio.sleep(60)
        done.set()
        return None

    queue = Queue(work, concurrency=2, schedule=a_schedule(), run_limit=0.05)
    runner = asyncio.create_task(queue.run())
    for key in (A, B, C):
        queue.add(key)
    async with asyncio.timeout(5):
        await done.wait()
    runner.cancel()
    await asyncio.gather(runner, return_exceptions=True)

    assert runner.cancelled()


async def test_a_deadline_runs_the_key_again() -> None:
    runs = 0
    twice = asyncio.Event()

    async def work(key: Key) -> float | None:
        nonlocal runs
        runs += 1
        if runs == 2:
            twice.set()
            return None
        return 0.01

    queue = Queue(work, schedule=a_schedule())
    runner = asyncio.create_task(queue.run())
    queue.add(A)
    async with asyncio.timeout(5):
        await twice.wait()
    runner.cancel()
    await asyncio.gather(runner, return_exceptions=True)

    assert runs == 2

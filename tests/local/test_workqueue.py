"""The work queue: nothing lost, nothing twice at once, one failing key hurts no other."""

from __future__ import annotations

import asyncio
from collections import Counter

from camfleet_operator.workqueue import WorkQueue


async def test_a_key_added_many_times_is_handled_once() -> None:
    queue, seen, done = WorkQueue(), Counter[str](), asyncio.Event()

    async def handle(key: str) -> None:
        seen[key] += 1
        if key == "last":
            done.set()

    for key in ["a", "a", "a", "b", "last"]:
        queue.add(key)
    task = asyncio.create_task(queue.run(handle, concurrency=1))
    await asyncio.wait_for(done.wait(), 60)
    task.cancel()
    assert seen == {"a": 1, "b": 1, "last": 1}


async def test_a_change_while_its_handler_runs_is_handled_afterwards_not_beside_it() -> None:
    queue, running, overlaps, calls = WorkQueue(), 0, 0, 0
    second = asyncio.Event()

    async def handle(key: str) -> None:
        nonlocal running, overlaps, calls
        running += 1
        overlaps = max(overlaps, running)
        calls += 1
        if calls == 1:
            queue.add(key)
            await asyncio.sleep(0.01)
        else:
            second.set()
        running -= 1

    queue.add("a")
    task = asyncio.create_task(queue.run(handle, concurrency=4))
    await asyncio.wait_for(second.wait(), 60)
    task.cancel()
    assert (calls, overlaps) == (2, 1)


async def test_a_failing_key_comes_back_and_the_others_go_on() -> None:
    queue, tries, healthy = WorkQueue(), 0, asyncio.Event()
    recovered = asyncio.Event()

    async def handle(key: str) -> None:
        nonlocal tries
        if key == "good":
            healthy.set()
            return
        tries += 1
        if tries == 1:
            raise ValueError("broken")
        recovered.set()

    queue.add("bad")
    queue.add("good")
    task = asyncio.create_task(queue.run(handle, concurrency=1))
    await asyncio.wait_for(asyncio.gather(healthy.wait(), recovered.wait()), 60)
    task.cancel()
    assert tries == 2


async def test_of_two_times_the_earlier_counts() -> None:
    queue, seen = WorkQueue(), asyncio.Event()

    async def handle(key: str) -> None:
        seen.set()

    queue.add_after("a", 60)
    queue.add_after("a", 0.01)
    queue.add_after("a", 60)
    task = asyncio.create_task(queue.run(handle, concurrency=1))
    await asyncio.wait_for(seen.wait(), 60)
    task.cancel()
    queue.close()

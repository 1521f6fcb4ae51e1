"""The write budget, in simulated time: pace, order, pauses, cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from camfleet_operator.cluster.writes import Priority, WriteBudget
from support.simulated_loop import simulate


def budget(rate: float, burst: int, in_flight: int = 32) -> WriteBudget:
    return WriteBudget(rate, burst, in_flight=in_flight, clock=asyncio.get_running_loop().time)


def now() -> float:
    return round(asyncio.get_running_loop().time(), 6)


async def writer(
    budget: WriteBudget, priority: Priority, done: list[tuple[float, str]], name: str, seconds: float = 0.0
) -> None:
    async with budget.take(priority):
        done.append((now(), name))
        await asyncio.sleep(seconds)


def test_a_burst_goes_at_once_and_the_rest_at_the_rate() -> None:
    async def main() -> list[float]:
        paced, done = budget(rate=10, burst=5), list[tuple[float, str]]()
        await asyncio.gather(*(writer(paced, Priority.CREATE, done, str(n)) for n in range(25)))
        assert [name for _, name in done] == [str(n) for n in range(25)], "first come, first served"
        assert paced.in_flight == paced.waiting == 0
        return [when for when, _ in done]

    times = simulate(main())
    assert times[:5] == [0.0] * 5
    assert times[5:] == [round(0.1 * n, 6) for n in range(1, 21)]


def test_the_bucket_fills_up_again_but_not_beyond_the_burst() -> None:
    async def main() -> int:
        paced, done = budget(rate=10, burst=5), list[tuple[float, str]]()
        await asyncio.gather(*(writer(paced, Priority.CREATE, done, "") for _ in range(5)))
        await asyncio.sleep(1000)
        done.clear()
        await asyncio.gather(*(writer(paced, Priority.CREATE, done, "") for _ in range(20)))
        return sum(when == 1000 for when, _ in done)

    assert simulate(main()) == 5


def test_pods_go_before_statuses_and_those_before_events() -> None:
    async def main() -> list[str]:
        paced, done = budget(rate=1, burst=1), list[tuple[float, str]]()
        await writer(paced, Priority.CREATE, done, "first")
        async with asyncio.TaskGroup() as group:
            for name, priority in (
                ("event", Priority.EVENT),
                ("status", Priority.STATUS),
                ("create", Priority.CREATE),
                ("delete", Priority.DELETE),
            ):
                group.create_task(writer(paced, priority, done, name))
            await asyncio.sleep(2.5)
            group.create_task(writer(paced, Priority.CREATE, done, "late create"))
        return [name for _, name in done]

    assert simulate(main()) == ["first", "create", "delete", "late create", "status", "event"]


def test_without_a_rate_the_open_writes_are_bounded() -> None:
    async def main() -> tuple[int, float]:
        free, done, most = budget(rate=0, burst=1, in_flight=4), list[tuple[float, str]](), 0

        async def watched() -> None:
            nonlocal most
            async with free.take(Priority.CREATE):
                most = max(most, free.in_flight)
                await asyncio.sleep(1)
            done.append((now(), ""))

        await asyncio.gather(*(watched() for _ in range(40)))
        return most, now()

    assert simulate(main()) == (4, 10.0)


def test_a_pause_stops_everybody_and_no_rush_follows() -> None:
    async def main() -> list[float]:
        paced, done = budget(rate=10, burst=100), list[tuple[float, str]]()
        paced.pause(5)
        paced.pause(2)  # a shorter one does not shorten it
        assert paced.paused == 5
        await asyncio.gather(*(writer(paced, Priority.CREATE, done, "") for _ in range(3)))
        assert paced.paused == 0
        return [when for when, _ in done]

    assert simulate(main()) == [5.1, 5.2, 5.3]


def test_a_pause_holds_without_a_rate_too() -> None:
    async def main() -> list[float]:
        free, done = budget(rate=0, burst=1), list[tuple[float, str]]()
        free.pause(3)
        await asyncio.gather(*(writer(free, Priority.STATUS, done, "") for _ in range(3)))
        return [when for when, _ in done]

    assert simulate(main()) == [3.0, 3.0, 3.0]


def test_a_pause_that_comes_while_some_wait_is_kept() -> None:
    async def main() -> list[float]:
        paced, done = budget(rate=1, burst=1), list[tuple[float, str]]()
        waiting = [asyncio.create_task(writer(paced, Priority.CREATE, done, "")) for _ in range(3)]
        await asyncio.sleep(0.5)
        paced.pause(10)
        await asyncio.gather(*waiting)
        return [when for when, _ in done]

    assert simulate(main()) == [0.0, 11.5, 12.5]


async def cancelled_early(paced: WriteBudget) -> None:
    waiting = asyncio.create_task(paced.acquire(Priority.CREATE))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def cancelled_with_its_turn(paced: WriteBudget) -> None:
    waiting = asyncio.create_task(paced.acquire(Priority.CREATE))
    await asyncio.sleep(0)
    paced.release()  # hands the turn over to it …
    waiting.cancel()  # … before it has run
    await asyncio.gather(waiting, return_exceptions=True)
    await paced.acquire(Priority.CREATE)


def test_cancellation_loses_no_turn() -> None:
    async def main(cancel: Callable[[WriteBudget], Awaitable[None]]) -> None:
        paced = budget(rate=0, burst=1, in_flight=1)
        await paced.acquire(Priority.CREATE)
        for _ in range(50):
            await cancel(paced)
        assert (paced.in_flight, paced.waiting) == (1, 0)
        paced.release()
        async with asyncio.timeout(1), paced.take(Priority.EVENT):
            pass
        assert paced.in_flight == 0

    simulate(main(cancelled_early))
    simulate(main(cancelled_with_its_turn))


def test_a_cancelled_write_that_had_no_time_to_run_gives_its_token_back() -> None:
    async def main() -> float:
        paced = budget(rate=0.01, burst=1)
        task = asyncio.create_task(paced.acquire(Priority.CREATE))
        await asyncio.sleep(0)  # granted without waiting
        paced.release()
        assert task.done()
        await asyncio.sleep(100)
        holder = asyncio.create_task(paced.acquire(Priority.STATUS))
        queued = asyncio.create_task(paced.acquire(Priority.STATUS))
        await asyncio.sleep(99.9)
        assert holder.done() and not queued.done()
        asyncio.get_running_loop().call_later(0.1, queued.cancel)
        await asyncio.gather(queued, return_exceptions=True)
        await paced.acquire(Priority.STATUS)
        return now()

    assert simulate(main()) <= 201


def test_thousands_that_give_up_leave_nothing_behind() -> None:
    async def main() -> int:
        paced = budget(rate=0.001, burst=1)
        await paced.acquire(Priority.CREATE)
        tasks = [asyncio.create_task(paced.acquire(Priority.EVENT)) for _ in range(5000)]
        await asyncio.sleep(1)
        assert paced.waiting == 5000
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert paced.waiting == 0
        paced.close()
        return len(paced._queue)

    assert simulate(main()) <= 1

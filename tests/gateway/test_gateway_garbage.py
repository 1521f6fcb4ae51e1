"""The garbage collector in small steps: nothing is lost for ever, and what lives is looked at once."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from camfleet_gateway.garbage import FULL_SECONDS, KEPT_OBJECTS, Garbage


class Node:
    """Something that holds itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)
    gc.collect()


def grow(count: int) -> list[list[int]]:
    """Live objects, enough of them for several collections of the middle generation."""
    return [[number] for number in range(count)]


def test_what_lives_is_set_aside_and_garbage_is_not() -> None:
    gc.collect()
    gc.set_threshold(700, 10, 1_000_000_000)
    garbage = Garbage()
    gone = weakref.ref(Node())
    live = grow(4 * KEPT_OBJECTS)
    frozen = gc.get_freeze_count()
    garbage.step()
    assert gone() is None
    assert gc.get_freeze_count() - frozen > len(live)
    assert len(gc.get_objects(generation=2)) < KEPT_OBJECTS


def test_a_cycle_that_dies_after_it_was_set_aside_is_freed_within_the_hour() -> None:
    now = [0.0]
    garbage = Garbage(lambda: now[0])
    node = Node()
    gone = weakref.ref(node)
    gc.freeze()
    del node
    gc.collect()
    assert gone() is not None
    garbage.step()
    assert gone() is not None
    now[0] += FULL_SECONDS
    garbage.step()
    assert gone() is None


async def test_it_leaves_the_interpreter_as_it_was() -> None:
    before = gc.get_threshold()
    task = asyncio.create_task(Garbage().run())
    await asyncio.sleep(0)
    assert gc.get_threshold() != before and gc.get_freeze_count() > 0
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert gc.get_threshold() == before and gc.get_freeze_count() == 0

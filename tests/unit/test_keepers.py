"""A task that a service cannot do without is begun again, or ``/livez`` says that it is gone."""

import asyncio
import time
from collections.abc import Callable

import pytest

from lore import keepers
from lore.keepers import MAX_FAILURES, STUCK_S, Keeper

WAIT_S = 60.0


class Work:
    """Fails in a given way, so many times, and then goes on."""

    def __init__(self, fail: Callable[[], object], times: int) -> None:
        self.fail = fail
        self.times = times
        self.began = 0
        self.goes_on = asyncio.Event()

    async def __call__(self) -> None:
        self.began += 1
        if self.began <= self.times:
            self.fail()
            return
        self.goes_on.set()
        await asyncio.Event().wait()


def _raise(error: BaseException) -> None:
    raise error


WAYS: dict[str, Callable[[], object]] = {
    "raises": lambda: _raise(RuntimeError("a bug")),
    "raises what a cancelled future does": lambda: _raise(asyncio.CancelledError()),
    "returns": lambda: None,
}


@pytest.mark.parametrize("way", WAYS)
async def test_one_that_fails_is_begun_again(way: str) -> None:
    work = Work(WAYS[way], times=2)
    keeper = Keeper("a task", work)
    async with asyncio.timeout(WAIT_S):
        await work.goes_on.wait()
    assert work.began == 3
    assert keepers.live() is None
    await keeper.stop()
    assert keepers.live() is None


@pytest.mark.parametrize("way", WAYS)
async def test_one_that_fails_again_and_again_fails_the_liveness_check(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keepers, "LAST_PAUSE_S", 0.01)
    work = Work(WAYS[way], times=MAX_FAILURES)
    keeper = Keeper("a task", work)
    async with asyncio.timeout(WAIT_S):
        await work.goes_on.wait()
    assert keepers.live() == "the task 'a task' fails again and again"
    monkeypatch.setattr(keepers, "STEADY_S", 0.0)
    assert keepers.live() is None
    await keeper.stop()


async def test_one_that_a_stranger_cancels_fails_the_liveness_check() -> None:
    keeper = Keeper("a task", Work(lambda: None, times=0))
    await asyncio.sleep(0)
    keeper.task.cancel()
    await asyncio.wait([keeper.task])
    assert keepers.live() == "the task 'a task' is gone"
    await keeper.stop()
    assert keepers.live() is None


async def test_a_loop_that_stands_still_fails_the_liveness_check(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keepers.beat()
    assert keepers.live() is None
    now_s = time.monotonic() + STUCK_S + 1
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    assert (keepers.live() or "").startswith("the event loop has stood still for")

"""Prompts whose readers leave (P7), and what goes wrong when a rule about them is broken."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lore.protocol.commands import Readers
from lore.protocol.follower import Follower
from lore.protocol.messages import View
from lore.protocol.owner import Owner
from lore.store.memory.records import Record
from lore.store.memory.state import StoreState
from tests.sim.faults import Options
from tests.sim.run import simulate

SEEDS = 200
LONG = Options(
    prompt_steps=60,
    vanish_ratio=1.0,
    return_ratio=0.5,
    unbound_ratio=0.3,
    news_loss=0.2,
    edge_crash_rate=0.03,
    faults_until_s=12.0,
)

Patch = pytest.MonkeyPatch


def an_unread_prompt_never_wakes(patch: Patch) -> None:
    patch.setattr(Follower, "_is_unread", False)


def nobody_looks_when_the_news_is_lost(patch: Patch) -> None:
    real = Follower.on_view

    def on_view(self: Follower, view: View | None, *args: Any) -> None:
        if not self._states:
            self.is_read, read = False, self.is_read
            real(self, view, *args)
            self.is_read = read
        else:
            real(self, view, *args)

    patch.setattr(Follower, "on_view", on_view)


def ack_none_waits(patch: Patch) -> None:
    real = StoreState.readers

    def readers(self: StoreState, record: Record, command: Readers, *, now_ms: int) -> Any:
        ack = record.view.ack
        record.view = replace(record.view, ack="client")
        answer = real(self, record, command, now_ms=now_ms)
        record.view = replace(record.view, ack=ack)
        return answer

    patch.setattr(StoreState, "readers", readers)


def an_owner_takes_no_notice(patch: Patch) -> None:
    patch.setattr(Owner, "_note_readers", lambda *_: None)


BUGS: list[tuple[Callable[[Patch], None], str]] = [
    (an_unread_prompt_never_wakes, "P7"),
    (nobody_looks_when_the_news_is_lost, "P7"),
    (ack_none_waits, "P8"),
    (an_owner_takes_no_notice, "P7"),
]


@pytest.mark.rule("P7.5", "P7.6", "P7.7")
def test_prompts_wait_for_their_readers_and_for_nobody_else() -> None:
    for seed in range(SEEDS // 4):
        assert simulate(seed, LONG).violation == ""


@pytest.mark.parametrize(("bug", "rule"), BUGS, ids=lambda one: getattr(one, "__name__", ""))
def test_the_simulator_finds(bug: Callable[[Patch], None], rule: str, monkeypatch: Patch) -> None:
    bug(monkeypatch)
    runs = (simulate(seed, LONG) for seed in range(SEEDS))
    found = next((run for run in runs if run.violation), None)
    assert found is not None
    print(f"seed {found.seed}: {found.violation}")
    assert found.violation.startswith(rule)

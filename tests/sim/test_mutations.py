"""A checker that cannot fail checks nothing: each of these bugs must be found (style: simulation).

A row is the bug and what lets it happen: None for whatever the seeds draw. Every bug is put into
the real code for a few hundred seeds at most; the search stops at the first seed that finds it.
"""

from collections.abc import Callable
from typing import Any

import pytest

from lore.protocol.chunk import Chunk
from lore.protocol.commands import Ack
from lore.protocol.lifecycle import OWNED, TRANSITIONS, Event, Status
from lore.protocol.producer import Producer
from lore.protocol.sender import Action, Sender
from lore.protocol.window import Window
from lore.store.base import Outcome
from lore.store.memory import log as twin_log
from lore.store.memory.records import Record, Records
from lore.store.memory.state import StoreState
from lore_client.protocol.receiver import Receiver
from tests.sim.faults import Options
from tests.sim.run import simulate

SEEDS = 400

Patch = pytest.MonkeyPatch


def ack_off_by_one_in_the_store(patch: Patch) -> None:
    real = StoreState.ack

    def ack(self: StoreState, record: Record, command: Ack, *, now_ms: int) -> Any:
        seq = min(command.seq + 1, record.view.next_seq - 1)
        return real(self, record, command._replace(seq=seq), now_ms=now_ms)

    patch.setattr(StoreState, "ack", ack)


def ack_off_by_one_in_the_reader(patch: Patch) -> None:
    real = Receiver.take_ack

    def take_ack(self: Receiver, now: float) -> int | None:
        seq = real(self, now)
        return None if seq is None else seq + 1

    patch.setattr(Receiver, "take_ack", take_ack)


def no_fencing(patch: Patch) -> None:
    def may_write(self: Records, record: Record, *_: object, **__: object) -> bool:
        return record.view.status in OWNED

    patch.setattr(Records, "_may_write", may_write)


def no_gap_check_in_the_append(patch: Patch) -> None:
    real = twin_log.judge

    def judge(record: Record, chunks: Any) -> Outcome | None:
        refusal = real(record, chunks)
        return None if refusal is Outcome.GAP else refusal

    patch.setattr(twin_log, "judge", judge)


def no_gap_check_in_the_reader(patch: Patch) -> None:
    real = Receiver.on_chunk

    def on_chunk(self: Receiver, seq: int, *args: Any, **kwargs: Any) -> str:
        self.position = max(self.position, seq - 1)
        return real(self, seq, *args, **kwargs)

    patch.setattr(Receiver, "on_chunk", on_chunk)


def no_fork_after_a_loss(patch: Patch) -> None:
    real = StoreState.claim

    def claim(self: StoreState, *args: Any, **kwargs: Any) -> Any:
        for record in self._records.values():
            record.run_id = self.run_id
        return real(self, *args, **kwargs)

    patch.setattr(StoreState, "claim", claim)


def the_owner_forgets_what_it_sent(patch: Patch) -> None:
    real = Producer.on_position

    def on_position(self: Producer, next_seq: int, *args: Any, **kwargs: Any) -> None:
        real(self, max(next_seq, self._stored + 1), *args, **kwargs)
        kept = self._chunks[: self._stored]
        self._chunks[: self._stored] = [Chunk(c.seq, "", (), c.tokens) for c in kept]

    patch.setattr(Producer, "on_position", on_position)


def credit_one_too_many(patch: Patch) -> None:
    patch.setattr(Window, "limit", property(lambda self: self.granted + 1 if self.size else None))


def nothing_is_sent_again(patch: Patch) -> None:
    def on_timer(self: Sender, now: float, *, socket_pending: bool = False) -> Action | None:
        self.timer_from = now
        return None

    patch.setattr(Sender, "on_timer", on_timer)


def a_closed_window_is_never_opened(patch: Patch) -> None:
    patch.setattr(Window, "on_ack", lambda *_: None)


def an_ended_request_can_be_cancelled(patch: Patch) -> None:
    patch.setitem(TRANSITIONS, (Status.DONE, Event.CANCEL), Status.CANCELLED)


FORGETFUL = Options(
    requests=3,
    answer_tokens=160,
    store_crash_rate=0.15,
    forget_ratio=1.0,
    forget_s=3.0,
    down_s=1.0,
)
"""Owners that go on behind what the store has forgotten."""
BUGS: list[tuple[Callable[[Patch], None], Options | None]] = [
    (ack_off_by_one_in_the_store, None),
    (ack_off_by_one_in_the_reader, None),
    (no_fencing, None),
    (no_gap_check_in_the_append, FORGETFUL),
    (no_gap_check_in_the_reader, None),
    (no_fork_after_a_loss, None),
    (the_owner_forgets_what_it_sent, None),
    (credit_one_too_many, None),
    (nothing_is_sent_again, None),
    (a_closed_window_is_never_opened, None),
    (an_ended_request_can_be_cancelled, None),
]


@pytest.mark.parametrize(
    ("bug", "options"), [pytest.param(*row, id=row[0].__name__) for row in BUGS]
)
def test_the_simulator_finds(
    bug: Callable[[Patch], None], options: Options | None, monkeypatch: Patch
) -> None:
    if options is not None:
        assert [simulate(seed, options).violation for seed in range(5)] == [""] * 5
    bug(monkeypatch)
    runs = (simulate(seed, options) for seed in range(SEEDS))
    found = next((run for run in runs if run.violation), None)
    assert found is not None
    print(f"seed {found.seed}: {found.violation}")

"""P2, P3, P5 and P15 at the generator's end, with lost answers and a store that forgets."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lore.protocol.chunk import Chunk
from lore.protocol.producer import CoalesceConfig, Due, Producer
from lore.protocol.window import Window, WindowConfig

COALESCE = CoalesceConfig(max_delay_s=0.03, max_chars=10)
HISTORY = [Chunk(1, "one ", (1, 2), 2), Chunk(2, "two ", (3,), 3)]


def producer(*history: Chunk, size: int = 32, acked: int = 0) -> Producer:
    generated = history[-1].tokens if history else 0
    window = Window(
        WindowConfig.fixed(size), size=size, acked_tokens=acked, generated_tokens=generated
    )
    return Producer(history, window, COALESCE)


def sent(maker: Producer, now: float = 0.0) -> Due:
    append = maker.outbox(now)
    assert append is not None
    return append


def stored(maker: Producer, acked_tokens: int = 0, now: float = 0.0) -> Due:
    append = sent(maker, now)
    maker.on_appended(append.next_seq, acked_tokens, now)
    return append


def test_the_first_word_goes_out_at_once() -> None:
    maker = producer()
    assert maker.outbox(0.0) is None
    maker.on_piece("Hello", (7,), 0.0)
    append = sent(maker)
    assert append.chunks == (Chunk(1, "Hello", (7,), 1),)
    assert (append.next_seq, append.reopen_tokens, append.finish_reason) == (2, 0, None)


def test_later_words_wait_to_be_joined() -> None:
    maker = producer()
    maker.on_piece("a", (1,), 0.0)
    stored(maker)
    maker.on_piece("b", (2,), 0.01)
    maker.on_piece("c", (3,), 0.02)
    assert maker.outbox(0.02) is None
    assert maker.deadline() == 0.03
    assert sent(maker, 0.03).chunks == (Chunk(2, "bc", (2, 3), 3),)


def test_text_after_a_pause_is_due_at_once() -> None:
    maker = after_a_chunk(5.0)
    maker.on_piece("a", (1,), 5.05)
    assert maker.deadline() == 5.05


def test_later_text_is_due_at_once_when_it_is_long() -> None:
    maker = after_a_chunk(5.0)
    maker.on_piece("a" * 9, (1,), 5.01)
    assert maker.deadline() == 5.03
    maker.on_piece("b", (2,), 5.02)
    assert maker.deadline() == 5.01


def test_half_a_character_waits_for_its_other_half() -> None:
    """Tokens that bring no whole character yet are not worth a chunk, but are kept."""
    maker = producer()
    maker.on_piece("", (1,), 5.0)
    assert maker.outbox(99.0) is None
    maker.on_piece("é", (2,), 5.5)
    assert sent(maker, 5.5).chunks == (Chunk(1, "é", (1, 2), 2),)


def test_a_chunk_without_text_is_not_the_first() -> None:
    """The window closed on half a character: the first word is still due at once."""
    maker = producer(size=2)
    maker.on_piece("", (1, 2), 5.0)
    stored(maker, acked_tokens=2, now=5.0)
    maker.on_piece("é", (3,), 5.01)
    assert maker.deadline() == 5.01


def after_a_chunk(sent_s: float) -> Producer:
    maker = producer()
    maker.on_piece("x", (0,), sent_s)
    stored(maker, now=sent_s)
    return maker


def test_one_append_is_in_flight_and_the_rest_joins_the_next() -> None:
    maker = producer()
    maker.on_piece("a", (1,), 0.0)
    append = sent(maker)
    maker.on_piece("b" * 20, (2,), 0.1)
    assert maker.outbox(9.0) is None
    assert maker.deadline() is None
    maker.on_appended(append.next_seq, 0, 0.2)
    assert [chunk.seq for chunk in sent(maker, 0.2).chunks] == [2]


def test_a_takeover_continues_after_the_log() -> None:
    """P15"""
    maker = producer(*HISTORY)
    assert (maker.next_seq, maker.generated_tokens) == (3, 3)
    assert maker.outbox(9.0) is None, "the store has the history"
    maker.on_piece("three", (4, 5), 9.0)
    assert sent(maker, 9.0).chunks == (Chunk(3, "three", (4, 5), 5),)


def test_an_append_without_answer_is_sent_again_as_it_was() -> None:
    """P2"""
    maker = producer()
    maker.on_piece("a", (1,), 0.0)
    first = sent(maker)
    maker.on_lost()
    maker.on_piece("b" * 20, (2,), 0.1)
    again = sent(maker, 0.1)
    assert again.chunks[:1] == first.chunks
    assert [chunk.seq for chunk in again.chunks] == [1, 2]


@pytest.mark.rule("P3.2")
def test_what_the_store_forgot_is_sent_again_in_one_append() -> None:
    """P3, P4. The store takes an append for the word that its log is whole again, so half of
    what it forgot would hide the other half from the next owner."""
    maker = producer()
    for seq in range(1, 101):
        maker.on_piece("x" * 10, (seq,), float(seq))
        stored(maker, acked_tokens=seq, now=float(seq))
    maker.on_piece("y" * 10, (101,), 101.0)
    sent(maker, 101.0)
    maker.on_appended(3, 100, 101.0)  # a gap: the store wants seq 3
    assert [chunk.seq for chunk in sent(maker, 101.0).chunks] == list(range(3, 102))


def test_a_report_that_lies_behind_is_answered_with_the_missing_chunks() -> None:
    """P3"""
    maker = producer()
    maker.on_piece("a", (1,), 0.0)
    stored(maker)
    maker.on_position(1, 0, 1.0, paused=False)
    assert [chunk.seq for chunk in sent(maker, 1.0).chunks] == [1]


def test_an_end_goes_out_with_the_last_chunk() -> None:
    maker = producer()
    maker.on_piece("a", (1,), 0.0)
    stored(maker)
    maker.on_piece("b", (2,), 0.1)
    maker.on_finish("stop")
    append = sent(maker, 0.1)
    assert (append.finish_reason, append.next_seq) == ("stop", 3)
    assert [chunk.text for chunk in append.chunks] == ["b"]
    maker.on_appended(3, 2, 0.2)
    assert maker.ended
    assert maker.deadline() is None


@pytest.mark.rule("P5.6")
def test_an_answer_that_ends_with_its_credit_is_not_paused() -> None:
    maker = producer(size=1)
    maker.on_piece("a", (1,), 0.0)
    maker.on_finish("length")
    assert sent(maker).reopen_tokens == 0


def test_tokens_without_text_are_kept_when_the_answer_ends_on_them() -> None:
    maker = producer()
    maker.on_piece("", (1, 2), 0.0)
    assert maker.deadline() is None
    maker.on_finish("length")
    assert sent(maker).chunks == (Chunk(1, "", (1, 2), 2),)


def test_an_end_that_the_store_forgot_is_said_again() -> None:
    """P3"""
    maker = producer()
    maker.on_piece("a", (1,), 0.0)
    maker.on_finish("stop")
    stored(maker)
    assert maker.ended
    maker.on_position(1, 0, 1.0, paused=False)
    append = sent(maker, 1.0)
    assert ([chunk.seq for chunk in append.chunks], append.finish_reason) == ([1], "stop")


def test_a_gap_does_not_end_anything() -> None:
    maker = producer()
    maker.on_piece("a", (1,), 0.0)
    maker.on_finish("stop")
    sent(maker)
    maker.on_appended(1, 0, 0.1)
    assert not maker.ended


def test_a_closed_window_flushes_what_waits_and_says_when_to_wake() -> None:
    """P5, P6"""
    maker = producer(size=4)
    maker.on_piece("a", (1,), 0.0)
    stored(maker)
    assert maker.limit == 4
    maker.on_piece("b", (2, 3, 4), 0.1)
    append = sent(maker, 0.1)
    assert append.reopen_tokens == 2
    assert append.chunks[-1].tokens == 4
    maker.on_appended(append.next_seq, 0, 0.2)
    assert maker.outbox(99.0) is None, "told once is enough"
    maker.on_acked(2, 1.0)
    assert maker.limit == 6


def test_acks_that_came_before_the_pause_open_the_window_with_its_answer() -> None:
    """P5: no wake-up is lost between the append that closes a window and its answer."""
    maker = producer(size=4)
    maker.on_piece("a", (1, 2, 3, 4), 0.0)
    append = sent(maker)
    maker.on_appended(append.next_seq, 4, 0.1)
    assert maker.limit == 8
    assert maker.outbox(0.2) is None


def test_a_window_taken_over_closed_is_told_without_any_chunk() -> None:
    """P15: only then does an ack find its way to the new owner."""
    maker = producer(*HISTORY, size=2)
    append = sent(maker)
    assert (append.chunks, append.reopen_tokens) == ((), 2)


def test_a_pause_that_the_store_does_not_know_of_is_told_again() -> None:
    """P5. Found by the simulator: a late append had overtaken the one that told it, and an ack
    then woke nobody."""
    maker = producer(size=4)
    maker.on_piece("a", (1, 2, 3, 4), 0.0)
    stored(maker)
    maker.on_position(2, 0, 1.0, paused=True)
    assert maker.outbox(1.0) is None
    maker.on_position(2, 0, 2.0, paused=False)
    assert sent(maker, 2.0).reopen_tokens == 2


def test_acks_come_by_any_way_and_late_ones_change_nothing() -> None:
    """P9"""
    maker = producer(size=10)
    maker.on_acked(0, 0.0)
    maker.on_piece("a", (1, 2, 3), 0.0)
    stored(maker, acked_tokens=2)
    maker.on_position(2, 3, 0.1, paused=False)
    maker.on_acked(1, 0.2)
    assert maker.limit == 13


class Log:
    """A store that judges as P2 says, and can forget its tail and its end."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self.finish_reason: str | None = None

    def take(self, append: Due) -> int:
        first = append.chunks[0].seq if append.chunks else append.next_seq
        if first <= len(self.chunks) + 1:
            for chunk in append.chunks:
                if chunk.seq <= len(self.chunks):
                    assert self.chunks[chunk.seq - 1] == chunk, "a chunk is never another one"
                else:
                    self.chunks.append(chunk)
            if append.finish_reason and len(self.chunks) + 1 == append.next_seq:
                self.finish_reason = append.finish_reason
        return len(self.chunks) + 1


STEPS = st.lists(
    st.sampled_from(["decode", "append", "lost before", "lost after", "forget", "report", "ack"]),
    max_size=60,
)


class Exchange:
    """A producer, its engine, its reader's acks and a log that loses things."""

    def __init__(self, size: int, random: Random) -> None:
        self.maker = producer(size=size)
        self.log = Log()
        self.size = size
        self.random = random
        self.now = 0.0
        self.acked = 0
        self.text = ""

    def decode(self) -> None:
        maker = self.maker
        assert maker.limit is not None
        count = min(maker.limit - maker.generated_tokens, self.random.randint(1, 3))
        if count > 0:
            ids = tuple(range(maker.generated_tokens, maker.generated_tokens + count))
            piece = "".join(f"{i}." for i in ids if i % 4)
            if (chunk := maker.pass_on(piece, ids, self.now, ())) is None:
                maker.on_piece(piece, ids, self.now)
            else:
                append = Due((chunk,), maker.window.size, 0, maker.next_seq, None)
                self._settle(append, self.random.choice(["append", "lost before", "lost after"]))
            assert maker.generated_tokens - self.acked <= self.size
            self.text += piece

    def append(self, fate: str = "append") -> None:
        append = self.maker.outbox(self.now)
        if append is not None:
            self._settle(append, fate)

    def _settle(self, append: Due, fate: str) -> None:
        maker = self.maker
        next_seq = 0 if fate == "lost before" else self.log.take(append)
        if fate != "append":
            maker.on_lost()
        elif next_seq == append.next_seq and not (append.reopen_tokens or append.finish_reason):
            more = maker.on_passed(self.acked, self.now)
            assert more or maker.deadline() is None
        else:
            maker.on_appended(next_seq, self.acked, self.now)

    def forget(self) -> None:
        del self.log.chunks[self.random.randint(0, len(self.log.chunks)) :]

    def report(self) -> None:
        paused = self.random.random() < 0.5
        self.maker.on_position(len(self.log.chunks) + 1, self.acked, self.now, paused=paused)

    def ack(self) -> None:
        if self.log.chunks:
            self.acked = max(self.acked, self.log.chunks[-1].tokens)
        self.maker.on_acked(self.acked, self.now)

    def step(self, name: str) -> None:
        self.now += 0.05
        if name in ("append", "lost before", "lost after"):
            self.append(name)
        else:
            getattr(self, name)()


@pytest.mark.rule("P1.1")
@given(STEPS, st.integers(1, 12), st.randoms(use_true_random=False))
@settings(max_examples=300)
def test_the_log_gets_every_token_once_whatever_is_lost(
    steps: list[str], size: int, random: Random
) -> None:
    exchange = Exchange(size, random)
    for step in steps:
        exchange.step(step)
    maker, log = exchange.maker, exchange.log
    maker.on_finish("stop")
    exchange.report()
    for _ in range(4):
        exchange.append()
    assert maker.ended
    assert log.finish_reason == "stop"
    assert "".join(chunk.text for chunk in log.chunks) == exchange.text
    ids = [token_id for chunk in log.chunks for token_id in chunk.token_ids]
    assert ids == list(range(maker.generated_tokens))
    tokens = 0
    for i, chunk in enumerate(log.chunks):
        tokens += len(chunk.token_ids)
        assert (chunk.seq, chunk.tokens) == (i + 1, tokens)

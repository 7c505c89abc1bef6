"""P5 to P7: the window that stands between a reader and the GPU."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lore.protocol.window import Window, WindowConfig

CONFIG = WindowConfig(initial_tokens=32, maximum_tokens=1024, silence_s=5.0)


def closed(size: int = 32, config: WindowConfig = CONFIG) -> Window:
    """A window whose credit was used up at time 0, with nothing acknowledged."""
    window = Window(config, size=size)
    assert window.limit == size
    window.on_closed(0.0)
    return window


@pytest.mark.rule("P5.2")
def test_the_credit_is_what_is_acked_and_the_window() -> None:
    window = Window(CONFIG, size=32)
    assert window.limit == 32
    window.on_ack(10, 20, 0.0)
    assert window.limit == 42
    assert not window.is_closed(41)
    assert window.is_closed(42)


@pytest.mark.rule("P9.1")
def test_late_and_doubled_acks_change_nothing() -> None:
    window = Window(CONFIG, size=32)
    window.on_ack(10, 20, 0.0)
    window.on_ack(10, 20, 1.0)
    window.on_ack(3, 20, 2.0)
    assert (window.limit, window.acked_tokens, window.size) == (42, 10, 32)


@pytest.mark.rule("P6.1")
def test_an_ack_soon_after_a_stall_doubles_the_window() -> None:
    window = closed()
    window.on_ack(8, 32, 0.3)
    assert window.size == 64
    assert window.limit == 8 + 64


@pytest.mark.rule("P6.1")
def test_the_window_grows_no_further_than_its_maximum() -> None:
    window, generated, now = Window(CONFIG, size=32), 0, 0.0
    for _ in range(20):
        assert window.limit is not None
        generated = window.limit
        window.on_closed(now)
        now += 0.9
        window.on_ack(generated, generated, now)
    assert window.size == 1024


@pytest.mark.rule("P6.1")
def test_a_window_that_never_stalled_does_not_grow() -> None:
    window = Window(CONFIG, size=32)
    for acked in range(1, 100):
        window.on_ack(acked, acked + 1, acked * 0.1)
    assert window.size == 32


@pytest.mark.rule("P6.3")
def test_after_a_silence_it_starts_small_again() -> None:
    window = closed(size=512)
    window.on_ack(512, 512, 5.1)
    assert window.size == 32
    assert window.limit == 512 + 32


@pytest.mark.rule("P5.2")
def test_credit_once_granted_is_never_taken_back() -> None:
    """P5: also when the window shrinks."""
    window = closed(size=512)
    window.on_ack(100, 512, 60.0)
    assert window.size == 32
    assert window.limit == 512
    assert window.is_closed(512)


@pytest.mark.rule("P6.4")
def test_a_closed_window_opens_once_half_of_it_is_free() -> None:
    """P6: a slow reader costs one park per half window, not one per token."""
    window = closed(config=WindowConfig.fixed(32))
    assert window.reopen_tokens(32) == 16
    window.on_ack(15, 32, 0.1)
    assert window.is_closed(32)
    window.on_ack(16, 32, 0.2)
    assert window.limit == 48


def test_a_window_of_one_token_opens_with_its_ack() -> None:
    window = closed(size=1, config=WindowConfig.fixed(1))
    assert window.reopen_tokens(1) == 1
    window.on_ack(1, 1, 0.1)
    assert window.limit == 2


def test_a_window_of_one_token_taken_over_far_behind_asks_for_the_ack_that_opens_it() -> None:
    window = Window(WindowConfig.fixed(1), size=1, acked_tokens=0, generated_tokens=5)
    assert window.reopen_tokens(5) == 5
    window.on_ack(5, 5, 0.0)
    assert window.limit == 6


@pytest.mark.rule("P6.6")
def test_a_fixed_window_keeps_its_size() -> None:
    window = closed(size=40, config=WindowConfig.fixed(40))
    window.on_ack(40, 40, 0.1)
    window.on_closed(0.1)
    window.on_ack(80, 80, 99.0)
    assert window.size == 40


def test_a_window_taken_over_closed_stays_closed_until_an_ack() -> None:
    """P5, P15: the new owner owes the reader's silence as the old one did."""
    window = Window(CONFIG, size=32, acked_tokens=10, generated_tokens=100)
    assert window.limit == 100
    assert window.is_closed(100)
    assert window.reopen_tokens(100) == 84
    window.on_ack(84, 100, 0.0)
    assert window.limit == 116


@pytest.mark.rule("P8.4")
def test_a_window_that_does_not_bind_never_closes() -> None:
    """P8: ack kind none."""
    window = Window(CONFIG, size=0)
    assert window.limit is None
    assert not window.is_closed(10**6)
    assert window.reopen_tokens(10**6) == 0
    window.on_closed(0.0)
    window.on_ack(5, 10, 1.0)
    assert window.limit is None


STEPS = st.lists(
    st.tuples(st.integers(0, 60), st.floats(0, 1), st.floats(0, 8)), min_size=1, max_size=60
)


@pytest.mark.rule("P5.1")
@given(STEPS, st.integers(1, 64), st.booleans())
def test_no_token_is_ever_decoded_beyond_the_window(
    steps: list[tuple[int, float, float]], size: int, adapts: bool
) -> None:
    """P5, P7, P9: an engine that decodes as far as it may, and acks of any kind."""
    maximum = 256 if adapts else size
    window = Window(WindowConfig(size, maximum, silence_s=5.0), size=size)
    generated, acked, now, limit = 0, 0, 0.0, 0
    for tokens, ack, pause_s in steps:
        now += pause_s
        assert window.limit is not None
        assert window.limit >= limit, "credit only grows"
        limit = window.limit
        generated = max(generated, min(generated + tokens, limit))
        assert generated - acked <= maximum
        if window.is_closed(generated):
            window.on_closed(now)
            assert window.reopen_tokens(generated) > window.acked_tokens
        else:
            assert window.reopen_tokens(generated) == 0
        said = int(ack * generated)  # may be older than what was said before
        acked = max(acked, said)
        window.on_ack(said, generated, now)
        assert window.size <= maximum
    window.on_ack(generated, generated, now)
    assert not window.is_closed(generated), "a reader that has everything opens it"


@pytest.mark.rule("P6.4")
@given(STEPS, st.integers(1, 64))
def test_the_ack_that_a_window_asks_for_opens_it_or_asks_for_a_later_one(
    steps: list[tuple[int, float, float]], size: int
) -> None:
    """P6: what the store is told to wait for is never too early and never too late."""
    window = Window(WindowConfig(size, 256, silence_s=5.0), size=size)
    generated, now = 0, 0.0
    for tokens, _, pause_s in steps:
        now += pause_s
        assert window.limit is not None
        generated = max(generated, min(generated + tokens, window.limit))
        if not window.is_closed(generated):
            continue
        window.on_closed(now)
        wanted = window.reopen_tokens(generated)
        assert wanted <= generated
        if wanted - 1 > window.acked_tokens:
            window.on_ack(wanted - 1, generated, now)
            assert window.is_closed(generated)
        window.on_ack(wanted, generated, now + 0.1)
        again = window.reopen_tokens(generated)
        assert again == 0 or again > wanted


@pytest.mark.rule("P6.2")
@pytest.mark.parametrize("round_trip_s", [0.05, 0.3, 0.9])
def test_a_healthy_reader_soon_stops_stalling_generation(round_trip_s: float) -> None:
    """P6: 100 tokens a second, acknowledged one round trip later."""
    window = Window(CONFIG, size=32)
    generated, stalls_late = 0, 0
    in_flight: list[tuple[float, int]] = []
    for tick in range(2_000):
        now = tick * 0.01
        while in_flight and in_flight[0][0] <= now:
            window.on_ack(in_flight.pop(0)[1], generated, now)
        if window.is_closed(generated):
            window.on_closed(now)
            stalls_late += tick > 1_000
        else:
            generated += 1
            in_flight.append((now + round_trip_s, generated))
    assert stalls_late == 0

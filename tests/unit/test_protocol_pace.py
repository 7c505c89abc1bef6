"""P20: who decodes while requests wait for a slot."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lore.protocol.pace import Pacer
from lore.protocol.pace_types import PaceConfig

CONFIG = PaceConfig(tokens_per_s=10.0, lead_tokens=40, step_tokens=8, reading_ratio=0.5, calm_s=5.0)
STEP = CONFIG.step_tokens


class Engine:
    """Decodes what it is granted, in virtual time, and checks what must always hold."""

    def __init__(self, slots: int, config: PaceConfig = CONFIG) -> None:
        self.pacer: Pacer[str] = Pacer(config, slots)
        self.slots = slots
        self.now = 100.0
        self.generated: dict[str, int] = {}
        self.granted: dict[str, float] = {}
        self.credit: dict[str, float] = {}
        self.first_s: dict[str, float] = {}
        self.granted_last: dict[str, int | None] = {}

    def add(
        self, key: str, credit: int | None, pace: float | None = 10.0, generated: int = 0
    ) -> None:
        """An answer that was begun elsewhere is acknowledged so far."""
        self.generated[key] = self.granted[key] = generated
        self.credit[key] = math.inf if credit is None else credit
        self.pacer.add(
            *(key,),
            pace=pace,
            credit=credit,
            now=self.now,
            generated_tokens=generated,
            acked_tokens=generated,
        )

    def ack(self, key: str, acked: int, credit: int) -> None:
        self.credit[key] = max(self.credit[key], credit)
        self.pacer.on_credit(key, credit, acked_tokens=acked, now=self.now)

    def end(self, key: str) -> None:
        for kept in (self.generated, self.granted, self.credit):
            del kept[key]
        self.pacer.remove(key)

    def holders(self) -> set[str]:
        return {key for key, granted in self.granted.items() if granted > self.generated[key]}

    def staying(self) -> set[str]:
        """Who has a slot behind the token that is under way, too."""
        return {key for key in self.holders() if self.granted[key] > self.generated[key] + 1}

    def take(self) -> dict[str, int | None]:
        """Have it decide; check each grant; return what was granted."""
        before, had = len(self.staying()), len(self.holders())
        is_due = self.pacer.deadline() <= self.now
        changes = self.pacer.take(self.now)
        assert is_due or not any((changes.grants, changes.parked, changes.resumed))
        for key, limit in changes.grants:
            granted = math.inf if limit is None else limit
            assert granted > self.granted[key], "a grant only grows"
            assert granted <= self.credit[key], "the window bounds it"
            self.granted[key] = granted
        assert len(self.staying()) <= max(self.slots, before)
        assert len(self.holders()) <= max(2 * self.slots, had)
        assert self.pacer.deadline() > self.now
        wanting = [key for key, made in self.generated.items() if made < self.credit[key]]
        parked = {key for key in self.generated if self.pacer.is_parked(key)}
        assert not parked & self.staying()
        assert self.pacer.parked == len(parked)
        assert self.pacer.decoding == len(wanting) - len(parked)
        return dict(changes.grants)

    def decode(self, key: str, tokens: int = 1) -> None:
        self.generated[key] = int(min(self.generated[key] + tokens, self.granted[key]))
        if self.generated[key]:
            self.first_s.setdefault(key, self.now)
        self.pacer.on_tokens(key, self.generated[key], self.now)

    def use_up(self) -> None:
        """Let everyone decode all that is granted."""
        for key in self.holders():
            self.decode(key, int(self.granted[key]) - self.generated[key])

    def at(self, now: float) -> dict[str, int | None]:
        self.now = now
        return self.take()


def crowded(*keys: str, slots: int = 1, waiting: int = 0) -> Engine:
    """An engine whose requests have each generated their first step, at its time 100."""
    engine = Engine(slots)
    for key in keys:
        engine.add(key, 1_000)
    engine.pacer.on_waiting(max(waiting, slots))
    while any(not made for made in engine.generated.values()):
        engine.take()
        engine.use_up()
    engine.pacer.on_waiting(waiting)
    return engine


@pytest.mark.rule("P20.1")
def test_while_nobody_waits_each_request_has_its_windows_whole_credit() -> None:
    engine = Engine(slots=2)
    engine.add("a", 32)
    engine.add("b", None, pace=None)
    assert engine.take() == {"a": 32, "b": None}
    engine.decode("a", 20)
    engine.ack("a", 20, 52)
    assert engine.take() == {"a": 52}
    assert engine.pacer.deadline() == math.inf


@pytest.mark.rule("P20.2")
def test_while_requests_wait_credit_comes_in_steps_and_to_as_many_as_there_are_slots() -> None:
    engine = Engine(slots=2)
    for key in "abc":
        engine.add(key, 1_000)
    assert engine.take() == {"a": STEP, "b": STEP}


@pytest.mark.rule("P20.2")
def test_a_step_stays_within_the_window() -> None:
    engine = Engine(slots=1)
    engine.add("a", 5)
    engine.pacer.on_waiting(1)
    assert engine.take() == {"a": 5}


@pytest.mark.rule("P20.2")
def test_a_step_follows_before_the_one_before_is_used_up() -> None:
    """The engine would else wait for each."""
    engine = Engine(slots=1)
    engine.add("a", None, pace=None)
    engine.pacer.on_waiting(1)
    engine.take()
    engine.decode("a", STEP // 2 - 1)
    assert engine.take() == {}
    engine.decode("a", 1)
    assert engine.take() == {"a": STEP // 2 + STEP}


def test_what_was_granted_before_the_waiting_is_not_taken_back() -> None:
    engine = Engine(slots=1)
    engine.add("a", 500)
    assert engine.take() == {"a": 500}
    engine.add("b", 500)
    for _ in range(498):
        engine.decode("a")
        assert engine.take() == {}
    engine.decode("a")
    assert engine.take() == {"b": STEP}, "its slot is free behind the last token"


@pytest.mark.rule("P20.3")
def test_who_is_about_to_run_dry_comes_first_then_who_has_nothing_in_order_then_the_queue() -> None:
    engine = crowded("rich", "dry")
    engine.now = 100.01  # each has a step; a reader takes half a token of it in 0.1 s
    engine.pacer.on_tokens("rich", 30, engine.now)
    engine.generated["rich"] = engine.granted["rich"] = 30
    engine.add("new", 1_000)
    engine.add("newer", 1_000)
    engine.pacer.on_waiting(1)
    order: list[str] = []
    for _ in range(5):  # a new one is about to run dry until it has more than a step
        order += engine.take()
        engine.use_up()
    assert order == ["dry", "new", "new", "newer", "newer"]
    assert engine.take() == {}, "the slot is kept for the queue"
    engine.pacer.on_waiting(0)
    assert list(engine.take()) == ["dry"], "the rest, the least ahead first"


@pytest.mark.rule("P20.3")
def test_machines_take_turns_with_those_who_are_about_to_run_dry() -> None:
    engine = Engine(slots=1)
    for key, pace in (("machine", None), ("reader", 10.0), ("robot", None)):
        engine.add(key, None, pace)
    order: list[str] = []
    for _ in range(12):
        order += engine.take()
        engine.now += 2.0  # a step lasts a reader for 1.6 s, so all three are about to run dry
        engine.use_up()
    assert len(order) == 12
    assert min(order.count(key) for key in engine.generated) >= 3


@pytest.mark.rule("P20.4")
def test_while_others_wait_nobody_is_granted_more_than_its_reader_can_have_read() -> None:
    engine = Engine(slots=4)
    engine.add("a", None)
    for _ in range(4):
        engine.add(f"machine{_}", None, pace=None)  # so that somebody waits
    while engine.now < 130.0:
        engine.take()
        for key in engine.holders():
            engine.decode(key, 2)
        read_s = engine.now - engine.first_s.get("a", engine.now)
        most = CONFIG.lead_tokens + CONFIG.tokens_per_s * read_s
        assert engine.granted["a"] <= most
        engine.now += 0.05
    assert engine.granted["a"] > CONFIG.tokens_per_s * 0.5 * 29


@pytest.mark.rule("P20.5")
def test_a_request_that_is_parked_for_pace_takes_no_slot() -> None:
    engine = crowded("a", waiting=1)
    engine.decode("a")
    engine.use_up()
    engine.take()
    while engine.holders():
        engine.use_up()
        engine.take()
    assert engine.pacer.is_parked("a")
    assert engine.pacer.decoding == 0


@pytest.mark.rule("P20.5")
@pytest.mark.parametrize(
    ("waiting", "why"), [(1, "its reader is about to run dry"), (0, "nobody waits")]
)
def test_it_goes_on_by_the_clock_alone(waiting: int, why: str) -> None:
    engine = crowded("a", waiting=1)
    while not engine.pacer.is_parked("a"):
        engine.take()
        engine.use_up()
    parked_at, made = engine.now, engine.generated["a"]
    engine.pacer.on_waiting(waiting)
    granted = engine.take()
    while not granted:
        granted = engine.at(engine.pacer.deadline())
    if waiting:
        assert granted == {"a": made + STEP}
        assert engine.now == pytest.approx(parked_at + (made - STEP) / 5.0)
    else:
        assert engine.now <= parked_at + CONFIG.calm_s


@pytest.mark.rule("P20.1")
def test_pace_binds_for_a_while_after_the_last_one_waited() -> None:
    engine = crowded("a", waiting=1)
    engine.take()
    engine.pacer.on_waiting(0)
    engine.use_up()
    assert engine.at(100.0 + CONFIG.calm_s - 0.1).get("a", 0) != 1_000
    assert engine.at(100.0 + CONFIG.calm_s)["a"] == 1_000


@pytest.mark.rule("P20.1")
def test_who_makes_the_last_token_of_its_window_is_not_parked() -> None:
    """Two of 20,000 simulated runs had one parked while nobody waited."""
    engine = crowded("a", waiting=1)
    engine.take()
    engine.pacer.on_waiting(0)
    engine.at(100.0 + CONFIG.calm_s)  # its window's whole credit is granted
    engine.pacer.on_waiting(1)
    engine.take()
    engine.decode("a", 999 - engine.generated["a"])
    engine.pacer.on_waiting(0)
    engine.take()
    assert not engine.pacer.is_parked("a")


@pytest.mark.rule("P20.6")
def test_after_a_takeover_a_reader_is_taken_to_be_where_it_acknowledged() -> None:
    engine = Engine(slots=1)
    engine.pacer.on_waiting(2)
    for key, acked in (("far", 100), ("near", 190)):
        engine.generated[key] = engine.granted[key] = 200
        engine.credit[key] = 1_000
        engine.pacer.add(
            *(key,), pace=10.0, credit=1_000, now=100.0, generated_tokens=200, acked_tokens=acked
        )
    assert engine.take() == {}
    assert engine.pacer.deadline() == pytest.approx(100.0 + 2 / 5.0)


@pytest.mark.rule("P20.6")
def test_a_reader_who_was_away_has_read_only_what_it_acknowledged() -> None:
    engine = Engine(slots=1)
    engine.add("away", 50)
    engine.take()
    engine.use_up()
    engine.now += 600.0
    engine.pacer.on_waiting(1)
    engine.ack("away", 40, 90)
    assert engine.take() == {}, "it has 10 tokens left to read"
    assert engine.pacer.deadline() == pytest.approx(700.0 + 2 / 5.0)


def test_the_least_pace_that_is_more_than_none_is_kept() -> None:
    """Half of it rounds to 0, and a time is a count by it."""
    pacer = Pacer[str](CONFIG, slots=1)
    pacer.add("a", pace=math.ulp(0.0), credit=100, now=0.0)
    pacer.on_waiting(1)
    assert pacer.take(0.0).grants == [("a", 8)]
    pacer.on_tokens("a", 9, now=1.0)
    assert pacer.take(1.0).parked == ["a"]
    pacer.on_waiting(0)
    assert pacer.take(7.0).grants == [("a", 100)]


def test_a_lead_of_less_than_two_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="two steps"):
        PaceConfig(lead_tokens=15)


PACES = st.sampled_from((None, 4.0, 10.0, 30.0))
KINDS = st.sampled_from(("add", "open", "decode", "decode", "ack", "end", "wait", "time", "sleep"))
EVENTS = st.tuples(KINDS, st.sampled_from("abcdefg"), st.integers(1, 60), PACES)


def do(engine: Engine, kind: str, key: str, number: int, pace: float | None) -> None:
    """Let it happen, if it can."""
    if kind == "wait":
        engine.pacer.on_waiting(number % 5)
    elif kind == "time":
        engine.now += number / 4
    elif kind == "sleep":
        if engine.pacer.deadline() < math.inf:
            engine.now = max(engine.now, engine.pacer.deadline())
    elif key not in engine.generated:
        engine.add(key, number if kind == "add" else None, pace)
    elif kind == "decode":
        engine.decode(key, number)
    elif kind == "ack" and engine.credit[key] < math.inf:
        engine.ack(key, engine.generated[key], engine.generated[key] + number)
    elif kind == "end":
        engine.end(key)


@pytest.mark.rule("P5.2", "P20.1", "P20.2")
@given(slots=st.integers(1, 4), events=st.lists(EVENTS, max_size=60))
def test_whatever_happens_grants_grow_within_windows_and_slots(
    slots: int, events: list[tuple[str, str, int, float | None]]
) -> None:
    """``Engine.take`` checks each."""
    engine = Engine(slots)
    for event in events:
        do(engine, *event)
        engine.take()
    engine.pacer.on_waiting(0)
    for key in list(engine.generated)[slots:]:
        engine.end(key)
    engine.at(engine.now + CONFIG.calm_s)
    engine.at(engine.now + CONFIG.calm_s)
    wanting = {key for key, made in engine.generated.items() if made < engine.credit[key]}
    assert {key: engine.granted[key] for key in wanting} == {
        key: engine.credit[key] for key in wanting
    }
    assert not engine.pacer.parked


@pytest.mark.rule("P20.3", "P20.5")
@given(
    slots=st.integers(1, 3),
    waiting=st.integers(0, 5),
    answers=st.lists(st.tuples(st.integers(1, 120), PACES), min_size=1, max_size=8),
)
def test_nobody_starves(slots: int, waiting: int, answers: list[tuple[int, float | None]]) -> None:
    """Each answer ends, although others wait all the time. Time moves by steps and deadlines."""
    engine = Engine(slots)
    left = {f"{i}": tokens for i, (tokens, _) in enumerate(answers)}
    for key, (_, pace) in zip(left, answers, strict=True):
        engine.add(key, None, pace)
    engine.pacer.on_waiting(waiting)
    for _ in range(2_000):
        engine.take()
        for key in engine.holders():
            engine.decode(key)
            if engine.generated[key] == left[key]:
                engine.end(key)
        if not engine.generated:
            return
        engine.now = engine.now + 0.05 if engine.holders() else engine.pacer.deadline()
    pytest.fail(f"{engine.generated} of {left}")

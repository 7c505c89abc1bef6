"""What keeps a generator from claiming, and what goes on all the same (P15)."""

from dataclasses import dataclass, replace
from typing import Any

import pytest

from lore.protocol.chunk import Chunk
from lore.protocol.claims import LEFT_MS, Claims
from lore.protocol.commands import (
    Claim,
    Finish,
    Look,
    Meet,
    Others,
    ReadLog,
    Renew,
    Subscribe,
    Waiting,
)
from lore.protocol.leases import Leases
from lore.protocol.presence import LOOK_EVERY_S
from tests.explore.calls import TERMS, claim_in, owner_of
from tests.explore.depot import OWNER, PARTITION

OTHER = "another"


@dataclass
class Parts:
    """A generator that works on one request and has met another generator."""

    engine_answers: bool = True
    is_ready: bool = True
    now: float = 0.0
    takes_other_models: bool = False

    def __post_init__(self) -> None:
        common: dict[str, Any] = {"run_id": lambda _: "run-1", "jitter": lambda: 1.0, "now": 0.0}
        self.leases = Leases(TERMS, max_kept=9, **common)
        self.leases.add(owner_of(claim_in("run-1"), (), 0.0), 0.0)
        self.claims = Claims(
            *(TERMS, self.leases),
            slots=4,
            max_requests=4,
            poll_s=1.0,
            grace_s=0.0,
            partitions=[PARTITION],
            is_ready=lambda _: self.is_ready,
            engine_answers=lambda: self.engine_answers,
            model="m@1",
            takes_other_models=self.takes_other_models,
            **common,
        )
        self.claims.on_answer(None, Meet(OWNER, 1), [OWNER, OTHER], 0.0)
        self.claims.on_answer(None, Waiting(), [], 0.0)

    def after(self, seconds: float) -> set[type]:
        """Which commands there are then."""
        self.now += seconds
        self.claims.on_wake(PARTITION, self.now)
        self.claims.on_time(self.now)
        said = [command for _, command in (*self.claims.outbox, *self.leases.outbox)]
        self.claims.outbox.clear()
        self.leases.outbox.clear()
        return {type(command) for command in said}


def test_without_its_engine_a_generator_claims_nothing_and_looks_on_for_the_others() -> None:
    """P15: nor does it say that it lives, as it is heard."""
    parts = Parts(engine_answers=False)
    assert parts.after(0.0) == {Waiting, Meet, Look}
    parts.engine_answers = True
    assert Claim in parts.after(LOOK_EVERY_S)


@pytest.mark.rule("P15.10", "P15.13")
def test_a_generator_that_is_not_heard_claims_nothing_and_says_that_it_lives() -> None:
    parts = Parts(is_ready=False)
    assert parts.after(0.0) == {Waiting, Meet, Renew}
    parts.is_ready = True
    assert Claim in parts.after(LOOK_EVERY_S)


def taken_over(parts: Parts, model: str) -> list[type]:
    """What becomes of an answer that this model began: its log is whole."""
    assert Claim in parts.after(LOOK_EVERY_S)
    (candidate,) = parts.claims.under_way
    claimed = claim_in("run-1")
    log = [Chunk(1, "a", (1,), 1)]
    view = replace(claimed.view, request_id="another", next_seq=2, generated_tokens=1, model=model)
    claimed = replace(claimed, view=view)
    parts.claims.on_answer(candidate, Claim(PARTITION, OWNER, 1), claimed, parts.now)
    parts.claims.on_answer(candidate, ReadLog("another"), log, parts.now)
    return [type(command) for subject, command in parts.claims.outbox if subject is candidate][1:]


@pytest.mark.rule("P15.22")
@pytest.mark.parametrize("takes_other_models", [True, False])
def test_a_claim_names_the_model_and_how_long_it_leaves_answers_of_others(
    takes_other_models: bool,
) -> None:
    parts = Parts(takes_other_models=takes_other_models)
    parts.claims.on_wake(PARTITION, LOOK_EVERY_S)
    (claim,) = (command for _, command in parts.claims.outbox if isinstance(command, Claim))
    assert claim.others == Others("m@1", LEFT_MS)


@pytest.mark.rule("P15.20")
@pytest.mark.parametrize("model", ["m@1", ""], ids=["the same", "of an owner that does not say"])
def test_an_answer_of_this_model_is_continued(model: str) -> None:
    assert taken_over(Parts(), model) == [Subscribe]


@pytest.mark.rule("P15.20")
@pytest.mark.parametrize("model", ["m@2", "n@1", "m"])
def test_an_answer_of_another_model_fails_with_a_reason_that_names_both(model: str) -> None:
    parts = Parts()
    assert taken_over(parts, model) == [Finish]
    ((_, error),) = parts.claims.refused
    assert f"begun by the model {model}, and m@1" in error


@pytest.mark.rule("P15.20")
def test_an_answer_of_another_model_is_continued_where_that_is_allowed() -> None:
    assert taken_over(Parts(takes_other_models=True), "m@2") == [Subscribe]

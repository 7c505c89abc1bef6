"""What an owner does about each answer of the store (``protocol/owner.py``), by rule."""

from collections.abc import Callable
from typing import Any

import pytest

from lore.protocol.commands import Append, Finish, Reinstate, Release
from lore.protocol.leases import Leases
from lore.protocol.lifecycle import Status
from lore.protocol.messages import Claimed, News, Outcome, Position
from lore.protocol.owner import Owner
from lore.protocol.owner_types import OwnerState, Update
from tests.explore.calls import TERMS, claim_in, owner_of
from tests.explore.depot import LEASE_MS, OWNER, PARTITION, REQUEST
from tests.explore.forms import copy_of, form_of

SAME, OTHER = "run-1", "run-2"
"""The store's life in which the request was claimed, and the one after a loss of data."""
LEASE_S = LEASE_MS / 1000


@pytest.fixture
def owner() -> Owner:
    """With three chunks made and appended, of which the window of 8 tokens lets more follow."""
    owner = owner_of(claim_in(SAME), (), 0.0)
    for token in (1, 2, 3):
        make(owner, token)
        assert isinstance(owner.take(0.0, SAME), Append)
        assert hear(owner, Outcome.OK, next_seq=token + 1) is None
    return owner


def make(owner: Owner, token: int) -> None:
    owner.on_piece(f"{token} ", (token,), 0.0)


def end(owner: Owner) -> None:
    owner.on_piece("", (), 0.0, finish_reason="stop")


def hear(
    owner: Owner, outcome: Outcome, *, next_seq: int = 4, run_id: str = SAME, now: float = 0.0
) -> Update | None:
    known = outcome is not Outcome.UNKNOWN
    status = Status.GENERATING if known else None
    return owner.on_answer(Position(outcome, status, next_seq if known else 0), run_id, now)


def test_an_append_that_went_as_it_should_is_one_that_was_answered_ok(owner: Owner) -> None:
    """The store says so with the acknowledged tokens alone; the owner is the same behind both."""
    make(owner, 4)
    other = copy_of(owner)
    for one in (owner, other):
        assert isinstance(one.take(1.0, SAME), Append)
    owner.on_passed(2, SAME, 1.5)
    other.on_answer(Position(Outcome.OK, Status.GENERATING, 5, 2, 2), SAME, 1.5)
    assert form_of(owner) == form_of(other)


@pytest.mark.parametrize("waiting", ["", "3 "], ids=["half a character", "text"])
@pytest.mark.parametrize("waits", [False, True])
def test_a_piece_that_is_passed_on_is_one_that_was_taken_and_sent(
    owner: Owner, waiting: str, waits: bool
) -> None:
    if waits:
        owner.on_piece(waiting, (3,), 0.5)
    other = copy_of(owner)
    other.on_piece("4 ", (4,), 1.0)
    assert owner.pass_on("4 ", (4,), 1.0) == other.take(1.0, SAME)
    assert form_of(owner) == form_of(other)


@pytest.mark.parametrize(
    "before",
    [
        lambda owner: owner.pass_on("4 ", (4,), 0.0),
        lambda owner: (owner.pass_on("4 ", (4,), 0.0), hear(owner, Outcome.UNKNOWN, run_id=OTHER)),
        lambda owner: owner.hand_back(failed=False),
        lambda owner: owner.let_go(),
        lambda owner: end(owner),
    ],
    ids=["an append under way", "forgotten", "handed back", "gone", "ended"],
)
def test_a_piece_is_not_passed_on_when_something_else_is_to_be_decided(
    owner: Owner, before: Callable[[Owner], object]
) -> None:
    before(owner)
    form = form_of(owner)
    assert owner.pass_on("5 ", (5,), 1.0) is None
    assert form_of(owner) == form, "it is as if nobody had asked"


@pytest.mark.rule("P3.2")
def test_on_a_gap_all_that_the_store_lacks_goes_out_in_one_append(owner: Owner) -> None:
    make(owner, 4)
    owner.take(0.0, SAME)
    assert hear(owner, Outcome.GAP, next_seq=2) is None
    again: Any = owner.take(0.0, SAME)
    assert [chunk.seq for chunk in again.chunks] == [2, 3, 4]


@pytest.mark.parametrize("outcome", [Outcome.FENCED, Outcome.CONFLICT])
def test_what_is_fenced_or_otherwise_in_the_log_is_dropped_at_once(
    owner: Owner, outcome: Outcome
) -> None:
    """P2"""
    make(owner, 4)
    owner.take(0.0, SAME)
    assert hear(owner, outcome) is Update.TAKEN
    assert (owner.state, owner.deadline()) == (OwnerState.GONE, None)


def test_a_fence_against_an_end_may_be_the_echo_of_that_end(owner: Owner) -> None:
    """P2, P13: the answer to the end was lost; finish tells, as it may be repeated."""
    make(owner, 4)
    end(owner)
    assert isinstance(owner.take(0.0, SAME), Append)
    assert hear(owner, Outcome.FENCED) is None
    assert isinstance(owner.take(0.0, SAME), Finish)
    assert hear(owner, Outcome.OK, next_seq=5) is Update.ENDED


@pytest.mark.rule("P2.9")
def test_an_end_that_another_life_fences_is_asked_again_behind_an_append(owner: Owner) -> None:
    """P2: an end does not say how long its claim lasts, which that life may have forgotten."""
    end(owner)
    assert isinstance(owner.take(0.0, SAME), Finish)
    assert hear(owner, Outcome.FENCED, run_id=OTHER) is None
    assert isinstance(owner.take(0.0, OTHER), Append)
    assert hear(owner, Outcome.FENCED, run_id=OTHER) is None
    assert isinstance(owner.take(0.0, OTHER), Finish)
    assert hear(owner, Outcome.FENCED, run_id=OTHER) is Update.TAKEN


@pytest.mark.rule("P3.3")
@pytest.mark.parametrize(("now", "is_fork"), [(0.0, False), (2 * LEASE_S, True)])
def test_a_request_that_another_life_forgot_is_given_back(
    owner: Owner, now: float, is_fork: bool
) -> None:
    """P3, P4: under the log's name while the lease runs, and as a fork of it afterwards."""
    make(owner, 4)
    owner.take(now, OTHER)
    assert hear(owner, Outcome.UNKNOWN, run_id=OTHER, now=now) is None
    log_id, given = owner.log_id, owner.take(now, OTHER)
    assert isinstance(given, Reinstate)
    assert [chunk.seq for chunk in given.chunks] == ([1, 2, 3] if is_fork else [1, 2, 3, 4])
    assert given.view.forks == (f"{log_id}:4" if is_fork else "")
    assert (given.view.log_id != log_id) is is_fork


@pytest.mark.rule("P3.4")
def test_a_request_that_the_same_life_does_not_know_is_dropped(owner: Owner) -> None:
    """P3: it was deleted, or has expired."""
    make(owner, 4)
    owner.take(0.0, SAME)
    assert hear(owner, Outcome.UNKNOWN) is Update.TAKEN


@pytest.mark.rule("P3.12")
def test_a_fork_that_is_refused_is_doubted(owner: Owner) -> None:
    """P3: the store may have the log as its owner knows it. A renewal asks."""
    make(owner, 4)
    now = 2 * LEASE_S
    owner.take(now, OTHER)
    hear(owner, Outcome.UNKNOWN, run_id=OTHER, now=now)
    owner.take(now, OTHER)
    assert hear(owner, Outcome.FENCED, run_id=OTHER, now=now) is Update.SUSPECTED
    assert owner.is_held


@pytest.mark.rule("P3.15")
@pytest.mark.parametrize("heard", [False, True])
def test_a_fork_that_may_be_the_stores_is_released_where_this_owner_is_refused(
    owner: Owner, heard: bool
) -> None:
    """A simulated owner dropped a request that the store counted as its own, by a fork of an
    earlier life whose answer was lost."""
    now = 2 * LEASE_S
    make(owner, 4)
    owner.take(now, OTHER)
    hear(owner, Outcome.UNKNOWN, run_id=OTHER, now=now)
    owner.take(now, OTHER)  # a fork
    if heard:
        assert hear(owner, Outcome.FENCED, run_id=OTHER, now=now) is Update.SUSPECTED
        owner.on_renewed(Position(Outcome.UNKNOWN, None), now, owner.log_id, "run-3", now)
    else:
        owner.on_lost()
    assert isinstance(owner.take(now, "run-3"), Reinstate)
    assert hear(owner, Outcome.FENCED, run_id="run-3", now=now) is Update.SUSPECTED
    refused = Position(Outcome.FENCED, Status.GENERATING, 3)
    turn = owner.on_renewed(refused, now + 1, owner.log_id, "run-3", now + 1)
    assert (turn is Update.TAKEN) is heard
    if not heard:
        assert isinstance(owner.take(now + 1, "run-3"), Release)
        assert hear(owner, Outcome.OK, run_id="run-3") is Update.HANDED_BACK


@pytest.mark.rule("P3.11")
def test_a_give_back_without_an_answer_is_repeated_as_it_was(owner: Owner) -> None:
    """P3: also when the lease is over meanwhile."""
    make(owner, 4)
    owner.take(0.0, OTHER)
    hear(owner, Outcome.UNKNOWN, run_id=OTHER)
    first = owner.take(0.0, OTHER)
    owner.on_lost()
    assert owner.take(2 * LEASE_S, OTHER) is first


@pytest.mark.rule("P3.13")
@pytest.mark.parametrize(("asked_s", "turn"), [(0.5, None), (1.5, Update.TAKEN)])
def test_a_refused_renewal_counts_if_it_was_asked_after_the_last_word_that_it_is_ours(
    owner: Owner, asked_s: float, turn: Update | None
) -> None:
    make(owner, 4)
    owner.take(1.0, SAME)
    hear(owner, Outcome.OK, next_seq=5, now=1.0)
    fenced = Position(Outcome.FENCED, Status.GENERATING, 5)
    assert owner.on_renewed(fenced, asked_s, owner.log_id, SAME, 2.0) is turn


@pytest.mark.rule("P2.10")
@pytest.mark.parametrize(
    ("about", "turn"),
    [("this lease", Update.TAKEN), ("another", None), ("no lease", Update.SUSPECTED)],
)
def test_news_is_about_the_lease_that_it_names(
    owner: Owner, about: str, turn: Update | None
) -> None:
    """An older release names none: its acks count, and about the rest the store is asked."""
    epoch = {"this lease": owner.epoch, "another": owner.epoch + 1, "no lease": 0}[about]
    acked = Position(Outcome.OK, Status.GENERATING, 4, 2, 2)
    owner.on_news(News(acked, epoch), 1.0)
    assert owner.producer.window.acked_tokens == (0 if about == "another" else 2)
    fenced = Position(Outcome.FENCED, Status.CANCELLED, 4)
    assert owner.on_news(News(fenced, epoch), 1.0) is turn
    assert (owner.state is OwnerState.GONE) is (turn is Update.TAKEN)


@pytest.mark.rule("P15.9")
@pytest.mark.parametrize("failed", [False, True])
def test_a_hand_back_appends_all_and_then_releases(owner: Owner, failed: bool) -> None:
    make(owner, 4)
    owner.hand_back(failed=failed)
    appended: Any = owner.take(0.0, SAME)
    assert [chunk.seq for chunk in appended.chunks] == [4]
    hear(owner, Outcome.OK, next_seq=5)
    release = owner.take(0.0, SAME)
    assert release == Release(REQUEST, OWNER, owner.epoch, "failed" if failed else None)
    assert hear(owner, Outcome.OK, next_seq=5) is Update.HANDED_BACK


@pytest.mark.rule("P3.9")
def test_nothing_is_appended_once_a_release_may_have_happened(owner: Owner) -> None:
    """P3: its answer was lost and a piece comes late; nor is its owner alone any more."""
    owner.hand_back(failed=False)
    assert isinstance(owner.take(0.0, SAME), Release)
    owner.on_lost()
    make(owner, 4)
    assert isinstance(owner.take(0.0, SAME), Release)
    assert not owner.is_alone(0.0)


def test_an_earlier_lease_on_the_same_request_is_void_also_when_it_has_ended(owner: Owner) -> None:
    """P2: the store forgot the end, the lease lapsed, and the same generator claimed anew. An
    answer that was still under way let the ended one work again, in nobody's hands."""
    leases = Leases(TERMS, max_kept=9, run_id=lambda _: SAME, jitter=lambda: 1.0, now=0.0)
    leases.add(owner, 0.0)
    end(owner)
    leases.pump(owner, 0.0)
    ((_, finish),) = leases.outbox
    leases.on_answer(owner, finish, Position(Outcome.OK, Status.DONE, 4), 0.0)
    assert leases.kept == {REQUEST: owner}
    anew = Owner(Claimed(owner.view, "", SAME), PARTITION, owner.producer, TERMS, 1.0)
    leases.add(anew, 1.0)
    assert (leases.live, leases.kept) == ({REQUEST: anew}, {})
    assert owner.state is OwnerState.GONE

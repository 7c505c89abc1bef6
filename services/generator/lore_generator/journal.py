"""Metrics, spans and log lines of a request's life. It decides nothing."""

import structlog

from lore import logs, metrics
from lore.protocol.commands import Claim
from lore.protocol.lifecycle import Status
from lore.protocol.owner_types import Update
from lore.store.base import Answers, Claimed, Outcome, Position, Step
from lore_generator import token_accounting, traces
from lore_generator.owned_request import OwnedRequest
from lore_generator.request_table import RequestTable
from lore_generator.token_accounting import TokenAccounting

log = structlog.get_logger()


class Journal:
    def __init__(self, table: RequestTable, accounts: TokenAccounting) -> None:
        self._table = table
        self._accounts = accounts
        self._store_answers = True

    def on_store(self, *, answers: bool) -> None:
        if answers is not self._store_answers:
            self._store_answers = answers
            if answers:
                log.info("store back")
            else:
                log.warning("store away")

    # calls

    def on_answer(self, command: object, answer: object) -> None:
        if isinstance(command, Claim) and isinstance(answer, Claimed):
            _on_claimed(answer)

    def on_step(self, step: Step, answers: Answers, now: float) -> None:
        appended, unheard = 0, self._table.unheard
        for (owner, command), answer in zip(step, answers.each, strict=True):
            if type(answer) is Position and answer.outcome is not Outcome.OK:
                metrics.APPENDS_REPEATED["gap"].inc(answer.outcome is Outcome.GAP)
                continue
            appended += len(command.chunks)
            if owner in unheard and command.chunks:
                _on_first_chunk(unheard.pop(owner), now)
        metrics.CHUNKS_APPENDED.inc(appended)

    # turns

    def on_turn(self, owned: OwnedRequest, turn: Update, position: Position | None) -> None:
        match turn:
            case Update.ENDED:
                self._on_ended(owned)
            case Update.TAKEN:
                self._on_taken(owned, position)
            case Update.GIVEN_BACK:
                view, chunks = owned.view, len(owned.producer.made)
                metrics.APPENDS_REPEATED["forgotten"].inc()
                owned.span.event("given_back", chunks=chunks, log_id=view.log_id)
                log.info("store forgot request", **logs.of(view))
                self._table.add(owned)
            case Update.ALIVE_AGAIN:
                log.info("store forgot end", **logs.of(owned.view))
                self._table.add(owned)
            case Update.HANDED_BACK:
                assert position is not None
                owned.span.event("handed_back", failed=owned.owner.failed)
                token_accounting.count_acks(owned, position.acked_tokens)
                metrics.HANDED_BACK.inc()
                self._table.forget(owned)
            case Update.LET_GO | Update.SUSPECTED:
                self._table.forget(owned)

    def _on_ended(self, owned: OwnedRequest) -> None:
        owner = owned.owner
        reason, status = owner.producer.finish_reason or "", owner.end_status
        traces.ended(owned, reason)
        self._table.leave(owned)
        metrics.REQUESTS_ENDED[status.value].inc()
        self._accounts.settle_later(owned, status)
        if status is Status.FAILED:
            log.warning("request failed", **logs.of(owned.view), reason=owner.error)
        else:
            log.debug("request done", **logs.of(owned.view), reason=reason)

    def _on_taken(self, owned: OwnedRequest, position: Position | None) -> None:
        """The store says that the request is not ours, or not as we know it."""
        view = owned.view
        if position is None:  # it was claimed again here, or the service is ending
            self._table.forget(owned)
            return
        gone = position.status in (Status.CANCELLED, Status.REAPED)
        if gone:
            owned.span.event("taken_away", status=str(position.status))
        else:
            owned.span.event("lost", outcome=position.outcome.value)
        self._table.forget(owned)
        if position.status is Status.CANCELLED or position.status is Status.REAPED:
            # A reader cancelled it, or it was reaped: it is over, at least here.
            metrics.REQUESTS_ENDED[Status.CANCELLED].inc(position.status is Status.CANCELLED)
            token_accounting.close(owned, position.status, position.acked_tokens)
            tell = log.debug if position.status is Status.CANCELLED else log.info
            tell("request taken away", **logs.of(view), status=position.status)
        elif position.outcome is Outcome.FENCED:
            metrics.FENCED.inc()
            log.info("lease lost", **logs.of(view), epoch=view.epoch)
        elif position.outcome is Outcome.UNKNOWN:
            log.debug("request deleted", **logs.of(view))
        else:
            log.error("request dropped", **logs.of(view), outcome=position.outcome.value)


def _on_first_chunk(owned: OwnedRequest, now: float) -> None:
    assert owned.queued_s is not None
    first_token_s = owned.queued_s + now - owned.claimed_s
    metrics.TIME_TO_FIRST_TOKEN.observe(first_token_s, exemplar=owned.span.exemplar)
    owned.span.set({"gen_ai.response.time_to_first_chunk": first_token_s})
    owned.queued_s = None


def _on_claimed(claimed: Claimed) -> None:
    view = claimed.view
    if traces.is_first(claimed):
        metrics.QUEUE_WAIT.observe((view.started_ms - view.created_ms) / 1000)
        log.debug("request claimed", **logs.of(view))
    else:
        metrics.TAKEOVERS.inc()
        log.info("request taken over", **logs.of(view), epoch=view.epoch, next_seq=view.next_seq)

"""Readers who ask, acknowledge, are cut, come back, lag and vanish, and check every chunk.

Usage: locust -f loadtest/locustfile.py --headless -H http://localhost:8080 -u 20 -r 5 -t 1m

What the rows mean: loadtest/README.md.
"""

import argparse
import itertools
import logging
import os
import random
import time
from typing import Any

from locust import User, between, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import WorkerRunner

from loadtest.harness.strict_calls import Broken, Calls
from loadtest.harness.strict_reader import Answer

BREAKS = {"steady": 0, "cut": 2, "lagging": 0, "vanishing": 1}
"""How often each kind of reader breaks off, the last one for good."""
BREAK_AFTER = (1, 12)
"""Chunks, drawn between these."""
_log = logging.getLogger("lore.loadtest")
WHOLE = "whole answer"


def _share(text: str) -> float:
    value = float(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must not be below 0")
    return value


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    """The four shares are of answers, in any unit."""
    add = parser.add_argument
    add("--steady", type=_share, default=6.0, help="share of answers read without a break")
    add("--cut", type=_share, default=2.0, help="share cut twice and resumed elsewhere")
    add("--lagging", type=_share, default=1.0, help="share read slowly")
    add("--vanishing", type=_share, default=1.0, help="share that the reader leaves for good")
    add("--lag-s", type=_share, default=0.25, help="what a slow reader takes over a chunk")
    add("--away-s", type=_share, default=0.5, help="how long a cut lasts")
    add("--compare", type=_share, default=1.0, help="part to compare with the JSON view, 0 to 1")
    add("--question", default="What is a closure?")
    add("--max-tokens", type=int, default=256, help="of an answer")
    add("--edges", default="", help="base URLs, with commas; unset, --host alone")
    key = os.environ.get("LORE_API_KEY", "")
    add("--api-key", default=key, is_secret=True, help="or a JWT; unset, LORE_API_KEY")


class Deal:
    """Deals the kinds one after another in these shares, evenly mixed."""

    def __init__(self) -> None:
        self._owed = dict.fromkeys(BREAKS, 0.0)

    def next(self, shares: dict[str, float]) -> str:
        for kind, share in shares.items():
            self._owed[kind] += share
        kind = max(self._owed, key=lambda kind: self._owed[kind])
        self._owed[kind] -= sum(shares.values())
        return kind


class LoreReader(User):
    """Reads one answer after another, each as a reader of the kind that is next."""

    host = "http://localhost:8080"
    wait_time = between(0, 1)
    _deal = Deal()
    _starts = itertools.count()

    def on_start(self) -> None:
        options = self.environment.parsed_options
        edges = options.edges.split(",") if options.edges else [self.host or ""]
        self._calls = Calls(edges, options.api_key, self._again, start=next(self._starts))

    def on_stop(self) -> None:
        self._calls.close()

    @task
    def read(self) -> None:
        options = self.environment.parsed_options
        kind = self._deal.next({kind: getattr(options, kind) for kind in BREAKS})
        began_s = time.perf_counter()
        try:
            self._read(kind, options)
        except Broken as error:
            self._fire(kind, WHOLE, time.perf_counter() - began_s, error=error)

    def _read(self, kind: str, options: Any) -> None:
        body = {"question": options.question, "max_tokens": options.max_tokens, "ack": "client"}
        answer = Answer(self._calls, body, lambda name, s: self._fire(kind, name, s))
        for _ in range(BREAKS[kind]):
            if answer.read(random.randint(*BREAK_AFTER)):
                break  # it was too short
            if kind == "vanishing":
                self._fire(kind, "left", time.perf_counter() - answer.asked_s)
                return
            answer.be_cut(options.away_s)
        else:
            answer.read(lag_s=options.lag_s if kind == "lagging" else 0.0)
        took_s = time.perf_counter() - answer.asked_s
        if random.random() < options.compare:
            answer.compare()
        if kind == "steady":
            self._fire(kind, "longest pause", answer.longest_pause_s)
        self._fire(kind, WHOLE, took_s, length=len(answer.text.encode()))

    def _again(self, why: str, delay_s: float) -> None:
        self._fire("again", why, delay_s)

    def _fire(
        self, kind: str, name: str, s: float, *, length: int = 0, error: Broken | None = None
    ) -> None:
        self.environment.events.request.fire(
            request_type=kind,
            name=name,
            response_time=1000 * s,
            response_length=length,
            exception=error,
            context={},
        )


@events.quitting.add_listener
def fail_an_idle_run(environment: Environment, **_: object) -> None:
    """Nothing went wrong where nothing came back, either."""
    if isinstance(environment.runner, WorkerRunner):
        return
    entries = environment.stats.entries.items()
    if not any(name == WHOLE and entry.num_requests for (name, _), entry in entries):
        _log.error("not one answer was read to its end")
        environment.process_exit_code = 1

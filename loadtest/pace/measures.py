"""What a reader gets of an answer, as numbers. Pure: only the times at which tokens came.

All times are in seconds on one clock. A reader begins with the first token and reads ``speed``
tokens a second; token ``i`` counts from 0.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.harness.record import quantile

READING = 7.0
"""Tokens a second that people read: some 300 words a minute."""
TARGET_TTFT_S = 1.0
"""How long a reader waits for the first token without minding (for ``experience``)."""
USEFUL, USELESS = 0.1, 0.2
"""Shares of an answer that may lie unread before more of it is worth less, and nothing
(TokenFlow, arXiv 2510.02758 section 7.1.3).
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, read to its end. Times are on one clock for all answers of a run."""

    asked_s: float
    arrivals_s: Sequence[float]
    """When each token was with the reader, in order; at least one."""

    @property
    def ttft_s(self) -> float:
        return self.arrivals_s[0] - self.asked_s

    @property
    def took_s(self) -> float:
        """From the question to the last token."""
        return self.arrivals_s[-1] - self.asked_s


def late_tokens(answer: Answer, speed: float = READING) -> int:
    """Tokens that came after the time at which the reader wants them.

    Token ``i`` is wanted ``i / speed`` after the first one. This does not move when the reader
    has to wait: a pause makes each token late that it delays beyond its time.
    """
    first_s = answer.arrivals_s[0]
    return sum(came_s > first_s + i / speed for i, came_s in enumerate(answer.arrivals_s))


def read_times(arrivals_s: Sequence[float], speed: float, *, from_s: float) -> list[float]:
    """When each token is read, by a reader who begins no sooner than ``from_s``: once it is there,
    and 1 / ``speed`` after the token before.
    """
    times: list[float] = []
    next_s = from_s
    for came_s in arrivals_s:
        times.append(max(came_s, next_s))
        next_s = times[-1] + 1 / speed
    return times


def experience(answer: Answer, speed: float = READING, ttft_s: float = TARGET_TTFT_S) -> float:
    """Andes' quality of experience, from 0 to 1 (arXiv 2404.16283v2 section 3.1)::

        QoE     = 1 - S_delay / S_whole
        S_delay = sum over i of (actual_i - ideal_i)
        S_whole = sum over i of (actual_n - ideal_i)
        ideal_i  = asked + ttft + i / speed
        actual_i = max(arrival_i, actual_{i-1} + 1 / speed), and not before ideal_0

    In a plot of tokens over time, S_delay is the area between the line that the reader hopes for
    and the one that it gets, and S_whole is S_delay and the area below the latter. Text that comes
    sooner than it can be read improves nothing.
    """
    from_s = answer.asked_s + ttft_s
    actual = read_times(answer.arrivals_s, speed, from_s=from_s)
    ideal = [from_s + i / speed for i in range(len(actual))]
    delay = sum(a - i for a, i in zip(actual, ideal, strict=True))
    whole = sum(actual[-1] - i for i in ideal)
    if whole <= 0:  # one token, in time
        return 1.0
    return 1 - delay / whole


def effective_tokens(answer: Answer, speed: float = READING) -> float:
    """TokenFlow's effective tokens (arXiv 2510.02758 section 7.1.3; per second, its effective
    throughput). ``speed``: the reader reads from the first token on, and waits when there is none.

    A token counts as 1 while at most a tenth of the answer lies unread as it comes, itself
    included; beyond a fifth it counts as 0; between them, less and less.
    """
    arrivals_s = answer.arrivals_s
    total = len(arrivals_s)
    read = read_times(arrivals_s, speed, from_s=arrivals_s[0])
    effective = 0.0
    for i, came_s in enumerate(arrivals_s):
        unread = (i + 1 - bisect_right(read, came_s)) / total
        effective += min(1.0, max(0.0, (USELESS - unread) / (USELESS - USEFUL)))
    return effective


@dataclass(frozen=True, slots=True)
class Measures:
    """A run's answers in numbers."""

    ttft_p50_s: float
    ttft_p99_s: float
    late: float
    """Late tokens, as a share of all."""
    experience: float
    """The mean of the answers."""
    effective: float
    """Effective tokens a second, from the first question to the last token."""
    makespan_s: float
    """From the first question to the last token of all."""
    slowest_s: float
    """How long the slowest hundredth of answers took: the 99th percentile of ``took_s``."""
    long_s: float
    """How long the longest tenth of answers took: the mean of ``took_s``."""


def measure(answers: Sequence[Answer], speed: float = READING) -> Measures:
    tokens = sum(len(answer.arrivals_s) for answer in answers)
    began_s = min(answer.asked_s for answer in answers)
    makespan_s = max(answer.arrivals_s[-1] for answer in answers) - began_s
    ttfts_s = [answer.ttft_s for answer in answers]
    by_length = sorted(answers, key=lambda answer: len(answer.arrivals_s))
    long = by_length[-max(1, len(answers) // 10) :]
    return Measures(
        ttft_p50_s=quantile(ttfts_s, 0.5),
        ttft_p99_s=quantile(ttfts_s, 0.99),
        late=sum(late_tokens(answer, speed) for answer in answers) / tokens,
        experience=sum(experience(answer, speed) for answer in answers) / len(answers),
        effective=sum(effective_tokens(answer, speed) for answer in answers) / makespan_s,
        makespan_s=makespan_s,
        slowest_s=quantile((answer.took_s for answer in answers), 0.99),
        long_s=sum(answer.took_s for answer in long) / len(long),
    )

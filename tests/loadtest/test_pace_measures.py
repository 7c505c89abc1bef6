"""The measures of the study of pace, on answers that are reckoned by hand."""

import pytest

from loadtest.pace.measures import (
    Answer,
    effective_tokens,
    experience,
    late_tokens,
    measure,
    read_times,
)

SPEED = 1.0
"""The readers here read a token a second, and hope for the first one after a second."""


@pytest.mark.parametrize(
    ("arrivals_s", "late", "quality"),
    [
        pytest.param([1, 2, 3], 0, 1.0, id="as-hoped-for"),
        pytest.param([0.1, 0.2, 0.3], 0, 1.0, id="sooner-than-it-is-read"),
        pytest.param([1], 0, 1.0, id="one-token-in-time"),
        pytest.param([3], 0, 0.0, id="one-token-too-late"),
        # Each token 2 s after its time: 6 of the 4 + 3 + 2 below the last one's.
        pytest.param([3, 4, 5], 0, 1 - 6 / 9, id="a-late-start-makes-no-token-late"),
        # Read at 1, 2, 5, 6, hoped for at 1, 2, 3, 4.
        pytest.param([1, 2, 5, 5], 2, 1 - 4 / 14, id="a-pause"),
        # Wanted at 1, 2, 3, 4: the pause's end is no new beginning.
        pytest.param([1, 3.5, 3.6, 3.7], 2, 1 - 4.5 / 12, id="a-pause-that-is-made-up-for"),
        # Read at 1, 3, 5, hoped for at 1, 2, 3.
        pytest.param([1, 3, 5], 2, 1 - 3 / 9, id="slower-than-it-is-read"),
    ],
)
def test_tokens_are_late_after_their_time_and_quality_is_an_area(
    arrivals_s: list[float], late: int, quality: float
) -> None:
    answer = Answer(0.0, arrivals_s)
    assert late_tokens(answer, SPEED) == late
    assert experience(answer, SPEED, ttft_s=1.0) == pytest.approx(quality)


def test_a_faster_reader_has_more_late_tokens() -> None:
    answer = Answer(0.0, [0.5 * i for i in range(10)])
    assert late_tokens(answer, 2.0) == 0
    assert late_tokens(answer, 4.0) == 9


def test_a_reader_waits_for_a_token_and_then_goes_on_at_its_speed() -> None:
    assert read_times([0, 0, 5, 5], 2.0, from_s=1.0) == [1.0, 1.5, 5.0, 5.5]


@pytest.mark.parametrize(
    ("arrivals_s", "effective"),
    [
        pytest.param([float(i) for i in range(10)], 10.0, id="as-it-is-read"),
        pytest.param([3.0 * i for i in range(10)], 10.0, id="slower-than-it-is-read"),
        # The first is read as it comes; one more is a tenth of ten.
        pytest.param([0.0] * 10, 2.0, id="all-at-once"),
        # Of twenty, a tenth are two, a fifth four; three are half way between.
        pytest.param([0.0] * 20, 3.5, id="less-and-less"),
        # Two unread, until the last comes when there are none.
        pytest.param([0.0] * 4 + [50.0] * 16, 7.0, id="counted-anew-when-it-has-been-read"),
    ],
)
def test_tokens_that_lie_unread_count_less(arrivals_s: list[float], effective: float) -> None:
    assert effective_tokens(Answer(0.0, arrivals_s), SPEED) == pytest.approx(effective)


def test_a_run_is_measured_from_its_first_question_to_its_last_token() -> None:
    answers = [Answer(10.0 + i, [11.0 + 2 * i, 12.0 + 2 * i]) for i in range(4)]
    answers.append(Answer(12.0, [13.0, 14.0, 17.0, 17.0]))
    found = measure(answers, SPEED)
    assert found.ttft_p50_s == 2.0  # 1, 1, 2, 3, 4
    assert found.ttft_p99_s == 4.0
    assert found.makespan_s == 8.0  # 10 to 18
    assert found.slowest_s == 5.0
    assert found.long_s == 5.0  # the one of four tokens
    assert found.late == pytest.approx(2 / 12)
    assert found.effective == pytest.approx(11 / 8)  # the last of all came beside another
    assert found.experience == pytest.approx((1 + 1 / 3 + 1 / 5 + 1 / 7 + 10 / 14) / 5)

"""A real Prometheus looks at fifty streams under faults: whatever is asked of it has an answer."""

import math
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from dashboards.prometheus import NoProgram, concrete, program
from dashboards.rules import groups
from tests.monitoring import queries
from tests.monitoring.queries import Question
from tests.monitoring.run import Run, watched_run

SEED = 1
RATE_INTERVAL = "10s"
STEP_S = 1.0
NO_KUBE_STATE = "there is no cluster here, and so no kube-state-metrics"
EMPTY = {
    "Lore / Fleet: Pods [A]": NO_KUBE_STATE,
    "Lore / Fleet: Pods [B]": NO_KUBE_STATE,
    "kube_horizontalpodautoscaler_spec_max_replicas": NO_KUBE_STATE,
    "kube_horizontalpodautoscaler_status_condition": NO_KUBE_STATE,
    "kube_horizontalpodautoscaler_status_desired_replicas": NO_KUBE_STATE,
}
"""Questions of panels and scalers, and metrics of alerts, that have no answer here, and why."""
_SELECTOR = re.compile(r"(namespace:lore_\w+:\w+|lore_\w+|kube_\w+){[^}]*}")


@pytest.mark.faults
async def test_every_question_has_an_answer_or_a_reason_to_have_none(tmp_path: Path) -> None:
    """An alert is empty while all is well, so of alerts the parts are asked one by one."""
    try:
        program("prometheus")
    except NoProgram as error:
        pytest.skip(str(error))
    async with watched_run(tmp_path, SEED) as run:
        unwell = [rule["name"] for rule in await run.prometheus.rules() if rule["health"] != "ok"]
        assert unwell == []
        asked = [question for sort in ASKED for question in sort()]
        empty = sorted({one.where for one in asked if not await has_answer(run, one)})
        unexplained = "\n".join(one for one in empty if one not in EMPTY)
        assert not unexplained, f"no answer to\n{unexplained}"
        outdated = "\n".join(one for one in EMPTY if one not in empty)
        assert not outdated, f"an answer all the same to\n{outdated}"


def parts_of_rules() -> Iterable[Question]:
    """Each metric of an alert with its matchers, and what each recording rule records."""
    found: dict[str, Question] = {}
    for group in groups():
        for rule in group["rules"]:
            if "record" in rule:
                found[rule["record"]] = Question(rule["record"], rule["record"])
                continue
            for match in _SELECTOR.finditer(rule["expr"]):
                found[match[0]] = Question(_named(match[0]), match[0])
    return found.values()


def _named(selector: str) -> str:
    return selector.partition("{")[0] if selector.startswith("kube_") else selector


async def has_answer(run: Run, question: Question) -> bool:
    """At any time of the run. NaN, which 0 / 0 is, answers nothing."""
    expr = concrete(question.expr, RATE_INTERVAL)
    found = await run.prometheus.over(expr, run.begin_s, run.end_s, STEP_S)
    return any(not math.isnan(float(value)) for series in found for _, value in series["values"])


ASKED = (queries.panels, queries.page, queries.triggers, queries.adapter, parts_of_rules)

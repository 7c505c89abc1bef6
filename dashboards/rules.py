"""The alerts as the chart renders them."""

from pathlib import Path
from typing import Any

import yaml
from helm_python.chart import Chart

from dashboards.prometheus import NAMESPACE, RELEASE

CHART = Path(__file__).parents[1] / "charts/lore"


def groups(*, operator: bool = True) -> list[dict[str, Any]]:
    """The ``groups`` of the rules file; without an operator, without alerts on its metrics."""
    values = {
        "metrics": {"rules": {"enabled": True}},
        "operator": {"enabled": operator},
        "scaling": {"type": "keda" if operator else "none"},
    }
    rendered = Chart.load(CHART).render(values, name=RELEASE, namespace=NAMESPACE)
    (text,) = (text for path, text in rendered.items() if path.endswith("/prometheusrule.yaml"))
    return yaml.safe_load(text)["spec"]["groups"]

"""The panels' looks and queries.

An expression says ``lore_sweeps_total{RELEASE, outcome="ok"}``; ``RELEASE`` becomes the
selectors of the variables at the top of the dashboard. A quantile always covers the whole release.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    GraphTresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    LineInterpolation,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

TAG = "lore"
RELEASE = 'namespace="$namespace", app_kubernetes_io_instance=~"$release", pod=~"$pod"'
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
GREEN, AMBER, RED = "green", "orange", "red"
WIDTH = 24

Panel = stat.Panel | timeseries.Panel
Steps = Sequence[tuple[float, str]]
"""The colour from each value on."""


@dataclass(frozen=True)
class Query:
    expr: str
    legend: str = ""
    exemplars: bool = False


def rate(metric: str, matchers: str = "", by: str = "") -> str:
    """A counter's rate per second, over the release or ``by`` some of its labels."""
    chosen = f"RELEASE, {matchers}" if matchers else "RELEASE"
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({metric}{{{chosen}}}[$__rate_interval]))"


def quantile(q: float, histogram: str, matchers: str = "") -> str:
    return f"histogram_quantile({q:g}, {rate(f'{histogram}_bucket', matchers, by='le')})"


def quantiles(histogram: str, matchers: str = "") -> list[Query]:
    """Median, 95th and 99th percentile, with exemplars that lead to a request's trace."""
    return [
        Query(quantile(q, histogram, matchers), legend, exemplars=True)
        for q, legend in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    ]


def now(
    title: str,
    about: str,
    expr: str,
    unit: str,
    steps: Steps = (),
    *,
    below: str = GREEN,
    decimals: int | None = None,
) -> stat.Panel:
    """A figure, coloured by its value, on a small graph. ``below``: the colour below the first
    step."""
    panel = (
        stat.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .unit(unit)
        .no_value("no data")
        .thresholds(_thresholds(steps, below))
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_target("A", Query(expr, title)))
        .height(4)
    )
    return panel if decimals is None else panel.decimals(decimals)


def over_time(
    title: str,
    about: str,
    queries: Sequence[Query],
    unit: str,
    steps: Steps = (),
    *,
    stacked: bool = False,
    most: float | None = None,
) -> timeseries.Panel:
    """Lines over time, with a dashed line at each step. ``most``: the end of the axis."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .line_width(1.5)
        .line_interpolation(LineInterpolation.LINEAR)
        .fill_opacity(40 if stacked else 8)
        .show_points(VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
        )
        .tooltip(
            common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)
        )
        .height(8)
    )
    for letter, query in zip("ABCDEFGH", queries, strict=False):
        panel = panel.with_target(_target(letter, query))
    if steps:
        lines = common.GraphThresholdsStyleConfig().mode(GraphTresholdsStyleMode.DASHED)
        panel = panel.thresholds(_thresholds(steps)).thresholds_style(lines)
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    return panel if most is None else panel.max(most)


def board(
    uid: str,
    title: str,
    about: str,
    glance: Sequence[stat.Panel],
    rows: dict[str, Sequence[Panel]],
) -> dashboard.Dashboard:
    """``glance`` is the top row of figures; the panels of a row share its width."""
    made = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(about)
        .tags([TAG])
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time("now-1h", "now")
        .refresh("30s")
        .timezone("browser")
        .link(_link_to_the_others())
    )
    for variable in _variables():
        made = made.with_variable(variable)
    for number, panel in enumerate(glance, 1):
        made = made.with_panel(panel.id(number).span(WIDTH // len(glance)))
    number = len(glance)
    for name, panels in rows.items():
        number += 1
        made = made.with_row(dashboard.Row(name).id(number))
        for panel in panels:
            number += 1
            made = made.with_panel(panel.id(number).span(WIDTH // len(panels)))
    return made


def _target(letter: str, query: Query) -> prometheus.Dataquery:
    return (
        prometheus.Dataquery()
        .ref_id(letter)
        .datasource(SOURCE)
        .expr(query.expr.replace("RELEASE", RELEASE))
        .legend_format(query.legend)
        .exemplar(query.exemplars)
        .range()
    )


def _thresholds(steps: Steps, below: str = GREEN) -> dashboard.ThresholdsConfig:
    begin = [Threshold(value=None, color=below)]
    return (
        dashboard.ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps(begin + [Threshold(value=value, color=color) for value, color in steps])
    )


def _link_to_the_others() -> dashboard.DashboardLink:
    return (
        dashboard.DashboardLink("Lore")
        .type(DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .include_vars(True)
        .keep_time(True)
    )


def _variables() -> list[dashboard.DatasourceVariable | dashboard.QueryVariable]:
    source = dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
    namespace = _choice("namespace", "Namespace", "label_values(lore_chunks_sent_total, namespace)")
    within = '{__name__=~"lore_.+", namespace="$namespace"}'
    release = (
        _choice("release", "Release", f"label_values({within}, app_kubernetes_io_instance)")
        .include_all(True)
        .all_value(".*")
    )
    pod = (
        _choice("pod", "Pod", f"label_values({within}, pod)")
        .include_all(True)
        .all_value(".*")
        .multi(True)
    )
    everything = VariableOption(text="All", value="$__all")
    return [source, namespace, release.current(everything), pod.current(everything)]


def _choice(name: str, label: str, query: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )

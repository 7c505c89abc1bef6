"""The cells that metrics consist of, and their export to Prometheus.

Lore counts on the path of every chunk. prometheus_client's own cells take a lock and half a
microsecond for each count, two for a histogram: together a tenth of what a chunk costs. These take
a tenth of that, and leave exposition, registries and formats to the library. The price: a cell has
one writer, the thread of the event loop. A scrape only reads.
"""

import time
from bisect import bisect_left
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

from prometheus_client.core import (
    CounterMetricFamily,
    Exemplar,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector


class Counter:
    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1) -> None:
        self.value += amount


class Gauge(Counter):
    __slots__ = ()

    def set(self, value: float) -> None:
        self.value = value

    def dec(self, amount: float = 1) -> None:
        self.value -= amount


class Histogram:
    __slots__ = ("_exemplars", "bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self._exemplars: dict[int, Exemplar] = {}
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(
        self, value: float, times: int = 1, exemplar: Mapping[str, str] | None = None
    ) -> None:
        """Count ``times`` observations of ``value``. ``exemplar`` names one of them, such as
        ``{"trace_id": …}``.
        """
        bucket = bisect_left(self.bounds, value)
        self.counts[bucket] += times
        self.total += value * times
        if exemplar:
            self._exemplars[bucket] = Exemplar(dict(exemplar), value, time.time())

    def buckets(self) -> list[Any]:
        """(upper bound, observations up to it) and, if there is one, an exemplar."""
        names = [*(format(bound, "g") for bound in self.bounds), "+Inf"]
        counts = accumulate(self.counts[:])
        found = self._exemplars
        return [
            (name, float(count), found[i]) if i in found else (name, float(count))
            for i, (name, count) in enumerate(zip(names, counts, strict=True))
        ]


Kind = Literal["counter", "gauge", "histogram"]

_FAMILIES: Mapping[Kind, Any] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}


@dataclass(frozen=True)
class Row:
    """A row of the table: one metric, with a cell for each value of its label."""

    name: str
    kind: Kind
    help: str
    label: str
    """'' for a metric without one; then its only cell is that of ''."""
    cells: Mapping[str, Counter | Gauge | Histogram]
    bounds: Sequence[float] = ()

    def collect(self, shown: Container[str] | None = None) -> Metric:
        """The metric in Prometheus' format. ``shown``: the values of the label to show; None for
        all.
        """
        family = _FAMILIES[self.kind](self.name, self.help, labels=[self.label] * bool(self.label))
        for value, cell in self.cells.items():
            if shown is not None and value not in shown:
                continue
            values = [value] * bool(self.label)
            if isinstance(cell, Histogram):
                family.add_metric(values, buckets=cell.buckets(), sum_value=cell.total)
            else:
                family.add_metric(values, cell.value)
        return family


class Table:
    """Metrics that are exported together. Every label declares its values, and each value has its
    cell from the start: a counter that first appears as 1 hides its first count from rate().
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def counter(self, name: str, help: str) -> Counter:
        return self.counters(name, help)[""]

    def gauge(self, name: str, help: str) -> Gauge:
        return self.gauges(name, help)[""]

    def histogram(self, name: str, help: str, bounds: Sequence[float]) -> Histogram:
        return self.histograms(name, help, bounds)[""]

    # Of a metric with a label: the label's name, with its values.

    def counters(self, name: str, help: str, **labels: Iterable[str]) -> dict[str, Counter]:
        label, values = _only(labels)
        cells = {value: Counter() for value in values}
        self.rows.append(Row(name, "counter", help, label, cells))
        return cells

    def gauges(self, name: str, help: str, **labels: Iterable[str]) -> dict[str, Gauge]:
        label, values = _only(labels)
        cells = {value: Gauge() for value in values}
        self.rows.append(Row(name, "gauge", help, label, cells))
        return cells

    def histograms(
        self, name: str, help: str, bounds: Sequence[float], **labels: Iterable[str]
    ) -> dict[str, Histogram]:
        label, values = _only(labels)
        cells = {value: Histogram(bounds) for value in values}
        self.rows.append(Row(name, "histogram", help, label, cells, bounds))
        return cells


def _only(labels: Mapping[str, Iterable[str]]) -> tuple[str, Iterable[str]]:
    """A metric has one label at most."""
    ((label, values),) = labels.items() or {"": [""]}.items()
    return label, values


class Exporter(Collector):
    """Exports the metrics of one service. Of a label in ``shown``, only those values."""

    def __init__(self, tables: Iterable[Table], shown: Mapping[str, Container[str]]) -> None:
        self._rows = [row for table in tables for row in table.rows]
        self._shown = shown

    def collect(self) -> Iterator[Metric]:
        for row in self._rows:
            yield row.collect(self._shown.get(row.label))

"""What a scrape would show now, and the two ways in which a test says what a metric does."""

import functools
from collections.abc import Awaitable, Callable
from typing import Any

from lore.metering import Row
from lore.metrics import SERVICES, exported_by, rows

ROWS: dict[str, Row] = {row.name: row for _, row in rows()}
_REGISTRIES = [exported_by(service) for service in SERVICES]
_read: set[str] = set()

Test = Callable[..., Awaitable[None]]


def meter(name: str, **labels: str) -> float:
    """The sample of this name; counts of a histogram are ``…_count``."""
    _read.add(name)
    for registry in _REGISTRIES:
        if (value := registry.get_sample_value(name, labels)) is not None:
            return value
    raise AssertionError(f"nothing exports {name} with {labels}")


def grows(
    name: str, value: str = "", *, by: float | None = None, at_least: float = 0.0
) -> Callable[[Test], Test]:
    """What the test does makes this counter grow, or this histogram have more observations.

    ``by``: so much, and no more; ``at_least``: so much in the sum of the observations.
    """
    row = ROWS[name]
    assert row.kind != "gauge"
    labels = {row.label: value} if row.label else {}
    histogram = row.kind == "histogram"

    def decorate(test: Test) -> Test:
        @functools.wraps(test)
        async def run(**fixtures: Any) -> None:
            before = meter(name + "_count" * histogram, **labels)
            sum_before = meter(f"{name}_sum", **labels) if histogram else 0.0
            await test(**fixtures)
            grown = meter(name + "_count" * histogram, **labels) - before
            assert grown > 0 if by is None else grown == by, f"{name} {labels}: {grown:+g}"
            if histogram:
                assert meter(f"{name}_sum", **labels) - sum_before >= at_least, name

        return _covers(run, test, name, value)

    return decorate


def shows(name: str) -> Callable[[Test], Test]:
    """The test looks at this gauge, and says itself what it has to be."""
    assert ROWS[name].kind == "gauge"

    def decorate(test: Test) -> Test:
        @functools.wraps(test)
        async def run(**fixtures: Any) -> None:
            _read.discard(name)
            await test(**fixtures)
            assert name in _read, f"the test does not look at {name}"

        return _covers(run, test, name, "")

    return decorate


def _covers(run: Test, test: Test, name: str, value: str) -> Test:
    covered: set[tuple[str, str]] = getattr(test, "covers", set())
    vars(run)["covers"] = covered | {(name, value)}
    return run

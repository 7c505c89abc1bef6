"""The tables of a fault run."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tests.faults.readers import Outcome
from tests.faults.run import Round

HEAD = (
    "kind",
    "injected",
    "streams",
    "lost",
    "doubled",
    "reordered",
    "history_lost",
    "not ended",
    "worst pause",
)


def row(name: str, rounds: Sequence[Round], injected: int) -> list[str]:
    found = Counter(question.outcome for one in rounds for question in one.questions)

    def count(*outcomes: Outcome) -> str:
        return str(sum(found[outcome] for outcome in outcomes))

    return [
        name,
        str(injected),
        str(found.total()),
        count(Outcome.LOST, Outcome.STUCK, Outcome.FAILED, Outcome.REFUSED),
        count(Outcome.DOUBLED),
        count(Outcome.REORDERED),
        count(Outcome.TOLD),
        str(sum(len(one.not_ended) for one in rounds)),
        f"{max((one.pause_s for one in rounds), default=0.0):.1f} s",
    ]


def tell(this: Round, logs: Path) -> None:
    """Print what a round came to: its row, each stream that was not whole, each violation."""
    print("  ".join(row(this.name, [this], this.injected.total())), flush=True)
    for question in this.questions:
        if question.outcome is not Outcome.WHOLE:
            print(f"  {question.request_id} {question.outcome}: {question.note}")
    for line in this.violations:
        print(f"  VIOLATION {line}\n  logs: {logs}", flush=True)


def table(rounds: Sequence[Round]) -> str:
    """A row for each kind. A stream of a round with several kinds counts for each of them, and
    once among all."""
    injected = sum((one.injected for one in rounds), Counter[str]())
    names = dict.fromkeys(kind.name for one in rounds for kind in one.kinds)
    rows = [
        row(name, [one for one in rounds if name in one.injected], injected[name]) for name in names
    ]
    return markdown(HEAD, [*rows, row("all", rounds, injected.total())])


def memory_table(samples: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """MiB of resident memory of each part after each round, and its peak till then; restarts
    start anew."""
    rows: list[tuple[str, ...]] = []
    for name, found in samples.items():
        after = [mib for mib, _ in found]
        values = (after[0], min(after), max(after), after[-1], max(peak for _, peak in found))
        rows.append((name, *(f"{mib:.1f}" for mib in values)))
    return markdown(("part", "first MiB", "least", "most", "last", "peak"), rows)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]

    def joined(cells: Sequence[str]) -> str:
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        return f"| {' | '.join(padded)} |"

    return "\n".join(map(joined, (head, ["-" * width for width in widths], *lines[1:])))

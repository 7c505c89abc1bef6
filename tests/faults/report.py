"""The table of a fault run."""

from collections.abc import Iterable, Sequence

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


def row(name: str, rounds: Sequence[Round]) -> list[str]:
    def count(*outcomes: Outcome) -> str:
        return str(sum(one.count(*outcomes) for one in rounds))

    return [
        name,
        str(sum(one.injected for one in rounds)),
        str(sum(len(one.questions) for one in rounds)),
        count(Outcome.LOST, Outcome.STUCK, Outcome.FAILED, Outcome.REFUSED),
        count(Outcome.DOUBLED),
        count(Outcome.REORDERED),
        count(Outcome.TOLD),
        str(sum(len(one.not_ended) for one in rounds)),
        f"{max((one.pause_s for one in rounds), default=0.0):.1f} s",
    ]


def table(rounds: Sequence[Round]) -> str:
    names = dict.fromkeys(one.kind.name for one in rounds)
    rows = [row(name, [one for one in rounds if one.kind.name == name]) for name in names]
    return markdown(HEAD, [*rows, row("all", rounds)])


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in (head, rule, *lines[1:])
    )

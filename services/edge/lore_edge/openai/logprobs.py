"""Log probabilities in OpenAI's formats (O25)."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from lore.protocol.logprobs import Scored
from lore.tools import MAX_LOGPROBS
from lore_edge.openai.errors import refused

Json = dict[str, Any]

TopLogprobs = Annotated[int, Field(ge=0, le=MAX_LOGPROBS)]


def asked_for(*, wanted: bool, top: int) -> int | None:
    """As a ``KeptRequest`` has it."""
    return top if wanted else None


def check(*, wanted: bool, top: int, needs: str) -> None:
    """Raises OpenAIError 400 if the likeliest tokens are wanted without ``needs``."""
    if top and not wanted:
        raise refused(
            "invalid_parameter_combination",
            f"Setting 'top_logprobs' is only supported with {needs}.",
            "top_logprobs",
        )


def of_choice(scored: Sequence[Scored]) -> Json | None:
    """The ``logprobs`` of a chat's choice, and of a choice in a chunk."""
    return {"content": of_part(scored), "refusal": None} if scored else None


def of_part(scored: Sequence[Scored]) -> list[Json]:
    return [one.as_json() for one in scored]


def of_event(scored: Sequence[Scored]) -> list[Json]:
    """In the events about a response's text, tokens come without their bytes."""
    return [
        {
            "token": told["token"],
            "logprob": told["logprob"],
            "top_logprobs": [
                {"token": one["token"], "logprob": one["logprob"]} for one in told["top_logprobs"]
            ],
        }
        for told in of_part(scored)
    ]


class Pending:
    """Tokens whose text was not returned yet."""

    def __init__(self) -> None:
        self._tokens: list[Scored] = []

    def add(self, scored: Sequence[Scored]) -> None:
        self._tokens += scored

    def take(self, text: str) -> list[Scored]:
        """The tokens that stand for this text. Those before it, which are markers, are dropped;
        those behind it stay. If tokens and text do not match, all are taken.
        """
        wanted = text.encode()
        start = b"".join(one.chosen.text for one in self._tokens).find(wanted)
        if start < 0:
            return self.take_all()
        taken: list[Scored] = []
        at = used = 0
        for one in self._tokens:
            if at >= start + len(wanted):
                break
            at, used = at + len(one.chosen.text), used + 1
            if at > start:
                taken.append(one)
        del self._tokens[:used]
        return taken

    def take_all(self) -> list[Scored]:
        taken, self._tokens = self._tokens, []
        return taken

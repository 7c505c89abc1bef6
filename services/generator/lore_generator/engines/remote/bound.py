"""An answer whose form the engine keeps (protocol P5.8, P15.24).

An engine's automaton begins at the root of the form with each call, and cannot be put anywhere
else. So such an answer comes from one call, which its window does not close: what is beyond the
credit waits here. After an interruption, the call is made again from the prompt on, with the same
seed. It goes on behind the log only if it repeats the log token by token.
"""

from collections import deque
from collections.abc import Iterable, Sequence

from lore.protocol.logprobs import Scored
from lore.request import StreamRequest
from lore_generator.engines.conversation import Refused
from lore_generator.engines.remote.constraint import Constraint
from lore_generator.engines.remote.validity import Validity

Token = tuple[int, Scored | None]


class Bound:
    def __init__(
        self, request: StreamRequest, constraint: Constraint, said: str, engine: str
    ) -> None:
        """``said``: the text in the log. Raises ``Refused`` for a schema that is none."""
        self.constraint = constraint
        self.parameter = request.constraint
        self._validity = Validity(request)
        self._said = said
        self._engine = engine
        self._expected: deque[int] = deque()

    def begin(self, ids: Iterable[int]) -> None:
        """A call begins. It has to repeat these tokens first."""
        self._expected = deque(ids)

    def new(self, made: Sequence[Token], *, is_end: bool) -> Sequence[Token]:
        """Those behind the log. Raises ``Refused`` if the log is not repeated."""
        count = min(len(made), len(self._expected))
        repeats = all(token == self._expected.popleft() for token, _ in made[:count])
        if not repeats or (is_end and self._expected):
            raise Refused(
                f"the answer was interrupted, and {self._engine} cannot continue one that is bound"
                f" by {self.parameter}. Made again, it began with other words",
                "error",
            )
        return made[count:]

    def say(self, text: str) -> None:
        self._said += text

    def fault(self) -> str | None:
        """Why the whole answer may not be called complete; None if it may."""
        why = self._validity.fault(self._said)
        return why and f"the answer that {self._engine} made is not as required: {why}"

"""The sampler as the engine's loop drives it, over requests that a test keeps."""

from typing import Any

import torch
from transformers.generation.continuous_batching.requests import FutureRequestState, RequestState

from lore.request import StreamRequest
from lore_generator.engines.automata import Grammars
from lore_generator.engines.sampling import DECODING_KEY, Decoding, Sampler, Sampling

PLAIN = {"temperature": 0, "top_p": 1, "top_k": 0, "repetition_penalty": 1}


def sampling(**changed: object) -> Sampling:
    request = StreamRequest.model_validate({"question": "q", **PLAIN, **changed})
    return Sampling.of("a", request)


def state_of(
    key: str,
    prompt: list[int],
    wanted: Sampling,
    grammar: str | None = None,
    log: tuple[int, ...] = (),
) -> RequestState:
    decoding = Decoding(len(prompt), None, wanted, grammar)
    return RequestState(key, [*prompt, *log], logit_processor_kwargs={DECODING_KEY: decoding})


class Batch:
    def __init__(self, grammars: Grammars | None = None) -> None:
        self.failed: list[str] = []
        unused: Any = None
        self._sampler = Sampler(grammars or unused, self.failed.append)

    def step(self, states: list[RequestState], rows: torch.Tensor) -> list[int]:
        """Beside a row that nobody reads: of a prompt that is not complete."""
        futures = [FutureRequestState(state, True, {}, 1) for state in states]
        for state in states:
            state.position_offset = len(state.initial_tokens) + len(state.generated_tokens)
        last = [(state.generated_tokens or state.initial_tokens)[-1] for state in states]
        prompt = FutureRequestState(state_of("prompt", [1, 2], sampling()), False, {}, 2)
        self._sampler.prepare_tensor_args([prompt, *futures], torch.empty(0))
        unread = torch.ones(1, rows.size(1))
        after: Any = self._sampler(
            torch.tensor([*last, 1]), torch.cat([rows, unread]), torch.empty(0)
        )
        assert torch.equal(after[-1:], unread)
        chosen = after[:-1].argmax(-1).tolist()
        for state, token in zip(states, chosen, strict=True):
            state.generated_tokens.append(token)
        return chosen

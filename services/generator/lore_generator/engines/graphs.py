"""CUDA graphs of the model's part of a step; the sampler stays outside.

transformers records a whole step. Replayed, it would repeat what the host did when it was recorded:
the sampler would choose for the requests of that step. So a graph here ends with the scores, at an
address of their own, and the sampler runs behind it, on the same stream.
"""

from typing import Any

import torch
from torch import nn
from transformers.generation.continuous_batching.continuous_api import ContinuousBatchProcessor
from transformers.generation.continuous_batching.model_runner import ModelRunner
from transformers.generation.continuous_batching.utils import stream_context


class ScoringRunner(ModelRunner):
    """A step in two parts: ``_forward_process_and_sample``, which is recorded, ends with the scores
    (transformers >=5.23,<6).
    """

    _scores: torch.Tensor | None = None
    """float32, a row for each request of the largest batch. Both batches in flight share it: one
    has been sampled before the next writes it."""

    def compute_batch(self, model: nn.Module, batch_data: dict[str, Any]) -> None:
        super().compute_batch(model, batch_data)
        indices = batch_data["logits_indices"]
        assert self._scores is not None
        with stream_context(self.inputs_and_outputs.compute_stream):
            scores = self._scores[: indices.size(0)]
            last = batch_data["input_ids"][0, indices]
            scores = self.logit_processor(last, scores, batch_data["logits_processor_args"])
            self._sample(scores.unsqueeze(0), self.inputs_and_outputs.get_cb_kwargs()[2])

    def _forward_process_and_sample(
        self,
        model: nn.Module,
        batch_data: dict[str, Any],
        carry_over_ids: torch.Tensor,
        prev_output_ids: torch.Tensor,
        output_ids: torch.Tensor,  # noqa: ARG002
    ) -> None:
        buffers, indices = self.inputs_and_outputs, batch_data["logits_indices"]
        buffers.carry_over_tokens(batch_data["input_ids"], carry_over_ids, prev_output_ids)
        logits = model(**batch_data).logits
        if "logits_to_keep" not in batch_data:
            logits = logits[:, indices, :]
        scores = self._scores
        if scores is None:
            rows = self.cb_config.max_requests_per_batch
            scores = logits.new_empty(rows, logits.size(-1), dtype=torch.float32)
            self._scores = scores
        scores[: indices.size(0)].copy_(logits[0])


def score_in_graphs(processor: ContinuousBatchProcessor) -> None:
    """Have a loop's graphs end with the scores. Call it before the loop warms up."""
    runner = processor.model_runner
    processor.model_runner = ScoringRunner(
        logit_processor=runner.logit_processor,
        cb_config=runner.cb_config,
        inputs_and_outputs=runner.inputs_and_outputs,
        cache=runner.cache,
        do_sample=runner.do_sample,
        return_logprobs=runner.return_logprobs,
    )

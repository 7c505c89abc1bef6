"""A model of 0.1 million random weights with a real tokenizer: a second is 500 of its tokens.

It has nothing to say, so what it says is as its grammar wants it; greedily it is the same each
time, and another after another question.
"""

from pathlib import Path

import torch
from transformers import PhiConfig, PhiForCausalLM

from tests.services.tokenizers_of_both_kinds import byte_level

WIDTH = 64
SPREAD = 0.6
"""Of the weights: so far apart that no rounding makes another token the likeliest."""
UNLIKELY = -50.0


def save_json_model(folder: Path) -> None:
    """As ``LORE_MODEL`` takes it."""
    tokenizer = byte_level()
    eos = tokenizer.eos_token_id
    assert isinstance(eos, int)
    config = PhiConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=4096,
        initializer_range=SPREAD,
        bos_token_id=None,
        eos_token_id=eos,
        tie_word_embeddings=False,
    )
    torch.manual_seed(1)
    model = PhiForCausalLM(config)
    # Between the tokens of JSON it would write little else.
    blank = [n for n in range(len(tokenizer)) if not str(tokenizer.decode([n])).strip()]
    with torch.no_grad():
        model.lm_head.bias[[n for n in blank if n != eos]] = UNLIKELY
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)

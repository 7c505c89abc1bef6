"""A language model of a few thousand weights: nonsense, as fast as a test wants it."""

import copy

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lore_generator.engines.loading import Loaded
from tests.services.tokenizers_of_both_kinds import byte_level


def tiny_model() -> Loaded:
    tokenizer = byte_level()
    eos = tokenizer.eos_token_id
    assert isinstance(eos, int)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        # With the usual weights, an answer is one token over and over.
        initializer_range=0.3,
        eos_token_id=eos,
    )
    torch.manual_seed(7)
    model = LlamaForCausalLM(config).eval()
    decoder = copy.deepcopy(tokenizer.backend_tokenizer)
    return Loaded("tiny", model, tokenizer, decoder, frozenset([eos]), "", "tiny")

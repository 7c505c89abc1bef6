"""A model of a real shape with random weights, made on the device: nothing has to be loaded."""

import copy
import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig
from transformers.tokenization_utils_tokenizers import TokenizersBackend

from lore_generator.engines.loading import Loaded, find

SEED = 18


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def shape_of(file: Path, layers: int | None = None) -> LlamaConfig:
    """``layers``: keep the shape, with so many layers."""
    shape = json.loads(file.read_text())
    if layers is not None:
        shape["num_hidden_layers"] = layers
    return LlamaConfig(**shape)


def tokenizer_of(folder: Path | None) -> TokenizersBackend:
    """SmolLM2's, from a folder or from the package with its model."""
    if folder is not None:
        made = AutoTokenizer.from_pretrained(folder)
    else:
        source = find(None)
        made = AutoTokenizer.from_pretrained(source.path, gguf_file=source.gguf_file)
    assert isinstance(made, TokenizersBackend)
    return made


def random_model(
    shape: LlamaConfig, dtype: torch.dtype, attention: str, tokenizer: TokenizersBackend
) -> Loaded:
    """It has no end-of-answer token, so that each answer has the length that was asked for."""
    torch.manual_seed(SEED)
    with torch.device(device()):
        model = AutoModelForCausalLM.from_config(
            shape, dtype=dtype, attn_implementation=attention
        ).eval()
    model.generation_config.eos_token_id = None
    decoder = copy.deepcopy(tokenizer.backend_tokenizer)
    return Loaded("random", model, tokenizer, decoder, frozenset(), "", "random")

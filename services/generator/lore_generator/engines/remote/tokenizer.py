"""A model's tokenizer and chat template, from a folder or the hub, without transformers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import huggingface_hub
from huggingface_hub.errors import EntryNotFoundError
from jinja2 import TemplateError
from tokenizers import Tokenizer

from lore.parts.formats import of_template
from lore_generator.engines.conversation import Render
from lore_generator.engines.remote.template import renderer, switches_of

TOKENIZER = "tokenizer.json"
OTHERS = ("tokenizer_config.json", "special_tokens_map.json", "generation_config.json")
TEMPLATE = "chat_template.jinja"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ModelText:
    """Turns messages into ids and ids into text."""

    tokenizer: Tokenizer
    render: Render | None
    """None for a model without a chat template."""
    eos_ids: frozenset[int]
    vocabulary: int
    file: str
    parts: str = ""
    """How the chat template teaches the model to write what is not text."""
    switches: str = ""
    """How it lets a caller switch reasoning."""


def load(name: str, revision: str | None, args: Mapping[str, object]) -> ModelText:
    """``name``: a folder, or a model on the hub. Raises ValueError with one clear line."""
    folder = Path(name).expanduser()
    if folder.name == TOKENIZER:
        folder = folder.parent
    if not folder.is_dir():
        if name.startswith((".", "/", "~")):
            raise ValueError(f"no tokenizer at {name}: there is no such folder")
        folder = _from_hub(name, revision)
    if not (folder / TOKENIZER).is_file():
        raise ValueError(f"no tokenizer in {name}: it holds no {TOKENIZER}")
    try:
        return _read(folder, args)
    except TemplateError as error:
        raise ValueError(f"the chat template of {name} is invalid: {error}") from None
    except Exception as error:  # noqa: BLE001 - the files may make the library raise anything
        raise ValueError(f"cannot read the tokenizer of {name}: {error}") from None


def _from_hub(name: str, revision: str | None) -> Path:
    try:
        file = Path(huggingface_hub.hf_hub_download(name, TOKENIZER, revision=revision))
        for other in (*OTHERS, TEMPLATE):
            try:
                huggingface_hub.hf_hub_download(name, other, revision=revision)
            except EntryNotFoundError:
                continue
    except Exception as error:  # noqa: BLE001 - offline, refused, timed out: one meaning
        raise ValueError(
            f"no tokenizer of {name}: neither a folder on this machine nor a model on the hub"
            f" ({type(error).__name__}); name a folder in LORE_TOKENIZER"
        ) from None
    return file.parent


def _read(folder: Path, args: Mapping[str, object]) -> ModelText:
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    config, named, generation = (_json(folder / name) for name in OTHERS)
    tokens = _special_tokens(named | config)
    source = _template(folder, config)
    eos = generation.get("eos_token_id")
    ids = [
        *(eos if isinstance(eos, list) else [eos]),
        tokenizer.token_to_id(tokens.get("eos_token", "")),
    ]
    return ModelText(
        tokenizer,
        None if source is None else renderer(source, tokens, args),
        frozenset(one for one in ids if isinstance(one, int)),
        tokenizer.get_vocab_size(),
        str((folder / TOKENIZER).absolute()),
        str(of_template(source or "")),
        switches_of(source or ""),
    )


def _json(file: Path) -> Json:
    if not file.is_file():
        return {}
    return cast("Json", json.loads(file.read_text(encoding="utf-8")))


def _special_tokens(config: Json) -> dict[str, str]:
    """``bos_token`` and others: each is a string, or an object that contains it."""
    found: dict[str, str] = {}
    for key, value in config.items():
        if key.endswith("_token"):
            text = cast("Json", value).get("content") if isinstance(value, dict) else value
            if isinstance(text, str):
                found[key] = text
    return found


def _template(folder: Path, config: Json) -> str | None:
    """The chat template; of several, the one named ``default``."""
    file = folder / TEMPLATE
    if file.is_file():
        return file.read_text(encoding="utf-8")
    given = config.get("chat_template")
    if isinstance(given, list):
        given = {one["name"]: one["template"] for one in cast("list[Json]", given)}.get("default")
    return given if isinstance(given, str) else None

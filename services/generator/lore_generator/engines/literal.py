"""Encodes users' text as text: a question that contains ``<|im_end|>`` ends no turn.

A tokenizer finds special tokens in any text. So before the template is rendered, the first
character of each special token in a message is replaced by a stand-in, a character that occurs
nowhere else. A copy of the tokenizer restores it after it has looked for special tokens, and before
anything else. If no message contains one, nothing of this is used, and the ids are the library's
own.
"""

import itertools
import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from tokenizers import Tokenizer

_STAND_INS = range(0xF0000, 0x10FFFE)
"""Private use (Unicode 16, section 23.5): no template and no vocabulary contains them."""


def stand_ins(tokenizer: Tokenizer, texts: Iterable[str]) -> dict[str, str]:
    """A stand-in for the first character of each special token that these texts contain."""
    texts = tuple(texts)
    pattern = _special(tokenizer)
    heads = {found[0][0] for text in texts for found in pattern.finditer(text)}
    if not heads:
        return {}
    taken = set[str]().union(*texts)
    free = (chr(code) for code in _STAND_INS if chr(code) not in taken)
    return dict(zip(sorted(heads), itertools.islice(free, len(heads)), strict=True))


def hide(tokenizer: Tokenizer, text: str, by: Mapping[str, str]) -> str:
    """The text with its special tokens hidden."""
    if not by:
        return text
    return _special(tokenizer).sub(lambda found: by[found[0][0]] + found[0][1:], text)


def encode(
    tokenizer: Tokenizer, text: str, by: Mapping[str, str], *, add_special_tokens: bool
) -> list[int]:
    """The token ids of a text in which ``hide`` has hidden the special tokens that are not the
    template's.
    """
    if not by:
        return tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
    copy = _seeing_through(tokenizer, tuple(by.items()))
    return copy.encode(text, add_special_tokens=add_special_tokens).ids


@lru_cache(maxsize=4)
def _special(tokenizer: Tokenizer) -> re.Pattern[str]:
    """Matches any special token; one that begins with another is matched as a whole."""
    added = tokenizer.get_added_tokens_decoder().values()
    names = sorted((one.content for one in added if one.special), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, names)) or r"(?!)")


@lru_cache(maxsize=4)
def _seeing_through(tokenizer: Tokenizer, by: tuple[tuple[str, str], ...]) -> Tokenizer:
    data = json.loads(tokenizer.to_str())
    for added in data["added_tokens"]:
        added["normalized"] = False  # matched before the stand-ins are replaced
    back = [
        {"type": "Replace", "pattern": {"String": stand_in}, "content": head}
        for head, stand_in in by
    ]
    own = [data["normalizer"]] if data["normalizer"] else []
    data["normalizer"] = {"type": "Sequence", "normalizers": [*back, *own]}
    return Tokenizer.from_str(json.dumps(data))

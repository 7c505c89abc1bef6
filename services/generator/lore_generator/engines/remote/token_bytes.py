"""What a token stands for, which may be a part of a character."""

import re
from functools import lru_cache

from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel


def bytes_of(tokenizer: Tokenizer, token: int) -> bytes:
    """b"" for an id without a token."""
    special, by_byte = _kind(tokenizer)
    if token in special:
        return special[token].encode()
    piece = tokenizer.id_to_token(token) or ""
    if by_byte and by_byte.keys() >= set(piece):
        return bytes(by_byte[character] for character in piece)
    if byte := re.fullmatch("<0x([0-9A-F]{2})>", piece):
        return bytes.fromhex(byte[1])
    return piece.replace("▁", " ").encode()


@lru_cache(maxsize=4)
def _kind(tokenizer: Tokenizer) -> tuple[dict[int, str], dict[str, int]]:
    """The special and added tokens, and the byte that each character stands for: in vocabularies as
    of GPT-2, characters that can be printed are themselves, and the others were moved up.
    """
    added = {token: one.content for token, one in tokenizer.get_added_tokens_decoder().items()}
    if "ByteLevel" not in repr(tokenizer.decoder):
        return added, {}
    letters = sorted(ByteLevel.alphabet())
    plain = {letter: ord(letter) for letter in letters if ord(letter) < 256}
    others = (byte for byte in range(256) if byte not in plain.values())
    moved = (letter for letter in letters if letter not in plain)
    return added, plain | dict(zip(moved, others, strict=True))

"""A tokenizer that counts words, and an edge that counts with it."""

from tokenizers import Tokenizer, models, pre_tokenizers

from lore.store.base import Store
from lore_edge.app import Edge


def words() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    return tokenizer


async def let_count(edge: Edge, store: Store, context_tokens: int) -> None:
    edge._context._load = words
    await store.tell_model({"context_tokens": str(context_tokens)}, keep_ms=600_000)

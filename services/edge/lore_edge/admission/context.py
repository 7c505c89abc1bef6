"""Whether a prompt fits the model's context, checked before it is accepted (protocol P17.19).

Generators publish the size of their context. A prompt with fewer bytes than that has fewer tokens,
too. A larger one is counted with the model's tokenizer where that is available: message by message
and without the chat template, so that no prompt is refused that a generator would take (P17.20). A
prompt that only the template makes too long, or that cannot be counted, *may not fit*: its
generator judges it.
"""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from lore.protocol.lifecycle import CONTEXT_EXCEEDED
from lore.request import StreamRequest, context_exceeded
from lore.store.base import Store
from lore_edge.admission.served_model import HEARD_S, UNHEARD_S
from lore_edge.settings import EdgeSettings
from lore_edge.wire.errors import invalid

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_log = structlog.get_logger()

TEMPLATE_TOKENS = 16
"""The most tokens that a chat template usually adds to each message, or a tokenizer to a prompt."""


class Context:
    """The context of the model that this edge's generators serve."""

    def __init__(self, store: Store, settings: EdgeSettings) -> None:
        self._store = store
        self._settings = settings
        self._tokens = 0
        self._file = settings.tokenizer
        self._asked_s = float("-inf")
        self._tokenizer: Tokenizer | None = None
        self._loaded = ""
        self._counting = ThreadPoolExecutor(1, thread_name_prefix="lore-count")

    def close(self) -> None:
        self._counting.shutdown(wait=False, cancel_futures=True)

    async def may_not_fit(self, asked: StreamRequest) -> bool:
        """Whether its generator may find that the prompt does not fit.

        Raises ApiError 400 when it surely does not fit, and StoreUnavailable.
        """
        await self._ask()
        if not self._tokens:
            return False
        if isinstance(asked.prompt, list):
            count, added = len(asked.prompt), 0
        else:
            texts = asked.texts()
            added = TEMPLATE_TOKENS * len(texts)
            if sum(len(text.encode()) for text in texts) + added < self._tokens:
                return False
            loop = asyncio.get_running_loop()
            is_raw = asked.prompt is not None
            count = await loop.run_in_executor(self._counting, self._count, texts, is_raw)
        if count is not None and count >= self._tokens:
            message = context_exceeded(count, self._tokens)
            raise invalid(message, field=asked.asked_in, code=CONTEXT_EXCEEDED)
        return count is None or count + added >= self._tokens

    async def _ask(self) -> None:
        now = time.monotonic()
        if now - self._asked_s < (HEARD_S if self._tokens else UNHEARD_S):
            return
        self._tokens = int(await self._store.model_fact("context_tokens") or 0)
        self._file = self._settings.tokenizer or await self._store.model_fact("tokenizer") or ""
        self._asked_s = now

    def _count(self, texts: Sequence[str], is_raw: bool) -> int | None:
        """Count the tokens; None when that is impossible. Runs in a thread: a long prompt takes a
        tenth of a second.

        ``is_raw``: names of special tokens are those tokens. In messages they are text.
        """
        tokenizer = self._load()
        if tokenizer is None:
            return None
        tokenizer.encode_special_tokens = not is_raw
        found = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return sum(len(one) for one in found)

    def _load(self) -> "Tokenizer | None":
        if self._file != self._loaded:
            self._loaded, self._tokenizer = self._file, None
            if self._file and Path(self._file).is_file():
                self._tokenizer = _read(self._file)
        return self._tokenizer


def _read(file: str) -> "Tokenizer | None":
    from tokenizers import Tokenizer  # some megabytes, so only if needed

    try:
        return Tokenizer.from_file(file)
    except Exception as error:  # noqa: BLE001 - the library documents no narrower type
        _log.warning("prompts not counted", tokenizer=file, reason=str(error))
        return None

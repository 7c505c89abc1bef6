"""What an owner gives back to a store that has forgotten its request (P3, P4)."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from lore.protocol.chunk import Chunk
from lore.protocol.fork import fork
from lore.protocol.messages import View
from lore.protocol.producer import Producer


def known(
    view: View, producer: Producer, prompt_tokens: int, run_id: str, *, alone: bool
) -> tuple[View, Sequence[Chunk]]:
    """What an owner can give back to the life ``run_id`` of the store: the view and the log.

    ``alone``: the owner gives back all that was ever sent (P3.6). Otherwise another owner may have
    continued the log behind what the store is known to have had, and the log forks there (P3.8). A
    repeated call gives the fork the same name.
    """
    log, window = producer.made if alone else producer.stored, producer.window
    assert [chunk.seq for chunk in log] == list(range(1, len(log) + 1)), "P3.3: a whole log or none"
    acked_seq = next((c.seq for c in log if 0 < window.acked_tokens == c.tokens), 0)
    view = replace(
        view,
        window=window.size,
        acked_seq=acked_seq,
        acked_tokens=window.acked_tokens if acked_seq else 0,
        prompt_tokens=prompt_tokens,
    )
    if alone:
        return view, log
    name = f"{view.log_id} {view.epoch} {run_id}".encode()
    forked = replace(
        view,
        log_id=hashlib.blake2b(name, digest_size=8).hexdigest(),
        forks=fork(view.forks, view.log_id, len(log) + 1),
    )
    return forked, log

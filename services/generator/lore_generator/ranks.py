"""Ranks of one model that torchrun shards (``LORE_TP_PLAN``). The first serves, the others decode
with it.

A command to the engine reaches all ranks in the same order, and a draw depends on the request
alone, so all ranks choose the same tokens. Only the first rank talks to the store and answers
probes.
"""

import os
import signal
import time

from lore_generator.engine import Engine

CHECK_S = 0.2


def is_follower() -> bool:
    """Whether torchrun started this process as a rank other than the first."""
    return int(os.environ.get("RANK", "0")) > 0


def follow(engine: Engine) -> None:
    """Decode with the first rank until it ends. Raises ValueError when the model cannot be loaded.

    Only the first rank acts on signals: it hands its requests back, which takes steps, and ends the
    group. torchrun ends all remaining ranks when one of them fails.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    engine.start(lambda _: None)  # the first rank has the same pieces
    while engine.alive():
        time.sleep(CHECK_S)  # another process: no event to await

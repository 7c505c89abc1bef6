"""Python's garbage collector, kept from stopping a service."""

import gc

THRESHOLD = 10_000
"""So many new objects, and not 700, bring it about. A page of a log has some hundreds."""


def spare() -> None:
    """Exclude existing objects from garbage collection, and collect new ones less often. Call it
    once a service has loaded what it keeps.

    Scanning all objects again and again stops the event loop for longer than a reader should wait:
    20 ms at 500 answers under way, more with a model's library loaded. At an edge it took a quarter
    of the time when many readers came back.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(THRESHOLD)

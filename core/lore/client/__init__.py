"""The Python reader of Lore's streams. It resumes by itself and loses nothing (protocol P1)."""

from lore.client.acks import Counters
from lore.client.edges import ReaderConfig
from lore.client.events import (
    Cancelled,
    End,
    Event,
    Failed,
    HistoryLost,
    LoreError,
    Lost,
    Refused,
    State,
    Text,
    Unavailable,
    View,
)
from lore.client.reader import Reader
from lore.client.stream import Stream

__all__ = [
    "Cancelled",
    "Counters",
    "End",
    "Event",
    "Failed",
    "HistoryLost",
    "LoreError",
    "Lost",
    "Reader",
    "ReaderConfig",
    "Refused",
    "State",
    "Stream",
    "Text",
    "Unavailable",
    "View",
]

"""The Python reader of Lore's streams. It resumes by itself and loses nothing (protocol P1)."""

from lore_client.edges import ReaderConfig
from lore_client.events import (
    Cancelled,
    End,
    Event,
    Failed,
    HeldBack,
    HistoryLost,
    LoreError,
    Lost,
    Refused,
    State,
    Text,
    Unavailable,
    View,
)
from lore_client.reader import Reader
from lore_client.reading import Counters
from lore_client.stream import Stream
from lore_client.sync import SyncReader, SyncStream

__all__ = [
    "Cancelled",
    "Counters",
    "End",
    "Event",
    "Failed",
    "HeldBack",
    "HistoryLost",
    "LoreError",
    "Lost",
    "Reader",
    "ReaderConfig",
    "Refused",
    "State",
    "Stream",
    "SyncReader",
    "SyncStream",
    "Text",
    "Unavailable",
    "View",
]

"""The state of one reading that the tasks of its stream share."""

from dataclasses import dataclass, field
from typing import Any

import httpx

from lore_client.calls import call
from lore_client.edges import Edges, ReaderConfig
from lore_client.protocol.receiver import Receiver


@dataclass(slots=True)
class Counters:
    reconnects: int = 0
    acks: int = 0
    lost_acks: int = 0
    polls: int = 0
    """How many finished responses were read (P18)."""


@dataclass(slots=True)
class Reading:
    http: httpx.AsyncClient
    edges: Edges
    path: str
    config: ReaderConfig
    receiver: Receiver
    log_id: str
    """The log in which the receiver's position counts; '' if unknown."""
    counters: Counters = field(default_factory=Counters)

    @property
    def url(self) -> str:
        """The request's URL at the edge in use."""
        return self.edges.current + self.path

    @property
    def after(self) -> str:
        """The receiver's position, in the form that edges take (P4, P12)."""
        position = self.receiver.position
        return f"{position}:{self.log_id}" if self.log_id else str(position)

    async def call(
        self, method: str, below: str = "", *, wait_s: float = 0.0, **more: Any
    ) -> httpx.Response:
        """The whole response of the edge in use, which may take ``wait_s`` seconds longer than
        others.

        Raises httpx.RequestError.
        """
        timeout_s = wait_s + self.config.call_timeout_s
        return await call(self.http, method, self.url + below, timeout_s=timeout_s, **more)

"""Who may ask, and who is next: the calls of ``lua/admission.lua`` and ``lua/queue.lua``."""

import asyncio
from collections.abc import Mapping

from lore.store.base import Admission, Claimed, Limits, NewRequest, Opened, Outcome
from lore.store.codec import VIEW_FIELDS, admission_from, view_from
from lore.store.keys import client_keys, partition_keys
from lore.store.valkey.calls import answers, keys_of
from lore.store.valkey.room import Room


class Queue(Room):
    async def admit(
        self, client: str, request_id: str, limits: Limits, *, tokens: int = 0, quantum_ms: int = 0
    ) -> Admission:
        functions = self._of(client)
        reply = await self._begin(
            functions,
            lambda: functions.fcall(
                "lore_admit",
                client_keys(client),
                self._now_ms(),
                request_id,
                limits.streams,
                quantum_ms,
                limits.requests_per_minute,
                limits.tokens_per_minute,
                tokens,
            ),
        )
        return admission_from(reply)

    async def settle(self, client: str, used_tokens: Mapping[str, int | None]) -> None:
        ended = (
            part
            for request_id, used in used_tokens.items()
            for part in (request_id, "" if used is None else used)
        )
        await self._of(client).fcall("lore_settle", client_keys(client), self._now_ms(), *ended)

    async def leave(self, client: str, request_id: str) -> None:
        await self._of(client).fcall("lore_leave", client_keys(client), self._now_ms(), request_id)

    async def open(self, new: NewRequest, *, queue_limit: int) -> Opened:
        functions = self._of(new.request_id)
        outcome, created, *values = await self._begin(
            functions,
            lambda: functions.fcall(
                "lore_open",
                keys_of(new.request_id),
                self._now_ms(),
                queue_limit,
                functions.run_id,
                new.request_id,
                new.subject,
                new.body,
                new.fingerprint,
                new.ack,
                new.window,
                *VIEW_FIELDS,
                *(("elsewhere", "1") if new.asks_elsewhere else ()),
                *(("place", new.place_ms) if new.place_ms else ()),
                *(("ahead", new.ahead) if new.ahead else ()),
                *(("traceparent", new.trace) if new.trace else ()),
            ),
        )
        view = view_from(values[: len(VIEW_FIELDS)]) if values else None  # see ``claim``
        return Opened(Outcome(outcome), bool(created), view)

    async def claim(
        self, partition: int, owner: str, *, lease_ms: int, untried: bool = False
    ) -> Claimed | None:
        functions = self._functions[partition]
        run_id = functions.run_id
        values = await functions.fcall(
            "lore_claim",
            partition_keys(partition),
            self._now_ms(),
            owner,
            lease_ms,
            run_id,
            "body",
            *VIEW_FIELDS,
            "epochs",
            *(("untried",) if untried else ()),
        )
        if values is None:
            return None
        body, *fields = values[: 1 + len(VIEW_FIELDS)]  # a library of VERSION 5 adds 'epochs'
        view = view_from(fields)
        assert view is not None
        return Claimed(view, body, run_id)

    async def waiting(self, *, lease_ms: int = 0) -> list[tuple[int, int]]:
        now_ms, usual = self._now_ms(), (lease_ms,) if lease_ms else ()
        places = await answers(
            functions.fcall("lore_waiting", partition_keys(partition)[:2], now_ms, *usual)
            for partition, functions in enumerate(self._functions)
        )
        return sorted((ms, partition) for partition, ms in enumerate(places) if ms is not None)

    async def queue_depth(self) -> int:
        counts = await asyncio.gather(
            *(
                functions.ask("ZCARD", partition_keys(partition)[0])
                for partition, functions in enumerate(self._functions)
            )
        )
        return sum(counts)

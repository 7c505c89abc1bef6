"""Converts between Valkey's replies and views, chunks, positions and messages."""

import re
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any, cast

from lore.protocol.chunk import Chunk, make
from lore.protocol.lifecycle import Status
from lore.protocol.logprobs import pack, unpack
from lore.store.base import (
    AckMessage,
    Admission,
    ChunkMessage,
    Claimed,
    Message,
    News,
    Opened,
    Outcome,
    Position,
    StateMessage,
    View,
    Vitals,
)

VIEW_FIELDS = tuple(field.name for field in fields(View))
"""The fields of the request's hash that make up a view, in the view's order."""
_CONVERTERS = tuple(cast("Callable[..., Any]", field.type) for field in fields(View))


_OUTCOMES: dict[Any, Outcome] = {outcome.value: outcome for outcome in Outcome}
_STATUSES: dict[Any, Status | None] = {"": None, **{each.value: each for each in Status}}


def view_from(values: Sequence[str | None]) -> View | None:
    """A view from the values of VIEW_FIELDS; None when there is no such hash. Fields that an older
    library did not write are empty.
    """
    if values[0] is None:
        return None
    return View(
        *(
            convert() if value is None else convert(value)
            for convert, value in zip(_CONVERTERS, values, strict=True)
        )
    )


def admission_from(reply: Sequence[Any]) -> Admission:
    admitted, *rest = reply
    if admitted:
        place_ms, ahead = rest
        return Admission(True, place_ms, ahead)
    limit, wait_ms, *counted = rest
    ages = tuple(zip(counted[::2], counted[1::2], strict=True))
    return Admission(False, limit=limit, wait_ms=wait_ms, counted=ages)


def opened_from(reply: Sequence[Any]) -> Opened:
    outcome, created, *values = reply
    view = view_from(values[: len(VIEW_FIELDS)]) if values else None  # see ``claimed_from``
    return Opened(_OUTCOMES[outcome], bool(created), view)


def claimed_from(reply: Sequence[Any] | None, run_id: str) -> Claimed | None:
    if reply is None:
        return None
    body, *values = reply[: 1 + len(VIEW_FIELDS)]  # a library of VERSION 5 adds 'epochs'
    view = view_from(values)
    assert view is not None
    return Claimed(view, body, run_id)


def vitals_from(info: str) -> Vitals:
    """Parse the sections memory and replication of INFO. Buffers for replicas and the append-only
    file do not count towards the memory limit.
    """
    values = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    sent = int(values["master_repl_offset"])
    replicas = [
        dict(part.split("=", 1) for part in values[name].split(","))
        for name in values
        if re.fullmatch(r"slave\d+", name)
    ]
    following = [one for one in replicas if one["state"] == "online"]
    return Vitals(
        memory_bytes=int(values["used_memory"]) - int(values["mem_not_counted_for_evict"]),
        memory_limit_bytes=int(values["maxmemory"]),
        replicas=len(following),
        replica_lag_bytes=max((sent - int(one["offset"]) for one in following), default=0),
    )


def worst_of(servers: Sequence[Vitals]) -> Vitals:
    """The worst of each value over a cluster's primaries: the fullest memory, the fewest replicas,
    the longest lag.
    """
    fullest = max(servers, key=lambda one: one.memory_bytes / (one.memory_limit_bytes or 2**63))
    return replace(
        fullest,
        replicas=min(one.replicas for one in servers),
        replica_lag_bytes=max(one.replica_lag_bytes for one in servers),
    )


def position_from(reply: Sequence[str | int]) -> Position:
    outcome, status, next_seq, acked_seq, acked_tokens = reply
    return Position(
        _OUTCOMES[outcome],
        _STATUSES[status],
        int(next_seq),
        int(acked_seq),
        int(acked_tokens),
    )


def news_from(payload: str) -> News:
    outcome, status, next_seq, acked_seq, acked_tokens, *epoch = payload.split(" ")
    position = position_from((outcome, status, next_seq, acked_seq, acked_tokens))
    return News(position, int(epoch[0]) if epoch else 0)


def message_from(payload: str) -> Message:
    head, _, text = payload.partition("\n")
    words = head.split(" ")
    if words[0] == "c":  # nearly all messages are chunks
        _, seq, tokens, at_ms, log_id = words
        fields = int(seq), text, int(tokens), int(at_ms), log_id, (), (), None
        return make(ChunkMessage, fields)
    match words:
        case ["a", acked_seq, acked_tokens]:
            return AckMessage(int(acked_seq), int(acked_tokens))
        case ["s", status, reason]:
            return StateMessage(Status(status), reason)
        case _:
            raise ValueError("a message of an unknown kind")


def chunk_arguments(chunks: Sequence[Chunk]) -> list[str | int]:
    """The chunks as arguments of the append function."""
    arguments: list[str | int] = []
    for seq, text, token_ids, tokens, scored, prompt_ids in chunks:
        if scored or prompt_ids is not None:
            token_ids = pack(token_ids, scored, prompt_ids)
        ids = " ".join(map(str, token_ids)) if token_ids[1:] or not token_ids else token_ids[0]
        arguments += (seq, text, ids, tokens)
    return arguments


_NO_MORE: tuple[Any, ...] = (), (), None

# A stream entry is (id, [field, value, ...]) with the fields t, i, n, a and l in this order.
Entry = tuple[str, list[str]]


def chunk_from(entry: Entry) -> Chunk:
    name, (_, text, _, token_ids, _, tokens, *_) = entry
    ids, scored, prompt_ids = unpack(tuple(map(int, token_ids.split())))
    return Chunk(int(name.partition("-")[0]), text, ids, int(tokens), scored, prompt_ids)


def chunk_messages_from(entries: Sequence[Entry]) -> list[ChunkMessage]:
    """A page of a log, in one pass: it has many entries, and a reader waits for it."""
    page: list[ChunkMessage] = []
    for name, (_, text, _, token_ids, _, tokens, _, at_ms, _, log_id) in entries:
        more = _more_from(token_ids) if "-" in token_ids else _NO_MORE
        fields = int(name.partition("-")[0]), text, int(tokens), int(at_ms), log_id, *more
        page.append(make(ChunkMessage, fields))
    return page


def _more_from(token_ids: str) -> tuple[Any, ...]:
    """What a chunk's entry has beside its text: ``scored``, ``token_ids`` and ``prompt_ids``."""
    ids, scored, prompt_ids = unpack(tuple(map(int, token_ids.split())))
    return scored, ids if prompt_ids is not None else (), prompt_ids

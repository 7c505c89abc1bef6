"""Packs commands into calls of the library in ``lua``, and unpacks its replies.

A command on one request is packed as it is: its keys, then its fields after the request's id.
``_PACKERS`` has the commands that need other keys, or arguments that their caller does not know.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from lore.protocol.commands import (
    Append,
    Claim,
    Finish,
    GiveUp,
    Meet,
    Reinstate,
    Renew,
    Silent,
    Waiting,
)
from lore.store.base import Admission, Opened, Position
from lore.store.keys import (
    client_keys,
    ended_key,
    log_key,
    met_key,
    partition_keys,
    partition_of,
    request_key,
    request_keys,
)
from lore.store.types import Admit, Leave, Open, Settle
from lore.store.valkey.client.functions import Functions
from lore.store.valkey.codec import (
    VIEW_FIELDS,
    admission_from,
    chunk_arguments,
    opened_from,
    position_from,
)

LOOKING_VERSION = 7
"""The library's version from which on it checks whether an owner has left."""
MODEL_VERSION = 8
"""The library's version from which on a give-back may name the model of the answer. ``Prompt``
names it to older ones, too, which ignore it.
"""

PASSING_VERSION = 9
"""The library's version from which on it passes over answers of another model."""


JOINED_VERSION = 9
"""The library's version from which on one call asks what waits in all partitions of a server."""


class FunctionCall(NamedTuple):
    partition: int
    keys: tuple[str, ...]
    arguments: Sequence[Any]
    """The arguments after the clock."""


def pack(command: Any, servers: Sequence[Functions]) -> FunctionCall:
    """Pack a command. ``servers``: the connection to the server of each partition."""
    packer = _PACKERS.get(type(command))
    if packer is not None:
        return packer(command, servers)
    request_id, *fields = command
    while fields and fields[-1] is None:
        fields.pop()
    return _on(request_id, fields)


def answer_from(command: Any, reply: Any) -> Any:
    return _ANSWERS[command.answers](reply)


def _on(request_id: str, arguments: Sequence[Any]) -> FunctionCall:
    """A call with the keys of a function on one request: r, c, q, lease, live."""
    partition = partition_of(request_id)
    keys = (request_key(request_id), log_key(request_id), *partition_keys(partition))
    return FunctionCall(partition, keys, arguments)


def _append(command: Append, servers: Sequence[Functions]) -> FunctionCall:
    request_id, owner, lease_ms, *fields, chunks = command
    partition, keys = partition_of(request_id), request_keys(request_id)
    common = owner, lease_ms, servers[partition].run_id
    arguments = (*common, *fields, len(chunks), *chunk_arguments(chunks), "position")
    return FunctionCall(partition, (*partition_keys(partition), *keys), arguments)


def _finish(command: Finish, servers: Sequence[Functions]) -> FunctionCall:
    request_id, *fields = command
    return _on(request_id, (*fields, servers[partition_of(request_id)].run_id))


def _reinstate(command: Reinstate, servers: Sequence[Functions]) -> FunctionCall:
    view, body, chunks, lease_ms = command
    server = servers[partition_of(view.request_id)]
    arguments = (
        *(view.owner, view.epoch, view.log_id, view.forks),
        _hears(server.version),
        *(view.subject, body, view.fingerprint, view.ack, view.window),
        *(view.acked_seq, view.acked_tokens, view.prompt_tokens, view.created_ms, view.started_ms),
        chunks[-1].tokens if chunks else 0,
        len(chunks) + 1,
        *(lease_ms, server.run_id),
        *chunk_arguments(chunks),
        *(("traceparent", view.trace) if view.trace else ()),
        *(("model", view.model) if view.model and server.version >= MODEL_VERSION else ()),
    )
    return _on(view.request_id, arguments)


def _renew(command: Renew, servers: Sequence[Functions]) -> FunctionCall:
    partition, owner, lease_ms, leases = command
    keys = (*partition_keys(partition), *(request_key(lease[0]) for lease in leases))
    claims = (part for _, epoch, log_id in leases for part in (epoch, log_id))
    return FunctionCall(partition, keys, (owner, lease_ms, servers[partition].run_id, *claims))


def _claim(command: Claim, servers: Sequence[Functions]) -> FunctionCall:
    partition, owner, lease_ms, untried, silent, others = command
    server = servers[partition]
    text = _text_of(silent, server)
    arguments = (
        *(owner, lease_ms, server.run_id, "body", *VIEW_FIELDS),
        "present" if server.version >= LOOKING_VERSION else "epochs",
        *(("untried",) if untried else ()),
        *(("silent", text) if text else ()),
        *(("others", *others) if others and server.version >= PASSING_VERSION else ()),
    )
    return FunctionCall(partition, partition_keys(partition), arguments)


def _hears(version: int) -> str:
    """What the owner hears, as a library of this version expects it: '1' for epochs, '2' if the
    owner also has a channel of its own.
    """
    return "2" if version >= LOOKING_VERSION else "1" if version >= 6 else ""


def _text_of(silent: Sequence[Silent], server: Functions) -> str:
    """The owners that may have left this server, as ``lua/queue.lua`` reads them; '' for none."""
    if server.version < LOOKING_VERSION:
        return ""
    here = (one for one in silent if one.run_id == server.run_id)
    return "".join("\n".join((f"{run_id} {ms}", *owners)) for run_id, ms, owners in here)


def _open(command: Open, servers: Sequence[Functions]) -> FunctionCall:
    new, queue_limit = command
    arguments = (
        *(queue_limit, servers[partition_of(new.request_id)].run_id),
        *(new.request_id, new.subject, new.body, new.fingerprint, new.ack, new.window),
        *VIEW_FIELDS,
        *(("elsewhere", "1") if new.asks_elsewhere else ()),
        *(("place", new.place_ms) if new.place_ms else ()),
        *(("ahead", new.ahead) if new.ahead else ()),
        *(("traceparent", new.trace) if new.trace else ()),
    )
    return _on(new.request_id, arguments)


def _of_client(client: str, arguments: Sequence[Any]) -> FunctionCall:
    return FunctionCall(partition_of(client), client_keys(client), arguments)


def _admit(command: Admit, _: object) -> FunctionCall:
    client, request_id, limits, tokens, quantum_ms = command
    a_minute = (limits.requests_per_minute, limits.tokens_per_minute)
    return _of_client(client, (request_id, limits.streams, quantum_ms, *a_minute, tokens))


def _settle(command: Settle, _: object) -> FunctionCall:
    ended = (
        part
        for request_id, used in command.used_tokens.items()
        for part in (request_id, "" if used is None else used)
    )
    return _of_client(command.client, tuple(ended))


def _leave(command: Leave, _: object) -> FunctionCall:
    return _of_client(command.client, (command.request_id,))


def _give_up(command: GiveUp, _: object) -> FunctionCall:
    partition, until_ms, most = command
    return FunctionCall(partition, (ended_key(partition),), (until_ms, most))


def _meet(command: Meet, _: object) -> FunctionCall:
    return FunctionCall(partition_of(""), (met_key(),), command)


def pack_waiting(command: Waiting, partitions: Sequence[int], server: Functions) -> FunctionCall:
    """Ask what waits in each partition alone, or in all partitions of a server."""
    lease_ms, silent = command
    text = _text_of(silent, server)
    usual = (lease_ms,) if lease_ms else ()
    arguments = (lease_ms or "", server.run_id, text) if text else usual
    keys = tuple(key for partition in partitions for key in partition_keys(partition)[:2])
    return FunctionCall(partitions[0], keys, arguments)


_PACKERS: dict[Any, Callable[[Any, Any], FunctionCall]] = {
    Admit: _admit,
    Append: _append,
    Claim: _claim,
    Finish: _finish,
    GiveUp: _give_up,
    Leave: _leave,
    Meet: _meet,
    Open: _open,
    Reinstate: _reinstate,
    Renew: _renew,
    Settle: _settle,
}
_ANSWERS: dict[Any, Callable[[Any], Any]] = {
    Position: position_from,
    list[Position]: lambda replies: [position_from(reply) for reply in replies],
    Admission: admission_from,
    Opened: opened_from,
    list[str]: lambda names: names,
    int: lambda reply: reply[0],  # the second number counts the entries removed from the index
    type(None): lambda _: None,
}

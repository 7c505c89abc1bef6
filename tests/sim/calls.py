"""A generator's commands as calls of the store's model, one request at a time, so that each can be
checked."""

from collections.abc import Callable
from typing import Any

from lore.protocol.commands import Append, Finish, Reinstate, Release, Renew

Do = Callable[..., Any]
"""``do(method, request_id, *args, **kwargs)``: makes the call and checks what it did."""

Command = Append | Finish | Reinstate | Release | Renew


def perform(command: Command, do: Do) -> Any:
    """The answer to a command that changes requests."""
    match command:
        case Append(request_id, owner, epoch, log_id, window, reopen_tokens, lease_ms, chunks):
            more = {"window": window, "reopen_tokens": reopen_tokens, "lease_ms": lease_ms}
            return do("append", request_id, owner, epoch, chunks, log_id=log_id, **more)
        case Finish():
            return do("finish", *command)
        case Reinstate(view, body, chunks, lease_ms):
            return do("reinstate", view.request_id, view, body, chunks, lease_ms=lease_ms)
        case Release(request_id, owner, epoch, failed):
            return do("release", request_id, owner, epoch, failed=failed)
        case Renew(_, owner, lease_ms, leases):
            return [
                do("renew", request_id, owner, epoch, log_id, lease_ms=lease_ms)
                for request_id, epoch, log_id in leases
            ]

"""Run a program: to its end, or for as long as it has to serve."""

import asyncio
import os
import shutil
import socket
import subprocess
import time
from asyncio.subprocess import PIPE
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

START_LIMIT_S = 30
STOP_LIMIT_S = 10
PATH = f"{os.environ['PATH']}:/usr/sbin"


class Done(NamedTuple):
    status: int
    out: str
    err: str


async def run(
    *argv: str, env: Mapping[str, str], limit_s: float, folder: Path | None = None
) -> Done:
    """In a folder, if one is given. Raises TimeoutError, and then it is killed."""
    process = await asyncio.create_subprocess_exec(
        *argv, cwd=folder, env=env, stdout=PIPE, stderr=PIPE
    )
    try:
        async with asyncio.timeout(limit_s):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())


@contextmanager
def serving(
    port: int, *argv: str, env: Mapping[str, str] | None = None, folder: Path | None = None
) -> Iterator[str]:
    """A server at ``port``, until the block ends; gives its URL. Skips where it is not installed.

    ``env``: more than there is already.
    """
    program = shutil.which(argv[0], path=PATH)
    if program is None:
        pytest.skip(f"{argv[0]} is not installed: nothing is tried behind it")
    process = subprocess.Popen([program, *argv[1:]], env=os.environ | (env or {}), cwd=folder)
    try:
        _wait_for(port, process, argv[0])
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes], name: str) -> None:
    until = time.monotonic() + START_LIMIT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert process.poll() is None, f"{name} did not start"
            assert time.monotonic() < until, f"{name} does not listen"
            time.sleep(0.02)  # a program of others tells nobody that it listens


def have_ended(processes: Iterable[psutil.Process], within_s: float) -> bool:
    """Whether all of them end within this time. One whose parent ended first may be a zombie for
    seconds, until the machine's first process reaps it; it has ended, too."""
    until = time.monotonic() + within_s
    alive = list(processes)
    while alive := [one for one in alive if _lives(one)]:
        if time.monotonic() >= until:
            return False
        time.sleep(0.01)  # nobody is told of the end of a process that is not its child
    return True


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

"""Log lines that cannot be written or made: nobody who logs is told, and they are counted."""

import fcntl
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lore.stderr import MAX_QUEUED_BYTES, Stderr

WAIT_S = 60.0
PIPE_BYTES = 1 << 16


class Place:
    """Where lines go, at first in vain."""

    def __init__(self, fd: int, mend: Callable[[], object], read: Callable[[], bytes]) -> None:
        self.fd = fd
        self.mend = mend
        self.read = read


def full_disk(folder: Path) -> Place:
    file = folder / "log"
    fd = os.open("/dev/full", os.O_WRONLY)
    other = os.open(file, os.O_WRONLY | os.O_CREAT)
    return Place(fd, lambda: os.dup2(other, fd), file.read_bytes)


def closed(folder: Path) -> Place:
    place = full_disk(folder)
    other = os.open(folder / "log", os.O_WRONLY | os.O_CREAT)
    os.close(place.fd)
    return Place(place.fd, lambda: os.dup2(other, place.fd), place.read)


def reader_gone(folder: Path) -> Place:
    place = full_disk(folder)
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, place.fd)
    os.close(writer)
    other = os.open(folder / "log", os.O_WRONLY | os.O_CREAT)
    return Place(place.fd, lambda: os.dup2(other, place.fd), place.read)


LOSING = (full_disk, closed, reader_gone)


@pytest.mark.parametrize("make", LOSING)
def test_what_cannot_be_written_is_counted_and_told_once_it_can(
    make: Callable[[Path], Place], tmp_path: Path
) -> None:
    place, lost = make(tmp_path), list[int]()
    stderr = Stderr(place.fd)
    stderr.on_lost = lost.append
    for number in range(3):
        stderr.write(f"line {number}\n")
    stderr.drain(WAIT_S)
    assert lost == [1, 1, 1]
    place.mend()
    stderr.write("line 3\n")
    stderr.drain(WAIT_S)
    assert place.read() == b"3 log lines lost\nline 3\n"
    assert sum(lost) == 3


def test_that_lines_are_missing_is_told_though_nothing_else_is_said(tmp_path: Path) -> None:
    place = full_disk(tmp_path)
    stderr = Stderr(place.fd)
    stderr.write("a line\n")
    stderr.drain(WAIT_S)
    place.mend()
    while not place.read():
        stderr.drain(WAIT_S)
    assert place.read() == b"1 log lines lost\n"


@pytest.mark.parametrize("blocking", [True, False])
def test_a_reader_that_sleeps_holds_nobody_up_and_finds_whole_lines(blocking: bool) -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    os.set_blocking(writer, blocking)
    stderr, lost = Stderr(writer), list[int]()
    stderr.on_lost = lost.append
    line = "x" * 9_999 + "\n"
    count = 3 * MAX_QUEUED_BYTES // len(line)
    for _ in range(count):
        stderr.write(line)
    assert 0 < sum(lost) < count
    seen = b""
    while seen.count(line.encode()) + _told_missing(seen) < count or not seen.endswith(b"\n"):
        seen += os.read(reader, PIPE_BYTES)
    assert _told_missing(seen) == sum(lost)
    others = {text for text in seen.splitlines(keepends=True) if b"lost" not in text}
    assert others == {line.encode()}


def _told_missing(seen: bytes) -> int:
    return sum(map(int, re.findall(rb"^(\d+) log lines lost$", seen, re.MULTILINE)))


def test_a_line_cut_by_a_full_disk_is_ended_before_the_next(tmp_path: Path) -> None:
    code = """
import resource, sys
from lore.stderr import Stderr
unlimited = resource.RLIM_INFINITY
resource.setrlimit(resource.RLIMIT_FSIZE, (5, unlimited))
stderr = Stderr()
stderr.write("a line\\n")
stderr.drain(60)
resource.setrlimit(resource.RLIMIT_FSIZE, (unlimited, unlimited))
stderr.write("another\\n")
stderr.drain(60)
"""
    with (tmp_path / "log").open("wb") as log:
        subprocess.run([sys.executable, "-c", code], stderr=log, check=True)
    said = (tmp_path / "log").read_text().splitlines()
    assert said == ["a lin", "1 log lines lost", "another"]


def test_without_a_thread_to_write_lines_are_lost_and_later_ones_are_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (tmp_path / "log").open("wb") as log:
        stderr = Stderr(log.fileno())
        with monkeypatch.context() as patch:
            patch.setattr("threading.Thread.start", _cannot_start)
            stderr.write("a line\n")
        stderr.write("another\n")
        stderr.drain(WAIT_S)
    assert (tmp_path / "log").read_text() == "1 log lines lost\nanother\n"


def _cannot_start(_: object) -> None:
    raise RuntimeError("can't start new thread")


def test_parts_of_a_line_that_two_threads_print_are_not_mixed(tmp_path: Path) -> None:
    import threading

    with (tmp_path / "log").open("wb") as log:
        stderr: Any = Stderr(log.fileno())
        begun = threading.Event()

        def say() -> None:
            print("b", end=" ", file=stderr)
            begun.set()
            print("b", file=stderr)

        print("a", end=" ", file=stderr)
        thread = threading.Thread(target=say)
        thread.start()
        thread.join()
        print("a", file=stderr)
        stderr.drain(WAIT_S)
    assert (tmp_path / "log").read_text() == "b b\na a\n"


# What each process says: code, and the events of the lines that come of it.

PREPARED = """
import logging, sys, structlog
from lore import stderr
from lore.logs import configure_logging
configure_logging("edge", "debug")
log, library = structlog.get_logger(), logging.getLogger("library")

class Bad:
    def __repr__(self): raise RuntimeError("secret")
    __str__ = __repr__

deep = []
for _ in range(100_000): deep = [deep]
round_ = {}
round_["round"] = round_
"""
COULD_NOT = "log line not made"
SAID: dict[str, tuple[str, list[str]]] = {
    "no repr": ("log.info('x', value=Bad())", [COULD_NOT]),
    "keys that are no text": ("log.warning('x', value={b'k': 1, (1,): 2})", [COULD_NOT]),
    "a circle": ("log.error('x', value=round_)", [COULD_NOT]),
    "too deep": ("log.debug('x', value=deep)", [COULD_NOT]),
    "a format that does not fit": ("log.info('x %d', 'secret')", [COULD_NOT]),
    "an event that is no text": ("log.info(Bad())", [COULD_NOT]),
    "a lone surrogate": ("log.info('x', value='\\udcff')", ["x"]),
    "an exception without words": (
        "try: raise ValueError(Bad())\nexcept ValueError: log.exception('x')",
        ["x"],
    ),
    "a library's format": ("library.warning('%d', 'secret')", [COULD_NOT]),
    "a library's message": ("library.error(Bad())", [COULD_NOT]),
    "a library's surrogate": ("library.error('\\udcff')", ["\udcff"]),
}


@pytest.mark.parametrize("name", SAID)
def test_what_cannot_be_made_into_a_line_is_told_without_its_values(name: str) -> None:
    code, events = SAID[name]
    log = _run(PREPARED + code + "\nlog.info('and on')")
    lines = [json.loads(line) for line in log.splitlines()]
    said = [line for line in lines if line["event"] != "log lines lost"]
    assert [line["event"] for line in said] == [*events, "and on"]
    assert {line["service"] for line in lines} == {"edge"}
    assert "secret" not in log


def _run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT_S, check=True
    )
    return done.stderr


def test_a_closed_stderr_is_no_place_for_what_is_opened_later(tmp_path: Path) -> None:
    """Else a log line would be written to a connection."""
    code = """
from lore import stderr
stream = stderr.stream()
file = open("file", "w")
stream.write("a line\\n")
stream.drain(60)
assert file.fileno() > 2
"""
    argv = ["sh", "-c", 'exec "$@" 0<&- 1>&- 2>&-', "sh", sys.executable, "-c", code]
    done = subprocess.run(argv, cwd=tmp_path, timeout=WAIT_S, check=False)
    assert done.returncode == 0
    assert (tmp_path / "file").read_bytes() == b""

"""``lore keys new``: an API key, shown once, and the line that a file keeps of it."""

import sys
from pathlib import Path

from lore import apikeys
from lore.cli.place import Problem


def new(subject: str, file: Path | None) -> None:
    """The key goes to the output; its line into ``file``, or beside it. Raises Problem."""
    if not apikeys.SUBJECT.fullmatch(subject):
        raise Problem(
            f"'{subject}' is no name: letters, digits and . _ @ + -, up to 64, the first of them "
            "a letter or a digit"
        )
    key = apikeys.new_key()
    line = f"{apikeys.digest(key)} {subject}"
    if file is None:
        print(
            "a line for LORE_API_KEYS_FILE, then the key, which is shown only now:", file=sys.stderr
        )
        print(line)
    else:
        _add(file, line)
        print(f"added to {file}; the key, which is shown only now:", file=sys.stderr)
    print(key)


def _add(file: Path, line: str) -> None:
    """At the end, in one write, so that an edge that reads meanwhile finds whole lines."""
    try:
        before = file.read_bytes() if file.exists() else b""
        apikeys.parse(before.decode("utf-8", "replace"))
        start = "\n" if before and not before.endswith(b"\n") else ""
        with file.open("ab", buffering=0) as to:
            to.write(f"{start}{line}\n".encode())
    except ValueError as error:
        raise Problem(f"{file} is no file of keys ({error})") from None
    except OSError as error:
        raise Problem(f"cannot write to {file} ({error.strerror})") from error

"""``lore keys``: makes, lists and revokes the API keys of a file, which contains only their
hashes.
"""

import os
import re
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from lore import apikeys
from lore.apikeys import KeyOwner
from lore_client.place import Problem

ID_CHARS = 8
"""How many hex digits of a digest make an id: enough to tell keys apart."""
_SPAN = re.compile(r"([1-9]\d{0,4})([dh])")
_SPAN_S = {"d": 86_400, "h": 3_600}


def new(subject: str, file: Path | None, expires: str | None) -> None:
    """Make a key and print it. Its line is added to ``file``, or printed too. Raises Problem."""
    if not apikeys.SUBJECT.fullmatch(subject):
        raise Problem(
            f"'{subject}' is not a valid name: up to 64 letters, digits and . _ @ + -, the first "
            "a letter or a digit"
        )
    until_s = None if expires is None else _until(expires, time.time())
    key = apikeys.new_key()
    line = apikeys.line(apikeys.digest(key), KeyOwner(subject, until_s))
    if file is None:
        print(
            "a line for LORE_API_KEYS_FILE, then the key, which is shown only now:", file=sys.stderr
        )
        print(line)
    else:
        _add(file, line)
        print(f"added to {file}; the key, which is shown only now:", file=sys.stderr)
    print(key)


def show(file: Path) -> None:
    """Print one line for each key, in the file's order. Raises Problem."""
    owners = _owners(_read(file), file)
    now_s = time.time()
    widest = max((len(owner.subject) for owner in owners.values()), default=0)
    for digest, owner in owners.items():
        print(f"{digest[:ID_CHARS]}  {owner.subject:{widest}}  {_validity(owner, now_s)}")


def revoke(name: str, file: Path, *, every: bool) -> None:
    """Remove the lines of a subject, or of a key's id, from the file. Raises Problem."""
    text = _read(file)
    gone = {
        digest: owner
        for digest, owner in _owners(text, file).items()
        if owner.subject == name or (len(name) >= ID_CHARS and digest.startswith(name))
    }
    if not gone:
        raise Problem(f"{file} has no key of '{name}' (lore keys list shows what it has)")
    if len(gone) > 1 and not every:
        ids = ", ".join(digest[:ID_CHARS] for digest in gone)
        raise Problem(f"{name} has {len(gone)} keys: name one of {ids}, or say --all")
    kept = [line for line in text.splitlines(keepends=True) if _digest_of(line) not in gone]
    _replace(file, "".join(kept))
    for digest, owner in gone.items():
        print(f"revoked {digest[:ID_CHARS]} of {owner.subject}")


def _until(text: str, now_s: float) -> float:
    """Parse when a key expires, as Unix time. Raises Problem."""
    if span := _SPAN.fullmatch(text):
        return now_s + int(span[1]) * _SPAN_S[span[2]]
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        raise Problem(
            f"--expires '{text}': say 90d, 12h, a date such as 2027-01-31, or a time such as "
            "2027-01-31T12:00:00Z"
        ) from None
    until_s = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    if until_s <= now_s:
        raise Problem(f"--expires '{text}' is in the past")
    return until_s


def _validity(owner: KeyOwner, now_s: float) -> str:
    if owner.until_s is None:
        return "does not expire"
    return f"{'until' if owner.is_valid(now_s) else 'expired'} {apikeys.time_text(owner.until_s)}"


def _digest_of(line: str) -> str:
    """The digest in a line; '' for a line without a key."""
    found = apikeys.parse_line(line)
    return found[0] if found else ""


def _read(file: Path) -> str:
    """Read the file. Raises Problem."""
    try:
        return file.read_text()
    except OSError as error:
        raise Problem(f"cannot read {file} ({error.strerror})") from error
    except UnicodeDecodeError:
        raise Problem(f"{file} is not a file of keys (it is not text)") from None


def _owners(text: str, file: Path) -> dict[str, KeyOwner]:
    """The owners in the file. Raises Problem."""
    try:
        return apikeys.parse(text)
    except ValueError as error:
        raise Problem(f"{file} is not a file of keys ({error})") from None


def _add(file: Path, line: str) -> None:
    """Append in one write, so that an edge that reads at the same time finds whole lines."""
    text = _read(file) if file.exists() else ""
    _owners(text, file)
    start = "\n" if text and not text.endswith("\n") else ""
    try:
        with file.open("ab", buffering=0) as to:
            to.write(f"{start}{line}\n".encode())
    except OSError as error:
        raise Problem(f"cannot write to {file} ({error.strerror})") from error


def _replace(file: Path, text: str) -> None:
    """Replace the file atomically, so that an edge always reads a whole one. Raises Problem."""
    file = file.resolve()
    try:
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as to:
            to.write(text)
        shutil.copymode(file, to.name)
        os.replace(to.name, file)  # noqa: PTH105
    except OSError as error:
        raise Problem(f"cannot write to {file} ({error.strerror})") from error

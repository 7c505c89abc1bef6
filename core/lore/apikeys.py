"""API keys: their format, and the hash that is stored.

A key has 256 random bits. Nobody can guess it, so its plain SHA-256 gives nothing away. Salt and
slow hashes are for passwords, which people choose. A file of keys has one a line: ``<sha256 hex>
<subject>``, then, when the key expires, the time in UTC. Comments begin with ``#``.
"""

import hashlib
import re
import secrets
from datetime import UTC, datetime
from typing import NamedTuple

PREFIX = "lore_"  # so that people, and scanners for leaked secrets, recognize a key
KEY = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}")
DIGEST = re.compile(r"[0-9a-f]{64}")
SUBJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
TIME = "%Y-%m-%dT%H:%M:%SZ"


class KeyOwner(NamedTuple):
    """The subject of a key, and when the key expires."""

    subject: str
    until_s: float | None = None
    """Unix time from which the key is invalid; None for a key that does not expire."""

    def is_valid(self, now_s: float) -> bool:
        return self.until_s is None or now_s < self.until_s


def new_key() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def digest(key: str) -> str:
    """The hash of a key, as a file keeps it."""
    return hashlib.sha256(key.encode()).hexdigest()


def line(key_digest: str, owner: KeyOwner) -> str:
    until = "" if owner.until_s is None else f" {time_text(owner.until_s)}"
    return f"{key_digest} {owner.subject}{until}"


def time_text(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime(TIME)


def parse_line(text: str) -> tuple[str, KeyOwner] | None:
    """A key's digest and its owner; None for a line without a key. Raises ValueError."""
    match text.partition("#")[0].split():
        case []:
            return None
        case [key_digest, subject] if _are_good(key_digest, subject):
            return key_digest, KeyOwner(subject)
        case [key_digest, subject, until] if _are_good(key_digest, subject):
            return key_digest, KeyOwner(subject, _time(until))
        case _:
            raise ValueError("not '<sha256 in hex> <subject>', optionally with a time")


def parse(text: str) -> dict[str, KeyOwner]:
    """Owners by the digests of their keys.

    Raises ValueError that names the line and never its content.
    """
    owners: dict[str, KeyOwner] = {}
    for number, each in enumerate(text.splitlines(), 1):
        try:
            found = parse_line(each)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        if found is None:
            continue
        if found[0] in owners:
            raise ValueError(f"line {number}: this key is on an earlier line, too")
        owners[found[0]] = found[1]
    return owners


def _are_good(key_digest: str, subject: str) -> bool:
    return bool(DIGEST.fullmatch(key_digest) and SUBJECT.fullmatch(subject))


def _time(text: str) -> float:
    try:
        return datetime.strptime(text, TIME).replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise ValueError("its third word is not a time such as 2027-01-31T00:00:00Z") from None

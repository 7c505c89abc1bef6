"""API keys: what one looks like, and what is kept of it.

A key has 256 random bits. Nobody guesses such a thing, so that its plain SHA-256 gives nothing
away; salt and slow hashes are for passwords, which people choose. A file of keys has one a
line, ``<sha256 hex> <subject>``, and comments after ``#``.
"""

import hashlib
import re
import secrets

PREFIX = "lore_"  # so that people, and scanners for leaked secrets, see what it is
KEY = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}")
DIGEST = re.compile(r"[0-9a-f]{64}")
SUBJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")


def new_key() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def digest(key: str) -> str:
    """What a file keeps of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def parse(text: str) -> dict[str, str]:
    """Subjects by the digests of their keys.

    Raises ValueError that names the line and never its content.
    """
    subjects: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2 or not DIGEST.fullmatch(words[0]) or not SUBJECT.fullmatch(words[1]):
            raise ValueError(f"line {number}: not '<sha256 in hex> <subject>'")
        if words[0] in subjects:
            raise ValueError(f"line {number}: this key is there before")
        subjects[words[0]] = words[1]
    return subjects

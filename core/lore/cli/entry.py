"""Authentication of a ``lore up``: the keys and the secret that its edges get."""

import os
import secrets
from ipaddress import ip_address
from pathlib import Path

from lore.cli.place import Place
from lore_client.place import Problem


def settings(host: str, api_keys: Path | None, *, no_auth: bool, place: Place) -> dict[str, str]:
    """The edges' settings. Everyone is let in if only this machine can connect, or with
    ``no_auth``.

    Raises Problem when others can connect and authentication is not configured.
    """
    if no_auth or os.environ.get("LORE_AUTH") == "off":
        return _for_everyone(host)
    if api_keys is None and "LORE_JWT_ISSUER" not in os.environ:
        if _is_loopback(host) and "LORE_AUTH" not in os.environ:
            return _for_everyone(host)
        raise Problem(
            f"others can reach {host}: configure authentication with --api-keys FILE (lore keys "
            "new NAME makes a key), or let everyone in with --no-auth"
        )
    chosen = {"LORE_AUTH": "required"}
    if api_keys is not None:
        chosen["LORE_API_KEYS_FILE"] = str(api_keys.expanduser().absolute())
    if "LORE_SECRET" not in os.environ:
        chosen["LORE_SECRET"] = _own_secret(place.path / "secret")
    return chosen


def _for_everyone(host: str) -> dict[str, str]:
    """Let everyone in. On this machine alone, pages of other hosts that its browsers show are kept
    out.
    """
    chosen = {"LORE_AUTH": "off"}
    if _is_loopback(host) and "LORE_ALLOWED_HOSTS" not in os.environ:
        chosen["LORE_ALLOWED_HOSTS"] = "localhost"
    return chosen


def _own_secret(path: Path) -> str:
    """The secret, kept so that a retry after a restart still joins its request."""
    if path.exists():
        return path.read_text()
    secret = secrets.token_hex(32)
    with open(path, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(secret)
    return secret


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False

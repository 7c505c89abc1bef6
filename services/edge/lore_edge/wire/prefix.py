"""The path below which a proxy serves this Lore.

The prefix decides only what links begin with. Access is decided by the path without it.
"""

from ipaddress import ip_address

from lore_edge.settings import PATH, EdgeSettings
from lore_edge.wire.asgi import Scope, header

MAX_PREFIX_CHARS = 256


def prefix_of(scope: Scope, settings: EdgeSettings) -> str:
    """The prefix of links in this answer, '' at the root.

    Of several values, the last ``X-Forwarded-Prefix`` of a trusted proxy counts, because anyone may
    write those before it. A value that is not a plain path is ignored.
    """
    if not settings.trusted_proxies:
        return settings.root_path
    told = header(scope, b"x-forwarded-prefix").rpartition(",")[2].strip()
    if not told or not _comes_from_a_proxy(scope, settings):
        return settings.root_path
    if told == "/":
        return ""
    path = told.removesuffix("/")
    is_plain = len(path) <= MAX_PREFIX_CHARS and PATH.fullmatch(path)
    return path if is_plain else settings.root_path


def without_root(path: str, settings: EdgeSettings) -> str:
    """The path of a call without LORE_ROOT_PATH, which some proxies remove and some do not."""
    root = settings.root_path
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


def _comes_from_a_proxy(scope: Scope, settings: EdgeSettings) -> bool:
    client = scope.get("client")
    if not client:
        return False
    try:
        address = ip_address(client[0])
    except ValueError:
        return False
    return any(address in network for network in settings.trusted_proxies)

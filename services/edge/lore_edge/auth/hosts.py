"""The hosts that an edge serves (``LORE_ALLOWED_HOSTS``).

Where everyone is let in, a page from anywhere could have its own name resolve to the machine that
it is read on (DNS rebinding), and a browser would take the edge there for the page's own server.
"""

import re
from collections.abc import Collection
from ipaddress import ip_address

from lore_edge.errors import ApiError

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:@/,\s]+))(?::[0-9]*)?")


def check(host: str, names: Collection[str]) -> None:
    """Raises ApiError 403 for a ``Host`` that is none of these names, nor an address: an address
    cannot be made to mean another machine."""
    match = _HOST.fullmatch(host)
    name = (match[1] or match[2]).lower() if match else ""
    if name not in names and not _is_address(name):
        message = "this edge does not answer to that host; LORE_ALLOWED_HOSTS can name it"
        raise ApiError(403, "host_not_allowed", message)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True

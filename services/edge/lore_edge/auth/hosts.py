"""The hosts that an edge serves (``LORE_ALLOWED_HOSTS``, A10).

Where everyone is let in, any page could let its own name resolve to the machine on which it is read
(DNS rebinding). The browser would then take the edge there for the page's own server.
"""

import re
from collections.abc import Collection
from ipaddress import ip_address

from lore_edge.wire.errors import ApiError

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:@/,\s]+))(?::[0-9]*)?")


def check(host: str, names: Collection[str]) -> None:
    """Raises ApiError 403 if ``Host`` is neither one of these names nor an IP address. An address
    cannot be made to mean another machine.
    """
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

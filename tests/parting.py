"""Part one server of a cluster from the others, and from nobody else.

Servers speak with each other from addresses of 127.1.0.0/16, clients from 127.0.0.1, so that the
kernel's packet filter can tell them apart.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

OTHERS = "127.1.0.0/16"
NEEDS = "needs root and iptables"


def source_of(port: int) -> str:
    """The address from which the server at a port speaks with the others."""
    return f"127.1.{port >> 8}.{port & 255}"


@cache
def can_part() -> bool:
    if os.geteuid() or shutil.which("iptables") is None:
        return False
    return _iptables("-n", "-L", "INPUT", check=False) == 0


@contextmanager
def parted(port: int, bus: int) -> Iterator[None]:
    """What the others send it is dropped, and what it sends them; clients notice nothing."""
    chain = f"LORE-{port}"
    _iptables("-N", chain)
    try:
        for way, other_way in (("s", "d"), ("d", "s")):
            _iptables("-A", chain, "-p", "tcp", f"--{way}port", str(bus), "-j", "DROP")
            _iptables("-A", chain, f"-{way}", source_of(port), "-j", "DROP")
            others = ("-p", "tcp", f"-{way}", OTHERS, f"--{other_way}port", str(port))
            _iptables("-A", chain, *others, "-j", "DROP")
        _iptables("-I", "INPUT", "-j", chain)
        try:
            yield
        finally:
            _iptables("-D", "INPUT", "-j", chain)
    finally:
        _iptables("-F", chain)
        _iptables("-X", chain)


def _iptables(*words: str, check: bool = True) -> int:
    command = ["iptables", "-w", *words]
    return subprocess.run(command, check=check, capture_output=True).returncode

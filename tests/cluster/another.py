"""Further releases, for what would not leave the first one complete."""

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from tests.cluster.kube import Namespace, Object
from tests.cluster.release import VALUES, Release
from tests.cluster.volumes import volume


@contextmanager
def another(
    name: str,
    nodes: list[Object],
    values: dict[str, Any] = VALUES,
    *,
    with_volume: bool = True,
) -> Iterator[Release]:
    """A release that is not installed yet. The StreamPolicy's definition is the first one's."""
    release = Release(name, f"lore-test-{secrets.token_hex(3)}", brings_kind=False, values=values)
    with ExitStack() as stack:
        if with_volume:
            classes = Namespace("default").get("storageclasses")["items"]
            stack.enter_context(volume(release.namespace.name, classes, nodes))
        try:
            yield release
        finally:
            release.uninstall()
            release.namespace.delete()


def has_image(nodes: list[Object], wanted: str) -> bool:
    there = [name for node in nodes for one in node["status"]["images"] for name in one["names"]]
    return any(f"/{name}".endswith(f"/{wanted}") for name in there)

"""The last of the cluster's tests, by its name: it takes the release away from the others."""

import asyncio

from tests.cluster.kube import names, until
from tests.cluster.release import Release


async def test_uninstalling_leaves_nothing_but_the_policy(release: Release) -> None:
    """It lasts as long as its definition, which other releases may use (``crds.keep``)."""
    await asyncio.to_thread(release.uninstall)
    policy = [f"StreamPolicy/{release.name}"]
    await until(lambda: names(release.left()) == policy, "the end of every other object")

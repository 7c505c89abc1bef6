"""The last of the cluster's tests, by its name: it takes the release away from the others."""

import asyncio
import json
import secrets

from tests.cluster.kube import Object, kubectl, names, until
from tests.cluster.release import Release


async def test_uninstalling_leaves_nothing_but_the_policy(release: Release) -> None:
    """It lasts as long as its definition, which other releases may use (``crds.keep``)."""
    await asyncio.to_thread(release.uninstall)
    policy = [f"StreamPolicy/{release.name}"]
    await until(lambda: names(release.left()) == policy, "the end of every other object")


async def test_a_definition_that_another_release_brought_serves_a_second_one(
    release: Release,
) -> None:
    """Which it kept when it was uninstalled, and which the second one does not take over."""

    def definition() -> Object:
        return json.loads(kubectl("get", "crd", "streampolicies.lore.dev", "-o", "json"))

    owned = definition()["metadata"]
    second = Release("second", f"lore-test-{secrets.token_hex(3)}")
    without_volume = {"bundled": {"persistence": {"enabled": False}}}
    try:
        await asyncio.to_thread(second.install, valkey=without_volume)
        assert second.namespace.get("streampolicies")["items"][0]["spec"]
        await asyncio.to_thread(second.uninstall)
        after = definition()["metadata"]
        assert (after["uid"], after["annotations"]) == (owned["uid"], owned["annotations"])
    finally:
        await asyncio.to_thread(second.uninstall)
        second.namespace.delete()

"""What Valkey goes through under readers: replaced by a newer version, and by one that is not the
chart's."""

import asyncio
from typing import Any

import pytest
from helm_python.errors import HelmError

from tests.cluster.another import another, has_image
from tests.cluster.kube import Object
from tests.cluster.load import Load
from tests.cluster.outside import NAME, Outside
from tests.cluster.release import VALUES, Release, merged

NEWER = "9.1-alpine"
LEASES: dict[str, Any] = {"generator": {"settings": {"leaseS": 10}}}


def version(release: Release) -> str:
    (pod,) = release.pods("valkey")
    told = release.namespace("exec", pod["metadata"]["name"], "--", "valkey-cli", "INFO", "server")
    (line,) = [one for one in told.splitlines() if one.startswith("valkey_version:")]
    return line.partition(":")[2]


@pytest.mark.usefixtures("release")
async def test_a_newer_valkey_under_readers_costs_none_a_character(nodes: list[Object]) -> None:
    """P1, P2, P3. The newer one reads what the older one wrote."""
    if not has_image(nodes, f"valkey/valkey:{NEWER}"):
        pytest.skip(f"no node has the image valkey/valkey:{NEWER}")
    with another("lore-newer", nodes, merged(VALUES, LEASES)) as release:
        await asyncio.to_thread(release.install)
        before = version(release)
        async with Load(release) as load:
            bundled = {"image": {"tag": NEWER}}
            await asyncio.to_thread(release.upgrade, valkey={"bundled": bundled})
        after = version(release)
        load.report(f"Valkey from {before} to {after}")
        assert load.violations == []
        assert after.startswith("9.1")


@pytest.mark.usefixtures("release")
async def test_the_bundled_valkey_is_left_for_another_under_readers(nodes: list[Object]) -> None:
    """P1, P2, P3, as docs/operations.md says it."""
    theirs = {"bundled": {"enabled": False}, "external": {"existingSecret": NAME}}
    with another("lore-moves", nodes, merged(VALUES, LEASES)) as release:
        await asyncio.to_thread(release.install)
        outside = Outside(release)
        await asyncio.to_thread(outside.start)
        async with Load(release) as load:
            await asyncio.to_thread(outside.follow)
            await asyncio.to_thread(outside.take_over)
            switched_s = load.pause_s
            await asyncio.to_thread(release.upgrade, valkey=theirs)
        load.report(f"from the bundled Valkey to another (the switch alone {switched_s:.1f} s)")
        assert load.violations == []
        assert release.pods("valkey") == []


@pytest.mark.usefixtures("release")
async def test_the_volume_is_given_up_under_readers(nodes: list[Object]) -> None:
    """P1, P2, P3, as docs/operations.md says it: a store that loses its data, on purpose. The chart
    refuses the value before, as Kubernetes would."""
    without: dict[str, Any] = {"bundled": {"persistence": {"enabled": False}}}
    with another("lore-light", nodes, merged(VALUES, LEASES)) as release:
        await asyncio.to_thread(release.install)
        with pytest.raises(HelmError, match=r"persistence\.enabled is false, and .* with a volume"):
            await asyncio.to_thread(release.upgrade, valkey=without)
        store = release.component("valkey")
        async with Load(release) as load:
            await asyncio.to_thread(release.namespace, "delete", "statefulset", store)
            claim = f"data-{store}-0"
            await asyncio.to_thread(release.namespace, "delete", "pvc", claim, "--ignore-not-found")
            await asyncio.to_thread(release.upgrade, valkey=without)
        load.report("Valkey without its volume from now on")
        assert load.violations == []
        (pod,) = release.pods("valkey")
        assert not any("persistentVolumeClaim" in one for one in pod["spec"]["volumes"])

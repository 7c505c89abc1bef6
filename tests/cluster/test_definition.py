"""A newer chart whose definition of the StreamPolicy differs, and the way back, under readers."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.rendering import CHART
from tests.cluster.kube import Object, kubectl
from tests.cluster.load import Load
from tests.cluster.release import Release

FIELD = "remark"
KINDS = ("edge", "generator", "operator")


def newer_chart(folder: Path) -> Path:
    """With a field more in the policy's definition, which has a default."""
    chart = folder / "lore"
    shutil.copytree(CHART, chart)
    file = chart / "files/streampolicy-crd.yaml"
    definition = yaml.safe_load(file.read_text())
    (served,) = definition["spec"]["versions"]
    spec = served["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"][FIELD] = {"type": "string", "default": "none", "description": "A test's"}
    file.write_text(yaml.safe_dump(definition))
    about = yaml.safe_load((chart / "Chart.yaml").read_text())
    (chart / "Chart.yaml").write_text(yaml.safe_dump(about | {"version": "99.0.0"}))
    return chart


def definition() -> Object:
    return json.loads(kubectl("get", "crd", "streampolicies.lore.dev", "-o", "json"))


def knows_the_field() -> bool:
    (served,) = definition()["spec"]["versions"]
    return FIELD in served["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]


def policy(release: Release) -> Object:
    (found,) = release.namespace.get("streampolicies")["items"]
    return found


def is_ready(policy: Object) -> bool:
    told = {one["type"]: one["status"] for one in policy["status"]["conditions"]}
    return told["Ready"] == "True"


async def test_an_upgrade_with_another_definition_and_the_way_back_cost_no_reader_a_character(
    release: Release, tmp_path: Path
) -> None:
    """P1, P2. Old and new pods serve side by side; the policy is the same one throughout."""
    if not release.brings_kind:
        pytest.skip("the definition is another release's")
    note = {"podAnnotations": {"example.org/chart": "newer"}}
    values: dict[str, Any] = dict.fromkeys(KINDS, note)
    older, before = release.chart, policy(release)
    async with Load(release) as load:
        release.chart = newer_chart(tmp_path)
        try:
            await asyncio.to_thread(release.upgrade, **values)
            newer = policy(release)
            assert knows_the_field()
        finally:
            release.chart = older
        await asyncio.to_thread(release.upgrade)
        after = policy(release)
    load.report("another definition, and back")
    assert load.violations == []
    assert not knows_the_field()
    assert [one["metadata"]["uid"] for one in (newer, after)] == [before["metadata"]["uid"]] * 2
    assert newer["spec"] == before["spec"] | {FIELD: "none"}
    assert is_ready(newer)
    assert is_ready(after)

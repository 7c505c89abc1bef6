"""The operator's Role on a real API server: without any one verb of it the operator says which."""

import asyncio
import copy
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from lore_operator.rbac import NEEDS, Need
from tests.cluster.kube import Object, until
from tests.cluster.release import Release


class Role:
    def __init__(self, release: Release) -> None:
        self._release = release
        self._namespace = release.namespace
        self._name = release.component("operator")
        self._whole: list[Object] = self._namespace.get("role", self._name)["rules"]

    def deny(self, need: Need) -> None:
        rules = copy.deepcopy(self._whole)
        for rule in rules:
            if rule["resources"] == [need.resource]:
                rule["verbs"].remove(need.verb)
        self._write([rule for rule in rules if rule["verbs"]])

    def grant_all(self) -> None:
        self._write(self._whole)

    def _write(self, rules: list[Object]) -> None:
        patch = json.dumps({"rules": rules})
        self._namespace("patch", "role", self._name, "--type=merge", "-p", patch)

    # what the operator makes of it

    def log(self) -> list[dict[str, Any]]:
        workload = self._release.workload("operator")
        return [json.loads(line) for line in self._namespace("logs", workload).splitlines()]

    def is_told(self, need: Need) -> bool:
        """In its log, by its readiness, and in the policy's status unless that may not be written
        or the policy not be read."""
        (policy,) = self._namespace.get("streampolicies")["items"]
        told = {one["type"]: one for one in policy["status"]["conditions"]}["Permitted"]
        silent = need.resource == "streampolicies/status" or need.verb == "get"
        words = f"RBAC denies the operator: {need}"
        return (
            any(
                "RBAC denies" in line["event"]
                and (line["verb"], line["resource"]) == (need.verb, need.resource)
                for line in self.log()
            )
            and not self._release.ready("operator")
            and (silent or (told["status"], told["message"]) == ("False", words))
        )

    def is_whole(self) -> bool:
        return len(self._release.ready("operator")) == 1


@pytest.fixture
async def role(release: Release) -> AsyncIterator[Role]:
    role = Role(release)
    yield role
    await asyncio.to_thread(role.grant_all)
    await until(role.is_whole, "an operator that may do all that it needs")


async def test_each_verb_that_rbac_denies_is_told_by_name_until_it_is_granted(
    role: Role, release: Release
) -> None:
    await asyncio.to_thread(role.deny, NEEDS[0])
    (pod,) = release.pods("operator")
    release.namespace("delete", "pod", pod["metadata"]["name"])
    for need in NEEDS:
        await asyncio.to_thread(role.deny, need)
        await until(lambda need=need: role.is_told(need), f"word of {need}, which is denied", 60)
        print(f"without {need}: told")
    assert {(need.verb, need.resource) for need in NEEDS} == {
        (line["verb"], line["resource"]) for line in role.log() if "RBAC denies" in line["event"]
    }

"""One release for all tests, in a namespace that is deleted after them."""

import os
import secrets
import shutil
from collections.abc import Iterator

import pytest

from tests.chart.rendering import containers, pods, render
from tests.cluster.killer import start_killer
from tests.cluster.kube import Failed, Namespace, Object, kubectl
from tests.cluster.release import VALUES, Release
from tests.cluster.volumes import volume

CRD = "streampolicies.lore.dev"


@pytest.fixture(scope="session")
def nodes() -> list[Object]:
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG is not set")
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    try:
        nodes = Namespace("default").get("nodes")["items"]
    except Failed as error:
        pytest.skip(f"the cluster does not answer: {error}")
    images = [one for node in nodes for one in node["status"]["images"]]
    there = [name for one in images for name in one["names"] or ()]
    wanted = {one["image"] for _, pod in pods(render(VALUES)) for one in containers(pod)}
    missing = [name for name in wanted if not any(f"/{one}".endswith(f"/{name}") for one in there)]
    if missing:
        pytest.skip(f"no node has the images {', '.join(sorted(missing))}")
    return nodes


@pytest.fixture(scope="session")
def release(nodes: list[Object]) -> Iterator[Release]:
    """Installed as the tests need it. The first of them sees what that comes to."""
    had_kind = CRD in kubectl("get", "crds", "-o", "name")
    release = Release("lore", f"lore-test-{secrets.token_hex(3)}", brings_kind=not had_kind)
    classes = Namespace("default").get("storageclasses")["items"]
    with volume(release.namespace.name, classes, nodes):
        try:
            release.install()
            image = release.pods("edge")[0]["spec"]["containers"][0]["image"]
            start_killer(release.namespace, image)
            yield release
        finally:
            release.uninstall()
            release.namespace.delete()
            if not had_kind:
                kubectl("delete", "crd", CRD, "--ignore-not-found")

"""A volume for Valkey on a cluster that provisions none: a folder of the only node."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.kube import Failed, Object, apply, kubectl

DEFAULT = "storageclass.kubernetes.io/is-default-class"


@contextmanager
def volume(name: str, classes: list[Object], nodes: list[Object]) -> Iterator[None]:
    """Does nothing where there is a default storage class. Raises Failed on several nodes."""
    if any(one["metadata"].get("annotations", {}).get(DEFAULT) == "true" for one in classes):
        yield
        return
    if len(nodes) > 1:
        raise Failed("the cluster has no default storage class, and several nodes")
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    hostname = nodes[0]["metadata"]["labels"]["kubernetes.io/hostname"]
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [hostname]}
    apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain",
                "local": {"path": str(folder)},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
            },
        }
    )
    try:
        yield
    finally:
        kubectl("delete", "persistentvolume", name, "--wait=false")
        shutil.rmtree(folder, ignore_errors=True)

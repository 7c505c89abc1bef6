"""A store of the user's own: what the chart tells the components, read as they read it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lore.store import StoreUnavailable, ValkeyStore
from lore.store.valkey.client.location import Location
from tests.chart.matrix import MATRIX
from tests.chart.rendering import ROOT, Object, containers, one_of, render
from tests.valkeys import Daemon, Tls

COMPONENTS = ("edge", "generator", "operator")
MOUNTED = "/etc/lore/valkey-tls"
SAMPLES = sorted((ROOT / "k8s/samples").glob("values-[sc]*.yaml"))


@pytest.fixture(scope="module")
def tls() -> Iterator[Tls]:
    with Daemon(save="") as server:
        assert server.port is not None
        with Tls(server.port) as tls:
            yield tls


def secret_of(tls: Tls) -> dict[str, bytes]:
    """As cert-manager fills one."""
    files = {"ca.crt": "ca.crt", "tls.crt": "client.crt", "tls.key": "client.key"}
    return {key: (tls.folder / name).read_bytes() for key, name in files.items()}


def mount(pod: Object, secret: dict[str, bytes], folder: Path) -> None:
    """Writes the files that the pod has at ``MOUNTED``."""
    names = {one["mountPath"]: one["name"] for one in containers(pod)[0]["volumeMounts"]}
    if MOUNTED in names:
        (volume,) = [one for one in pod["spec"]["volumes"] if one["name"] == names[MOUNTED]]
        for item in volume["secret"]["items"]:
            (folder / item["path"]).write_bytes(secret[item["key"]])


def pod_of(objects: list[Object], component: str) -> Object:
    return one_of(objects, "Deployment", component)["spec"]["template"]


def url_of(pod: Object, folder: Path) -> str:
    env = {one["name"]: one for one in containers(pod)[0]["env"]}
    return env["LORE_VALKEY_URL"]["value"].replace(MOUNTED, str(folder))


def own(url: str, **external: Any) -> dict[str, Any]:
    return {"valkey": {"bundled": {"enabled": False}, "external": {"url": url, **external}}}


@pytest.mark.parametrize("component", COMPONENTS)
async def test_a_component_reaches_a_store_that_wants_a_certificate(
    component: str, tls: Tls, tmp_path: Path
) -> None:
    files = {"existingSecret": "mine", "clientCertificate": True}
    values = own(f"valkeys://127.0.0.1:{tls.port}", tls=files, ports=[tls.port])
    pod = pod_of(render(values), component)
    mount(pod, secret_of(tls), tmp_path)
    store = ValkeyStore(url_of(pod, tmp_path))
    await store.connect()
    await store.close()


async def test_no_certificate_is_shown_unless_it_is_said(tls: Tls, tmp_path: Path) -> None:
    """And then a Secret with an authority alone is enough."""
    values = own(f"valkeys://127.0.0.1:{tls.port}", tls={"existingSecret": "ca"}, ports=[tls.port])
    pod = pod_of(render(values), "edge")
    mount(pod, {"ca.crt": secret_of(tls)["ca.crt"]}, tmp_path)
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        await ValkeyStore(url_of(pod, tmp_path)).connect()


@pytest.mark.parametrize(
    ("url", "ports", "whole"),
    [
        ("valkey://a", [6379], "valkey://a"),
        ("valkey://[::1]:7000/3", [7000], "valkey://[::1]:7000/3"),
        ("valkeys://a", [6379], f"valkeys://a?ssl_ca_certs={MOUNTED}/ca.crt"),
        (
            "valkeys+sentinel://me@a:1,b/mine?ssl_check_hostname=no",
            [1, 26379, 6379],
            f"valkeys+sentinel://me@a:1,b/mine?ssl_check_hostname=no&ssl_ca_certs={MOUNTED}/ca.crt",
        ),
        ("valkey+sentinel://a,b/mine", [26379, 6379], "valkey+sentinel://a,b/mine"),
        (
            "valkeys+cluster://a,b/0",
            [6379],
            f"valkeys+cluster://a,b/0?ssl_ca_certs={MOUNTED}/ca.crt",
        ),
        ("valkey+cluster://a:7000,b:7001", [7000, 7001], "valkey+cluster://a:7000,b:7001"),
    ],
)
def test_every_kind_of_url_is_passed_on_as_it_is_read(
    url: str, ports: list[int], whole: str, tls: Tls, tmp_path: Path
) -> None:
    files = {"existingSecret": "ca"} if url.startswith("valkeys") else {}
    objects = render(own(url, ports=ports, tls=files))
    for component in COMPONENTS:
        pod = pod_of(objects, component)
        mount(pod, secret_of(tls), tmp_path)
        told = url_of(pod, tmp_path)
        assert told == whole.replace(MOUNTED, str(tmp_path))
        assert Location(told).addresses == Location(url).addresses
        egress = one_of(objects, "NetworkPolicy", component)["spec"]["egress"]
        assert {"ports": [{"port": port} for port in ports]} in egress


def test_the_store_s_rule_names_where_it_is() -> None:
    policy = one_of(render(MATRIX["external Valkey"]), "NetworkPolicy", "edge")
    expected = {"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": 6380}]}
    assert expected in policy["spec"]["egress"]


def test_there_are_samples_of_both() -> None:
    assert [path.stem for path in SAMPLES] == ["values-cluster", "values-sentinel"]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_s_url_is_read_and_names_files_that_its_values_mount(
    sample: Path, tls: Tls, tmp_path: Path
) -> None:
    text = sample.read_text()
    (url,) = re.findall(r"^#   (valkeys\S+)$", text, re.MULTILINE)
    objects = render(yaml.safe_load(text))
    for component in COMPONENTS:
        pod = pod_of(objects, component)
        for file in tmp_path.iterdir():
            file.unlink()
        mount(pod, secret_of(tls), tmp_path)
        assert len(list(tmp_path.iterdir())) == url.count(MOUNTED)
        location = Location(url.replace(MOUNTED, str(tmp_path)))
        assert location.way == sample.stem.removeprefix("values-")
        egress = one_of(objects, "NetworkPolicy", component)["spec"]["egress"]
        open_ports = {port["port"] for rule in egress for port in rule["ports"]}
        assert {address.port for address in location.addresses} <= open_ports

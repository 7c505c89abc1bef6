"""The chart as one file, its page, and an install from that file alone."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from helm_python.chart import Chart

from tests.chart.kinds import mistakes
from tests.chart.matrix import MATRIX
from tests.chart.rendering import CHART, NAMESPACE, ROOT, chart, load_all

REPOSITORY = "https://git.example.org/lore"


def packing() -> ModuleType:
    spec = importlib.util.spec_from_file_location("package", CHART / "package.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Chart:
    file = packing().write(tmp_path_factory.mktemp("dist"), REPOSITORY)
    assert file.name == f"lore-{chart().metadata['version']}.tgz"
    return Chart.load_archive(file.read_bytes())


@pytest.mark.parametrize("name", ["everything on", "GPU", "sentinels, TLS both ways"])
def test_the_package_alone_installs_what_the_folder_does(packed: Chart, name: str) -> None:
    values = MATRIX[name] | {"secrets": {"existing": "mine"}}
    one, other = (
        each.render(values, name="lore", namespace=NAMESPACE, is_install=True)
        for each in (packed, chart())
    )
    assert one == other
    objects = [
        found for path, text in one.items() if path.endswith(".yaml") for found in load_all(text)
    ]
    assert len(objects) > 15
    assert [mistakes(found) for found in objects if mistakes(found)] == []


def test_the_package_has_no_more_than_an_install_needs(packed: Chart) -> None:
    names = {one["name"] for one in packed.files}
    assert {"README.md", "files/streampolicy-crd.yaml"} <= names
    assert not [name for name in names if name.endswith(".py") and not name.startswith("files/")]


def test_the_page_leads_to_where_it_is_published(packed: Chart) -> None:
    page = packed.metadata
    assert (page["home"], page["sources"]) == (REPOSITORY, [REPOSITORY])
    assert page["icon"].startswith(REPOSITORY)
    (readme,) = [one["data"] for one in packed.files if one["name"] == "README.md"]
    text = readme if isinstance(readme, str) else bytes(readme).decode()
    assert "](../" not in text
    linked = set(re.findall(rf"\]\({re.escape(REPOSITORY)}/blob/main/([^)#]+)", text))
    assert linked
    assert [path for path in linked if not (ROOT / path).exists()] == []


def test_without_a_repository_nothing_is_invented(tmp_path: Path) -> None:
    page = Chart.load(packing().write(tmp_path)).metadata
    assert not page.get("home")
    assert not page.get("sources")


def test_the_page_is_complete() -> None:
    page: dict[str, Any] = chart().metadata
    for field in ("description", "kubeVersion", "keywords", "maintainers", "icon", "appVersion"):
        assert page[field], field


def test_what_the_page_says_of_the_definition_is_so() -> None:
    told = chart().metadata["annotations"]
    definition = yaml.safe_load((CHART / "files/streampolicy-crd.yaml").read_text())
    (crd,) = yaml.safe_load(told["artifacthub.io/crds"])
    assert crd["name"] == definition["metadata"]["name"]
    assert crd["kind"] == definition["spec"]["names"]["kind"]
    assert crd["version"] == definition["spec"]["versions"][0]["name"]
    for example in yaml.safe_load(told["artifacthub.io/crdsExamples"]):
        assert mistakes(example) == []
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert told["artifacthub.io/license"] == "Apache-2.0"

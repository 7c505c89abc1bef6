"""``make monitor``: the local stack, a real Prometheus that reaches all of it, and a Grafana."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from dashboards import prometheus
from dashboards.__main__ import FOLDER
from dashboards.monitor import main
from dashboards.prometheus import NoProgram, program
from dashboards.rules import groups

START_S = 90.0
STOP_S = 60.0
GRAFANA = """\
#!{python}
import http.server, os, pathlib, sys
pathlib.Path({folder!r}, "words").write_text(" ".join(sys.argv[1:]))
pathlib.Path({folder!r}, "provisioning").write_text(os.environ["GF_PATHS_PROVISIONING"])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
address = (os.environ["GF_SERVER_HTTP_ADDR"], int(os.environ["GF_SERVER_HTTP_PORT"]))
http.server.HTTPServer(address, Handler).serve_forever()
"""


@pytest.fixture
def grafana(tmp_path: Path) -> Path:
    """A folder with a program of that name, which keeps what it is told."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "grafana"
    script.write_text(GRAFANA.format(python=sys.executable, folder=str(folder)))
    script.chmod(0o755)
    return folder


@pytest.fixture
async def monitor(tmp_path: Path, grafana: Path) -> AsyncIterator[dict[str, str]]:
    """What it prints, by its first word."""
    try:
        program("prometheus")
    except NoProgram as error:
        pytest.skip(str(error))
    words = ["--engine", "synthetic", "--port", "0", "--data-dir", str(tmp_path / "data")]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dashboards.monitor", *words),
        env={**os.environ, "PATH": f"{grafana}:{os.environ['PATH']}"},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    said: dict[str, str] = {}
    try:
        async with asyncio.timeout(START_S):
            while "Grafana" not in said:
                line = (await process.stdout.readline()).decode()
                assert line, f"it ended: {said}"
                name, _, rest = line.strip().partition(" ")
                said[name] = rest.strip()
        yield said
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(STOP_S):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_everything_is_scraped_drawn_and_provisioned(
    monitor: dict[str, str], grafana: Path
) -> None:
    async with httpx.AsyncClient(timeout=10, trust_env=False) as http:

        async def get(url: str) -> Any:
            return (await http.get(url)).raise_for_status().json()

        api = f"{monitor['Queries']}/api/v1"
        health: dict[str, str] = {}
        async with asyncio.timeout(START_S):
            while set(health.values()) != {"up"}:
                targets = (await get(f"{api}/targets"))["data"]["activeTargets"]
                health = {one["labels"]["pod"]: one["health"] for one in targets}
                await asyncio.sleep(0.2)
        assert set(health) == {"lore-edge-1", "lore-edge-2", "lore-generator-1"}
        rules = (await get(f"{api}/rules"))["data"]["groups"]
        assert {one["name"] for one in rules} == {one["name"] for one in groups(operator=False)}
        figures = (await get(f"{monitor['Status']}/figures"))["figures"]
        (held,) = [one for one in figures if one["title"] == "Streams and requests"]
        states = {"connected", "decoding", "parked", "paced"}
        assert {line["name"] for line in held["lines"]} == states
    folder = Path((grafana / "provisioning").read_text())
    assert (grafana / "words").read_text().startswith("server")
    (source,) = _read(folder / "datasources/lore.yaml")["datasources"]
    assert source["url"] == monitor["Queries"]
    (provider,) = _read(folder / "dashboards/lore.yaml")["providers"]
    assert provider["options"]["path"] == str(FOLDER)


def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def test_without_a_prometheus_it_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(prometheus, "_HERE", str(tmp_path))
    with pytest.raises(SystemExit, match="there is no prometheus here: install it"):
        main()

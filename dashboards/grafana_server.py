"""A local Grafana with the dashboards, if Grafana is installed."""

import shutil
from pathlib import Path
from typing import Any

import httpx
import yaml

from dashboards.__main__ import FOLDER
from lore.cli.child import Child
from lore.cli.fleet import free_ports

HOMES = ("/usr/share/grafana", "/usr/local/share/grafana", "/opt/homebrew/share/grafana")


def command() -> list[str] | None:
    """The command that starts Grafana; None if it is not installed."""
    if (found := shutil.which("grafana")) is not None:
        return [found, "server"]
    if (found := shutil.which("grafana-server")) is not None:
        return [found]
    return None


class Grafana(Child):
    """``folder`` holds its provisioning, log and data. Viewing needs no login."""

    def __init__(self, command: list[str], folder: Path, prometheus_url: str) -> None:
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        source = {"name": "Lore", "type": "prometheus", "url": prometheus_url, "isDefault": True}
        boards = {"name": "Lore", "type": "file", "options": {"path": str(FOLDER)}}
        _write(folder / "provisioning/datasources/lore.yaml", {"datasources": [source]})
        _write(folder / "provisioning/dashboards/lore.yaml", {"providers": [boards]})
        env = {
            "GF_SERVER_HTTP_ADDR": "127.0.0.1",
            "GF_SERVER_HTTP_PORT": str(port),
            "GF_PATHS_PROVISIONING": str(folder / "provisioning"),
            "GF_PATHS_DATA": str(folder / "data"),
            "GF_PATHS_LOGS": str(folder / "logs"),
            "GF_AUTH_ANONYMOUS_ENABLED": "true",
            "GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer",
            "GF_ANALYTICS_REPORTING_ENABLED": "false",
            "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
        }
        home = next((home for home in HOMES if Path(home).is_dir()), None)
        argv = command + ([f"--homepath={home}"] if home else [])
        super().__init__("grafana", argv, env, folder / "grafana.log", self._doing)

    async def _doing(self) -> str | None:
        try:
            async with httpx.AsyncClient(timeout=2.0, trust_env=False) as http:
                answer = await http.get(f"{self.url}/api/health")
        except httpx.TransportError:
            return "starting"
        return None if answer.is_success else "starting"


def _write(path: Path, what: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"apiVersion": 1, **what}))

"""A real Prometheus that scrapes local processes, with the labels of a cluster."""

import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from lore.cli.child import Child
from lore.cli.fleet import free_ports

NAMESPACE, RELEASE = "answers", "lore"
"""The names of the namespace and the release in the labels."""
CALL_S = 10.0
_HERE = str(Path(sys.executable).parent)


class NoProgram(Exception):
    """It is neither on the path nor in ``.venv/bin``; the message says what to do."""


def program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path=_HERE)
    if found is None:
        raise NoProgram(
            f"there is no {name} here: install it (Debian: apt install prometheus), or run "
            "make setup, which unpacks Debian's"
        )
    return found


@dataclass(frozen=True)
class Target:
    name: str
    """Such as ``edge-1``: the component, a dash, a number."""
    port: int
    """The port of ``/metrics`` on this machine."""

    def described(self) -> dict[str, Any]:
        labels = {
            "namespace": NAMESPACE,
            "pod": f"{RELEASE}-{self.name}",
            "app_kubernetes_io_instance": RELEASE,
            "app_kubernetes_io_component": self.name.partition("-")[0],
        }
        return {"targets": [f"127.0.0.1:{self.port}"], "labels": labels}


def concrete(expr: str, rate_interval: str) -> str:
    """A panel's expression with its variables replaced, as Grafana does."""
    chosen = {
        "$__rate_interval": rate_interval,
        "$namespace": NAMESPACE,
        "$release": RELEASE,
        "$pod": ".*",
    }
    for variable, value in chosen.items():
        expr = expr.replace(variable, value)
    return expr


class Prometheus(Child):
    """``folder`` holds its configuration, its log and its data."""

    def __init__(
        self,
        folder: Path,
        targets: Iterable[Target],
        *,
        interval_s: float,
        rules: dict[str, Any] | None = None,
        port: int = 0,
    ) -> None:
        """``rules``: the content of a rules file. Raises NoProgram."""
        folder.mkdir(parents=True, exist_ok=True)
        self.url = f"http://127.0.0.1:{port or free_ports(1)[0]}"
        interval = f"{interval_s * 1000:.0f}ms"
        every = {"scrape_interval": interval, "evaluation_interval": interval}
        scrape = {"job_name": "lore", "static_configs": [one.described() for one in targets]}
        config: dict[str, Any] = {"global": every, "scrape_configs": [scrape]}
        if rules is not None:
            (folder / "rules.yaml").write_text(yaml.safe_dump(rules))
            config["rule_files"] = ["rules.yaml"]
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        argv = [
            program("prometheus"),
            f"--config.file={folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--storage.tsdb.retention.time=1d",
            f"--web.listen-address={self.url.removeprefix('http://')}",
            "--enable-feature=exemplar-storage",
            "--log.level=warn",
        ]
        super().__init__("prometheus", argv, {}, folder / "prometheus.log", self._doing)
        self._http = httpx.AsyncClient(base_url=self.url, timeout=CALL_S, trust_env=False)

    async def query(self, expr: str) -> list[Any]:
        """The samples of now. Raises HTTPStatusError for an invalid expression."""
        return (await self._get("query", query=expr))["result"]

    async def over(self, expr: str, begin_s: float, end_s: float, step_s: float) -> list[Any]:
        """The samples of a span of time. Raises as ``query`` does."""
        span = {"start": begin_s, "end": end_s, "step": step_s}
        return (await self._get("query_range", query=expr, **span))["result"]

    async def rules(self) -> list[Any]:
        groups = (await self._get("rules"))["groups"]
        return [rule for group in groups for rule in group["rules"]]

    async def targets(self) -> list[Any]:
        return (await self._get("targets"))["activeTargets"]

    async def stop(self, grace_s: float) -> None:
        await self._http.aclose()
        await super().stop(grace_s)

    async def _get(self, what: str, **parameters: Any) -> Any:
        answer = await self._http.get(f"/api/v1/{what}", params=parameters)
        return answer.raise_for_status().json()["data"]

    async def _doing(self) -> str | None:
        try:
            answer = await self._http.get("/-/ready")
        except httpx.TransportError:
            return "starting"
        return None if answer.is_success else answer.text

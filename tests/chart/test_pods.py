"""What the chart tells the containers, told to the real programs on this machine."""

import asyncio
import importlib.util
import os
import sys
from base64 import b64decode
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import valkey.asyncio
from valkey.exceptions import AuthenticationError, ValkeyError

from lore.cli.child import Child
from lore.cli.fleet import free_ports, readiness
from lore_client import View
from tests.chart.rendering import CHART, ROOT, Object, containers, of_kind, one_of, render
from tests.faults.fleet import READY_S, SERVER
from tests.programs import Done, run

VALUES: dict[str, Any] = {
    "generator": {"settings": {"engine": "synthetic", "syntheticRate": 200, "leaseS": 2}}
}
USERS = ROOT / "k8s/samples/valkey-users.acl"
OWN_VALKEY: dict[str, Any] = {
    "valkey": {
        "bundled": {"enabled": False},
        "external": {
            "existingSecret": "urls",
            "keys": {"edge": "edge", "generator": "generator", "operator": "operator"},
        },
    }
}


@dataclass
class Release:
    """A rendered release whose pods run here: service names lead to this machine's ports."""

    objects: list[Object]
    folder: Path
    ports: Mapping[str, int]

    def read(self, secret: str, key: str) -> str:
        if secret == "urls":
            password = f"{key.upper()}-PASSWORD"
            return f"valkey://{key}:{password}@lore-valkey:6379"
        return self.secret[key]

    @property
    def secret(self) -> dict[str, str]:
        (secret,) = of_kind(self.objects, "Secret")
        return {name: b64decode(value).decode() for name, value in secret["data"].items()}

    def environment(self, container: Object) -> dict[str, str]:
        """As the kubelet would make it, but for addresses, and folders that are mounted."""
        env: dict[str, str] = {}
        for variable in container["env"]:
            source = variable.get("valueFrom", {}).get("secretKeyRef")
            value = self.read(source["name"], source["key"]) if source else variable["value"]
            env[variable["name"]] = self.here(self.expanded(value, env))
        return env

    def expanded(self, text: str, env: Mapping[str, str]) -> str:
        for name, value in env.items():
            text = text.replace(f"$({name})", value)
        return text

    def here(self, text: str) -> str:
        text = text.replace("@lore-valkey:6379", f"@127.0.0.1:{self.ports['valkey']}")
        text = text.replace("http://lore-edge:80", f"http://127.0.0.1:{self.ports['edge']}")
        return text.replace("/etc/lore/keys", str(self.folder / "keys"))

    def container(self, kind: str, component: str) -> Object:
        one = one_of(self.objects, kind, component)
        (container,) = containers(one if kind == "Pod" else one["spec"]["template"])
        return container

    def service(self, component: str) -> Child:
        env = self.environment(self.container("Deployment", component))
        health = self.ports[f"{component} health"]
        env |= {"LORE_HOST": "127.0.0.1", "LORE_PORT": str(self.ports["edge"])}
        env |= {"LORE_HEALTH_HOST": "127.0.0.1", "LORE_HEALTH_PORT": str(health)}
        argv = [sys.executable, "-m", f"lore_{component}"]
        return Child(component, argv, env, self.folder / f"{component}.log", readiness(health))

    def valkey(self) -> Child:
        """With the chart's configuration and command line."""
        container = self.container("StatefulSet", "valkey")
        config = one_of(self.objects, "ConfigMap", "valkey")["data"]["valkey.conf"]
        assert "dir /data\n" in config
        file = self.folder / "valkey.conf"
        here = f"port {self.ports['valkey']}\nbind 127.0.0.1\n"
        file.write_text(here + config.replace("dir /data\n", f"dir {self.folder}\n"))
        shell, flag, script = container["command"]
        started = "valkey-server /etc/valkey/valkey.conf"
        assert started in script
        argv = [shell, flag, script.replace(started, f"{SERVER} {file}")]
        env = self.environment(container)
        return Child("valkey", argv, env, self.folder / "valkey.log", self._pinged)

    def own_valkey(self) -> Child:
        """A user's, with a user for each component."""
        argv = [str(SERVER), "--port", str(self.ports["valkey"]), "--bind", "127.0.0.1"]
        argv += ["--dir", str(self.folder), "--save", "", "--aclfile", str(USERS)]
        return Child("valkey", argv, {}, self.folder / "valkey.log", self._pinged)

    async def _pinged(self) -> str | None:
        password = self.secret["valkey-password"]
        async with valkey.asyncio.Valkey(port=self.ports["valkey"], password=password) as client:
            try:
                await client.ping()
            except AuthenticationError:
                return None  # it has users of its own, and is there
            except (OSError, ValkeyError) as error:
                return str(error)
        return None


async def run_test_pod(release: Release, **changed: str) -> Done:
    """What ``helm test`` runs."""
    container = release.container("Pod", "test")
    env = release.environment(container) | changed
    script = one_of(release.objects, "ConfigMap", "test")["data"]["ask.py"]
    assert container["command"] == ["python3", "/test/ask.py"]
    env = {"PATH": os.environ["PATH"], **env}
    return await run(sys.executable, "-c", script, env=env, limit_s=60.0)


@asynccontextmanager
async def running(folder: Path, values: dict[str, Any]) -> AsyncIterator[Release]:
    names = ["valkey", "edge", "edge health", "generator health"]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    release = Release(render(VALUES | values), folder, ports)
    (folder / "keys").mkdir()
    (folder / "keys/api-keys").write_text(release.secret["api-keys"])
    store = release.own_valkey() if values else release.valkey()
    async with AsyncExitStack() as stack:
        for child in (store, release.service("generator"), release.service("edge")):
            await child.start()
            stack.push_async_callback(child.stop, grace_s=0.1)
            async with asyncio.timeout(READY_S):
                await child.until_ready()
        yield release


@pytest.fixture
async def release(tmp_path: Path) -> AsyncIterator[Release]:
    async with running(tmp_path, {}) as release:
        yield release


async def test_a_release_comes_up_and_its_test_asks_cuts_resumes_and_compares(
    release: Release,
) -> None:
    status, out, err = await run_test_pod(release)
    assert (status, err) == (0, "")
    assert "all three readers agree" in out

    status, out, err = await run_test_pod(release, API_KEY="lore_" + "x" * 43)
    assert (status, out) == (1, "")
    assert "invalid credentials" in err

    stranger = valkey.asyncio.Valkey(port=release.ports["valkey"], password="wrong")
    with pytest.raises(AuthenticationError):
        await stranger.ping()
    await stranger.aclose()


def ask() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ask", CHART / "files/ask.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("text", "truth"), [("abc", "abd"), ("ab", "abc"), ("abcc", "abc"), ("", "a")]
)
def test_the_test_pod_sees_a_single_wrong_missing_or_doubled_character(
    text: str, truth: str
) -> None:
    module = ask()
    module.compare("who", truth, truth)
    with pytest.raises(module.Different, match="differ from"):
        module.compare("who", text, truth)


async def test_the_test_pod_fails_when_the_log_has_another_text(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ask()

    class Liar(module.Reader):
        async def view(self, request_id: str) -> View:
            view = await super().view(request_id)
            return view.model_copy(update={"text": view.text + "!"})

    monkeypatch.setattr(module, "Reader", Liar)
    monkeypatch.setenv("EDGE_URL", f"http://127.0.0.1:{release.ports['edge']}")
    monkeypatch.setenv("API_KEY", release.secret["api-key"])
    with pytest.raises(module.Different, match="the reader that was cut off"):
        await module.main()


async def test_each_component_can_be_a_user_of_its_own_with_few_rights(tmp_path: Path) -> None:
    async with running(tmp_path, OWN_VALKEY) as release:
        status, out, err = await run_test_pod(release)
        assert (status, err) == (0, "")
        assert "all three readers agree" in out

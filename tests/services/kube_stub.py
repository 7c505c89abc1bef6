"""An API server as far as the operator needs one: pods, one StreamPolicy, events and RBAC.

It keeps what a simpler stand-in loses: versions and conflicts, uid preconditions, the status
apart from the rest, selectors, and verbs that are denied one by one.
"""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import kopf
import yaml
from aiohttp import web

NAMESPACE = "test"
CRD = Path(__file__).parents[2] / "charts/lore/files/streampolicy-crd.yaml"


def defaults(schema: dict[str, Any]) -> Any:
    """What the API server fills in where nothing is given."""
    value = deepcopy(schema.get("default"))
    if "properties" in schema and isinstance(value, dict):
        for name, part in schema["properties"].items():
            if name not in value and "default" in part:
                value[name] = defaults(part)
    return value


@cache
def default_spec() -> dict[str, Any]:
    version = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return defaults(spec | {"default": {}})


def policy(**spec: Any) -> dict[str, Any]:
    body = {"metadata": {"name": "lore", "generation": 1}, "spec": _merge(default_spec(), spec)}
    return {"apiVersion": "lore.dev/v1alpha1", "kind": "StreamPolicy"} | body


def pod(name: str = "gen-1", *, ready: bool = True, last_words: str = "") -> dict[str, Any]:
    """With last words, those of a container that has ended and runs again."""
    ended = {"terminated": {"exitCode": 137, "message": last_words}} if last_words else {}
    return {
        "metadata": {"name": name, "labels": {"app.kubernetes.io/component": "generator"}},
        "spec": {},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [
                {"name": "generator", "state": {"running": {}}, "lastState": ended}
            ],
        },
    }


def _merge(old: Any, new: Any) -> Any:
    """RFC 7386."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    merged = old | {key: _merge(old.get(key), value) for key, value in new.items()}
    return {key: value for key, value in merged.items() if value is not None}


Misbehaviour = Callable[[web.Request], Awaitable[web.StreamResponse]]
"""Answers a call as none should be."""


class KubeStub:
    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {"pods": {}, "streampolicies": {}}
        self.events: list[dict[str, Any]] = []
        self.calls: list[tuple[str, str]] = []
        """(verb, resource) of everything that was asked, denied or not."""
        self.tokens: list[str] = []
        self.denied: set[tuple[str, str]] = set()
        self.away = False
        self.silent_watches = False
        self.misbehaving: Misbehaviour | None = None
        self._versions = itertools.count(1)
        self._watches: set[tuple[str, asyncio.Queue[Any]]] = set()
        self._changed = asyncio.Condition()

    # what a test does

    async def put(self, resource: str, body: dict[str, Any]) -> None:
        """Create it, or replace all but its identity."""
        before = self.objects[resource].get(body["metadata"]["name"])
        body = deepcopy(body)
        body["metadata"].setdefault("namespace", NAMESPACE)
        body["metadata"]["uid"] = before["metadata"]["uid"] if before else self._version("uid-")
        await self._store(resource, body, "MODIFIED" if before else "ADDED")

    async def delete(self, resource: str, name: str) -> None:
        body = self.objects[resource].pop(name)
        body["metadata"] = body["metadata"] | {"resourceVersion": self._version()}
        await self._publish(resource, "DELETED", body)

    async def drop_watches(self) -> None:
        for _, queue in self._watches:
            queue.put_nowait(None)

    @property
    def status(self) -> dict[str, Any]:
        return self.objects["streampolicies"]["lore"].get("status", {})

    def condition(self, kind: str) -> dict[str, Any]:
        return next((c for c in self.status.get("conditions", ()) if c["type"] == kind), {})

    def reasons(self) -> list[str]:
        return [event["reason"] for event in self.events]

    def cost(self, name: str = "gen-1") -> str | None:
        annotations = self.objects["pods"][name]["metadata"].get("annotations", {})
        return annotations.get("controller.kubernetes.io/pod-deletion-cost")

    async def until(self, is_so: Any) -> None:
        """Wait for something that a call or a change brings about."""
        async with asyncio.timeout(60), self._changed:
            await self._changed.wait_for(is_so)

    # its life

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator["KubeStub"]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await self.drop_watches()
            await runner.cleanup()

    def login(self) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(server=self.url, default_namespace=NAMESPACE)

    def kubeconfig(self, path: Path) -> Path:
        config = {
            "current-context": "stub",
            "contexts": [
                {"name": "stub", "context": {"cluster": "c", "user": "u", "namespace": NAMESPACE}}
            ],
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": {}}],
        }
        path.write_text(json.dumps(config))
        return path

    # what it answers

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if self.away:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        review = request.path.endswith("/selfsubjectaccessreviews")
        if self.misbehaving is not None:
            async with self._changed:
                self.calls.append(("review" if review else _verb(request, ""), "misbehaving"))
                self._changed.notify_all()
            return await self.misbehaving(request)
        if review:
            return await self._review(request)
        _, found, tail = request.path.partition(f"/namespaces/{NAMESPACE}/")
        resource, name, subresource = [*tail.split("/"), "", ""][:3]
        if not found or resource not in (*self.objects, "events"):
            return _failure(404, f"unknown path {request.path}")
        verb = _verb(request, name)
        full = f"{resource}/{subresource}" if subresource else resource
        self.tokens.append(request.headers.get("Authorization", ""))
        async with self._changed:
            self.calls.append((verb, full))
            self._changed.notify_all()
        if (verb, full) in self.denied:
            return _failure(403, f'{resource} is forbidden: cannot {verb} resource "{full}"')
        if verb == "create":
            self.events.append(await request.json())
            async with self._changed:
                self._changed.notify_all()
            return web.json_response({})
        if verb == "watch":
            return await self._watch(request, resource)
        if verb == "list":
            items = [one for one in self.objects[resource].values() if _selected(request, one)]
            meta = {"resourceVersion": self._version()}
            return web.json_response({"metadata": meta, "items": items})
        if name not in self.objects[resource]:
            return _failure(404, f"{resource} {name} not found")
        if verb == "patch":
            return await self._patch(request, resource, name, subresource)
        return web.json_response(self.objects[resource][name])

    async def _review(self, request: web.Request) -> web.Response:
        asked = (await request.json())["spec"]["resourceAttributes"]
        full = "/".join(filter(None, (asked["resource"], asked["subresource"])))
        return web.json_response({"status": {"allowed": (asked["verb"], full) not in self.denied}})

    async def _patch(
        self, request: web.Request, resource: str, name: str, subresource: str
    ) -> web.Response:
        assert request.content_type == "application/merge-patch+json"
        change, before = await request.json(), self.objects[resource][name]
        meta = change.get("metadata", {})
        for key in ("uid", "resourceVersion"):
            if meta.get(key, before["metadata"][key]) != before["metadata"][key]:
                return _failure(409, f"{key} is not the same")
        if subresource == "status":
            after = before | {"status": _merge(before.get("status", {}), change["status"])}
        else:
            after = _merge(before, {k: v for k, v in change.items() if k != "status"})
        if after != before:
            await self._store(resource, after, "MODIFIED")
        return web.json_response(after)

    async def _watch(self, request: web.Request, resource: str) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        watch = (resource, asyncio.Queue[Any]())
        for body in self.objects[resource].values():
            watch[1].put_nowait({"type": "ADDED", "object": deepcopy(body)})
        self._watches.add(watch)
        try:
            while (event := await watch[1].get()) is not None:
                if not self.silent_watches and _selected(request, event["object"]):
                    await response.write(json.dumps(event).encode() + b"\n")
        except ConnectionError:
            pass
        finally:
            self._watches.discard(watch)
        return response

    async def _store(self, resource: str, body: dict[str, Any], kind: str) -> None:
        body["metadata"] = body["metadata"] | {"resourceVersion": self._version()}
        self.objects[resource][body["metadata"]["name"]] = body
        await self._publish(resource, kind, body)

    async def _publish(self, resource: str, kind: str, body: dict[str, Any]) -> None:
        event = {"type": kind, "object": deepcopy(body)}
        for watched, queue in self._watches:
            if watched == resource:
                queue.put_nowait(event)
        async with self._changed:
            self._changed.notify_all()

    def _version(self, prefix: str = "") -> str:
        return f"{prefix}{next(self._versions)}"


def _verb(request: web.Request, name: str) -> str:
    if "watch" in request.query:
        return "watch"
    if request.method == "GET" and not name:
        return "list"
    return {"GET": "get", "POST": "create", "PATCH": "patch"}[request.method]


def _selected(request: web.Request, body: dict[str, Any]) -> bool:
    labels = request.query.get("labelSelector", "")
    fields = request.query.get("fieldSelector", "")
    have = body["metadata"].get("labels", {})
    wanted = dict(part.split("=") for part in labels.split(",") if part)
    name = fields.removeprefix("metadata.name=")
    labelled = all(have.get(key) == value for key, value in wanted.items())
    return labelled and name in ("", body["metadata"]["name"])


def _failure(code: int, message: str) -> web.Response:
    body = {"kind": "Status", "status": "Failure", "code": code, "message": message}
    return web.json_response(body, status=code)

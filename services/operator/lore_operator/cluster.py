"""The operator's calls to the API server."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Self
from urllib.parse import quote

from lore_operator.api import Api, Login, expected, log_in
from lore_operator.pods import COMPONENT_LABEL, COST, INSTANCE_LABEL, STORE, Pod, pod_from
from lore_operator.rbac import GROUP, Need

VERSION = "v1alpha1"
COMPONENT = "lore-operator"
_IDENTITY = ("name", "resourceVersion", "uid")


class ApiServer:
    """The API server, for one namespace. All calls raise ApiFailed."""

    def __init__(self, namespace: str, login: Login = log_in, release: str = "") -> None:
        """Create it within a running loop. Raises kopf.LoginError, and OSError for missing
        certificates.
        """
        self.namespace = namespace
        self._release = release
        self._api = Api(login)
        self._core = f"/api/v1/namespaces/{namespace}"
        self._own = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/streampolicies"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._api.close()

    async def policy(self, name: str) -> dict[str, Any]:
        """The StreamPolicy. Raises Missing."""
        body = await self._api.call("GET", f"{self._own}/{quote(name)}")
        with expected("GET of the policy"):
            meta = body["metadata"]
            if not all(isinstance(body.get(part, {}), dict) for part in ("spec", "status")):
                raise TypeError
            return body | {"metadata": {**meta, **{key: str(meta[key]) for key in _IDENTITY}}}

    async def set_status(self, policy: Mapping[str, Any], status: Mapping[str, Any]) -> None:
        """Write the policy's status. Raises Conflict when the policy changed since it was read."""
        meta = policy["metadata"]
        body = {"metadata": {"resourceVersion": meta["resourceVersion"]}, "status": status}
        await self._api.call("PATCH", f"{self._own}/{quote(meta['name'])}/status", body)

    async def pods(self, match_labels: Mapping[str, str]) -> list[Pod]:
        selector = ",".join(f"{key}={value}" for key, value in sorted(match_labels.items()))
        answer = await self._api.call("GET", f"{self._core}/pods", labelSelector=selector)
        with expected("GET of the pods"):
            return [pod_from(item, self._release) for item in answer["items"]]

    async def bundled_store(self) -> list[Pod]:
        """The pods of the store that the operator's own release brings; none where it brings none,
        or where the release is not known.
        """
        if not self._release:
            return []
        return await self.pods({INSTANCE_LABEL: self._release, COMPONENT_LABEL: STORE})

    async def set_cost(self, pod: Pod, cost: int) -> None:
        """Write a pod's deletion cost. Raises Missing when the pod is gone, Conflict when another
        has its name.
        """
        body = {"metadata": {"uid": pod.uid, "annotations": {COST: str(cost)}}}
        await self._api.call("PATCH", f"{self._core}/pods/{quote(pod.name)}", body)

    async def post_event(
        self, policy: Mapping[str, Any], kind: str, reason: str, message: str, now: str
    ) -> None:
        """Post an Event about the policy. ``kind`` is Normal or Warning, ``now`` is RFC 3339."""
        meta = policy["metadata"]
        body = {
            "metadata": {"generateName": f"{meta['name']}.", "namespace": self.namespace},
            "involvedObject": {
                "apiVersion": f"{GROUP}/{VERSION}",
                "kind": "StreamPolicy",
                "name": meta["name"],
                "namespace": self.namespace,
                "uid": meta["uid"],
            },
            "type": kind,
            "reason": reason,
            "message": message,
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        await self._api.call("POST", f"{self._core}/events", body)

    async def may(self, need: Need, policy: str) -> bool:
        """Whether RBAC allows the operator this, for the policy of that name."""
        resource, _, subresource = need.resource.partition("/")
        attributes = {
            "namespace": self.namespace,
            "verb": need.verb,
            "group": need.group,
            "resource": resource,
            "subresource": subresource,
            "name": policy if need.named else "",
        }
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        answer = await self._api.call("POST", path, review)
        with expected("a review of its rights"):
            return bool(answer["status"]["allowed"])

    def changes(self, resource: str, **selectors: str) -> AsyncIterator[dict[str, Any]]:
        """The watch events of pods or StreamPolicies. The first events describe what exists
        already.
        """
        path = f"{self._core}/pods" if resource == "pods" else self._own
        return self._api.watch(path, **selectors)

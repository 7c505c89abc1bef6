"""The few calls that the operator makes to the API server; kopf does the watching.

Credentials are read anew for each call, because a pod's token is replaced every hour.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Self
from urllib.parse import quote

import aiohttp
import kopf

from lore_operator.pods import COST, Pod, pod_from
from lore_operator.rbac import GROUP, Need

VERSION = "v1alpha1"
TIMEOUT_S = 10.0
COMPONENT = "lore-operator"

Login = Callable[[], kopf.ConnectionInfo]


class ApiFailed(Exception):
    """The API server cannot be reached, or did not do what it was asked."""


class Forbidden(ApiFailed):
    """RBAC denies it; the message names the verb and the resource."""


class Missing(ApiFailed):
    pass


class Conflict(ApiFailed):
    """The object is another one, or another version, than was meant."""


_REFUSALS = {403: Forbidden, 404: Missing, 409: Conflict}
_SETTINGS = kopf.OperatorSettings()


def log_in() -> kopf.ConnectionInfo:
    """As a pod, or as $KUBECONFIG or ~/.kube/config say. Raises kopf.LoginError."""
    found = kopf.login_with_service_account(settings=_SETTINGS)
    found = found or kopf.login_with_kubeconfig(settings=_SETTINGS)
    if found is None:
        raise kopf.LoginError("no cluster: not in a pod, and neither KUBECONFIG nor ~/.kube/config")
    return found


class Cluster:
    """One namespace of it. All calls raise ApiFailed."""

    def __init__(self, namespace: str, login: Login = log_in) -> None:
        """Within a running loop. Raises kopf.LoginError, and OSError for missing certificates."""
        self.namespace = namespace
        self._login = login
        info = login()
        secure = info.server.startswith("https:")
        self._session = aiohttp.ClientSession(
            info.server.rstrip("/"),
            connector=aiohttp.TCPConnector(ssl=info.as_ssl_context() if secure else True),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
        )
        self._core = f"/api/v1/namespaces/{namespace}"
        self._own = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/streampolicies"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._session.close()

    async def policy(self, name: str) -> dict[str, Any]:
        """The StreamPolicy. Raises Missing."""
        return await self._call("GET", f"{self._own}/{quote(name)}")

    async def set_status(self, policy: Mapping[str, Any], status: Mapping[str, Any]) -> None:
        """Raises Conflict when the policy changed since it was read."""
        meta = policy["metadata"]
        body = {"metadata": {"resourceVersion": meta["resourceVersion"]}, "status": status}
        await self._call("PATCH", f"{self._own}/{quote(meta['name'])}/status", body)

    async def pods(self, match_labels: Mapping[str, str]) -> list[Pod]:
        selector = ",".join(f"{key}={value}" for key, value in sorted(match_labels.items()))
        answer = await self._call("GET", f"{self._core}/pods", labelSelector=selector)
        return [pod_from(item) for item in answer["items"]]

    async def set_cost(self, pod: Pod, cost: int) -> None:
        """Raises Missing when the pod is gone, Conflict when another has its name."""
        body = {"metadata": {"uid": pod.uid, "annotations": {COST: str(cost)}}}
        await self._call("PATCH", f"{self._core}/pods/{quote(pod.name)}", body)

    async def post_event(
        self, policy: Mapping[str, Any], kind: str, reason: str, message: str, now: str
    ) -> None:
        """An Event about the policy. ``kind`` is Normal or Warning, ``now`` RFC 3339."""
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
        await self._call("POST", f"{self._core}/events", body)

    async def may(self, need: Need, policy: str) -> bool:
        """Whether RBAC lets the operator do this, on the policy of that name."""
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
        answer = await self._call("POST", path, review)
        return bool(answer["status"]["allowed"])

    async def _call(
        self, method: str, path: str, body: object = None, **params: str
    ) -> dict[str, Any]:
        data = None if body is None else json.dumps(body)
        patches = method == "PATCH"
        kind = {"Content-Type": f"application/{'merge-patch+' if patches else ''}json"}
        try:
            headers = self._login().as_http_headers() | kind
            async with self._session.request(
                method, path, params=params, headers=headers, data=data
            ) as reply:
                answer = json.loads(await reply.read())
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            reason = str(error) or type(error).__name__
            raise ApiFailed(f"the API server does not answer {method} {path}: {reason}") from None
        except (kopf.LoginError, OSError) as error:
            raise ApiFailed(f"cannot log in to the cluster: {error}") from None
        if reply.status >= 400:
            refusal = _REFUSALS.get(reply.status, ApiFailed)
            raise refusal(f"{method} {path}: {reply.status} {answer.get('message', '')}")
        return answer

"""The rights that the operator needs. The chart's Role grants these and no others."""

from dataclasses import dataclass

GROUP = "lore.dev"


@dataclass(frozen=True, slots=True)
class Need:
    verb: str
    group: str
    resource: str
    """The resource with its subresource: ``streampolicies/status``."""
    named: bool = False
    """Whether it is needed only for the one policy, so that the Role may name it
    (``resourceNames``).
    """

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}"


NEEDS = (
    Need("get", GROUP, "streampolicies", named=True),
    Need("watch", GROUP, "streampolicies", named=True),
    Need("patch", GROUP, "streampolicies/status", named=True),
    Need("list", "", "pods"),
    Need("watch", "", "pods"),
    Need("patch", "", "pods"),
    Need("create", "", "events"),
)
"""All within one namespace. Kubernetes itself lets everybody ask for their own rights
(selfsubjectaccessreviews, by ``system:basic-user``).
"""

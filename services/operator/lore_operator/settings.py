"""The operator's settings: environment variables with the prefix ``LORE_``."""

from typing import Annotated

from pydantic import Field

from lore.settings import CommonSettings


class OperatorSettings(CommonSettings):
    namespace: str = ""
    """Where the policy and the pods are; empty, the operator's own, or the kubeconfig's."""
    policy: Annotated[str, Field(min_length=1)] = "lore"
    """The name of the StreamPolicy to follow. Others in the namespace are left alone."""
    release: str = ""
    """The release that it belongs to: it writes on no pod whose ``app.kubernetes.io/instance`` is
    another; empty, on any generator that its policy selects."""
    sweep_s: Annotated[float, Field(ge=0.1)] = 5.0
    """How often to look when no watch says that something changed."""

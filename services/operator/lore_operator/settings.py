"""The operator's settings: environment variables with the prefix ``LORE_``."""

from typing import Annotated

from pydantic import Field

from lore.settings import CommonSettings


class OperatorSettings(CommonSettings):
    namespace: str = ""
    """The namespace of the policy and the pods; empty: the operator's own, or the kubeconfig's."""
    policy: Annotated[str, Field(min_length=1)] = "lore"
    """The name of the StreamPolicy to apply. Others in the namespace are ignored."""
    release: str = ""
    """The operator's release: it changes no pod with another ``app.kubernetes.io/instance``. Empty:
    it changes any generator that its policy selects."""
    sweep_s: Annotated[float, Field(ge=0.1)] = 5.0
    """How often to sweep if no watch reports a change."""

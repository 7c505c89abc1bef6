"""A StreamPolicy's spec. Bounds and defaults are in charts/lore/files/streampolicy-crd.yaml."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from lore import sweep

Seconds = Annotated[int, Field(ge=1)]


class _SpecPart(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, frozen=True, extra="ignore")


class Generators(_SpecPart):
    match_labels: Annotated[dict[str, str], Field(min_length=1)]


class Stall(_SpecPart):
    after_seconds: Seconds
    action: Literal["Reap", "Park"]


class Lease(_SpecPart):
    seconds: Seconds
    on_loss: Literal["Release", "Wait"]


class Report(_SpecPart):
    orphaned_after_seconds: Seconds
    stuck_after_seconds: Seconds
    waiting_after_seconds: Seconds


class StreamPolicy(_SpecPart):
    generators: Generators
    stall: Stall
    retention_seconds: Seconds
    lease: Lease
    report: Report

    @property
    def findings(self) -> sweep.Policy:
        return sweep.Policy(
            stall_s=self.stall.after_seconds,
            orphan_s=self.report.orphaned_after_seconds,
            stuck_s=self.report.stuck_after_seconds,
            wait_s=self.report.waiting_after_seconds,
        )


def read_policy(spec: dict[str, Any]) -> StreamPolicy:
    """Parse a spec. Raises ValueError with a sentence for each mistake.

    The API server has filled in the defaults and refused what is out of bounds. Remaining mistakes
    come from an older or a changed definition of the kind.
    """
    try:
        return StreamPolicy.model_validate(spec)
    except ValidationError as error:
        mistakes = (
            f"spec.{'.'.join(str(part) for part in mistake['loc'])}: {mistake['msg']}"
            for mistake in error.errors()
        )
        raise ValueError("; ".join(mistakes)) from None

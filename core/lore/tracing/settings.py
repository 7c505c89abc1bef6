"""The settings of traces: OpenTelemetry's own environment variables.

Those here decide whether there are traces, and are checked. All others (headers, certificates,
sampler, queues, resource attributes) are read by OpenTelemetry's SDK.
"""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class TracingSettings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="OTEL_", env_ignore_empty=True, frozen=True, hide_input_in_errors=True
    )

    sdk_disabled: bool = False
    traces_exporter: Literal["otlp", "none"] = "otlp"
    exporter_otlp_endpoint: str = ""
    """A collector that takes OTLP over HTTP, such as ``http://collector:4318``."""
    exporter_otlp_traces_endpoint: str = ""
    """The same for traces alone, with its path: ``http://collector:4318/v1/traces``."""
    exporter_otlp_protocol: Literal["http/protobuf"] = "http/protobuf"
    exporter_otlp_traces_protocol: Literal["http/protobuf"] = "http/protobuf"
    exporter_otlp_timeout: Annotated[float, Field(gt=0)] = 10.0
    """Seconds for each export, whatever a collector does meanwhile."""
    exporter_otlp_traces_timeout: Annotated[float, Field(gt=0)] | None = None
    """The same for traces alone."""
    traces_sampler: Literal[
        "always_on",
        "always_off",
        "traceidratio",
        "parentbased_always_on",
        "parentbased_always_off",
        "parentbased_traceidratio",
    ] = "parentbased_always_on"
    traces_sampler_arg: Annotated[float, Field(ge=0, le=1)] = 1.0

    @field_validator("exporter_otlp_endpoint", "exporter_otlp_traces_endpoint")
    @classmethod
    def _is_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in ("http", "https") or not parts.netloc):
            raise ValueError("not an address such as http://collector:4318")
        if parts.username or parts.password:
            raise ValueError("credentials go into OTEL_EXPORTER_OTLP_HEADERS")
        return value

    @property
    def endpoint(self) -> str:
        return self.exporter_otlp_traces_endpoint or self.exporter_otlp_endpoint

    @property
    def timeout_s(self) -> float:
        return self.exporter_otlp_traces_timeout or self.exporter_otlp_timeout

    @property
    def is_on(self) -> bool:
        return bool(self.endpoint) and self.traces_exporter == "otlp" and not self.sdk_disabled

"""The edge's settings: environment variables ``LORE_<NAME>``."""

import json
import re
import socket
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, cast
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from lore.request import MAX_PACE
from lore.request_limits import RequestLimits
from lore.settings import CommonSettings, Port, Positive

SYSTEM_PROMPT = (
    "You explain programming concepts to beginners. Answer in plain words, "
    "show a short code example where it helps, and say what each part of it does."
)

PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)+")
"""Plain segments: no escapes, no dots that lead elsewhere, nothing that ends an attribute."""

HUB_NAME = re.compile(r"(?!.*\.json$)[A-Za-z0-9][\w.-]*(?:/[\w.-]+)?")

Origins = Annotated[tuple[str, ...], NoDecode]
"""Comma-separated ``scheme://host[:port]``."""
Network = IPv4Network | IPv6Network
_LIMITS = RequestLimits()
_LISTS: dict[str, Callable[[str], object]] = {
    "edges": lambda part: part.rstrip("/"),
    "cors_origins": lambda part: part.rstrip("/"),
    "allowed_hosts": str.lower,
    "trusted_proxies": ip_network,
}
"""The settings with commas, and how each part of them is read."""


class EdgeSettings(CommonSettings):
    host: str = "127.0.0.1"
    port: Port = 8080
    edge_id: Annotated[str, Field(min_length=1, max_length=64)] = socket.gethostname()
    """This edge's name in state events and views."""
    edges: Origins = ()
    """The public URLs of all edges, for the page, with their path, if any:
    ``https://example.org/lore``. Empty: the edge that it was loaded from."""
    root_path: str = ""
    """The path below which a proxy serves Lore, such as ``/lore``. Links begin with it, whether or
    not the proxy strips it. A trusted proxy's ``X-Forwarded-Prefix`` takes precedence."""
    cors_origins: Origins = ()
    """Other origins whose pages may call this edge; ``*``: all."""
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Comma-separated host names, without ports, that may be called; empty: any. IP addresses may
    always be called. Without authentication, ``lore up`` allows only ``localhost``."""
    auth: Literal["required", "off"] = "required"
    """``off``: no authentication; all callers are one subject."""
    api_keys_file: str = ""
    """A file of API keys (lore.apikeys), read again when it changes."""
    jwt_issuer: str = ""
    """The ``iss`` of accepted JWTs; empty: no JWTs."""
    jwt_audience: str = ""
    """The ``aud`` of accepted JWTs; required with an issuer."""
    jwt_jwks: str = ""
    """The issuer's keys: an https:// or http:// URL, or a file."""
    secret: SecretStr = SecretStr("lore")
    """Must be the same on every edge. Signs stream tokens, and makes request ids of
    ``Idempotency-Key``s hard to guess. The default works only without authentication."""
    stream_token_s: Annotated[int, Field(ge=1, le=86_400)] = 600
    """How long a stream token is valid."""
    model: str = ""
    """The model's name for OpenAI's API and the page; empty: as the generators report it."""
    prometheus_url: Annotated[
        str, Field(pattern="^(https?://.+)?$", examples=["http://prometheus:9090"])
    ] = ""
    """A Prometheus that scrapes this Lore. ``/status`` then plots the key figures, which show how
    much Lore is used, to all authenticated callers. Empty: no such page."""
    system_prompt: Annotated[str, Field(min_length=1)] = SYSTEM_PROMPT
    """Precedes a ``question``; ``messages`` are used as they are."""

    retention_floor_s: Positive = 300.0
    """How long an answer is kept at least. When the store is full, older answers that are fully
    acknowledged are given up for new requests."""
    queue_limit: Annotated[int, Field(ge=1)] = 4096
    """Maximum requests waiting for a generator, over all partitions."""
    streams_per_client: Annotated[int, Field(ge=0)] = 0
    """Live requests of one client, over all edges; 0: no limit."""
    requests_per_minute: Annotated[int, Field(ge=0)] = 0
    """Requests of one client in any 60 s, over all edges; 0: no limit."""
    tokens_per_minute: Annotated[int, Field(ge=0)] = 0
    """Tokens of one client in any 60 s, over all edges; 0: no limit. A request counts from its
    admission, as its prompt (a token for 4 bytes) plus max_tokens; after its end, as the tokens
    that it used."""
    max_prompt_chars: Annotated[int, Field(ge=0)] = 0
    """Characters of a question, or of all messages together; 0: no limit."""
    tokenizer: str = ""
    """The model's ``tokenizer.json``, or its folder, to count long prompts before accepting them.
    Unset, or a name on the hub: the generators' tokenizer, if it is on this machine. Without one,
    a generator refuses prompts that are too long."""
    max_message_chars: Annotated[int, Field(ge=1)] = _LIMITS.message_chars
    """Characters of a question, of a prompt, or of one message; or token ids of a prompt."""
    max_messages: Annotated[int, Field(ge=1)] = _LIMITS.messages
    """Messages of one request, including earlier turns."""
    max_tokens: Annotated[int, Field(ge=1)] = _LIMITS.max_tokens
    """The longest answer that a request may ask for, in tokens, whatever the model's context."""
    default_max_tokens: Annotated[int, Field(ge=1)] = _LIMITS.default_max_tokens
    """``max_tokens`` of a request that sets none. In OpenAI's API, such an answer may be as long as
    ``LORE_MAX_TOKENS``, and limits on tokens count this many until it has ended."""
    pace: Annotated[float, Field(ge=0, le=MAX_PACE)] = 12.0
    """``pace`` of a request that sets none: the most tokens a second that its reader takes while
    others wait for a slot (protocol P20). 0: as fast as the engine can. Requests with ack ``none``
    have no pace unless they set one."""
    openai_pace: Annotated[float, Field(ge=0, le=MAX_PACE)] = 0.0
    """The same for requests to OpenAI's API, whose callers are often programs."""
    share_by: Literal["subject", "address"] = "subject"
    """What identifies a client for queue shares and limits: the authenticated subject (without
    authentication, all are one client), or the address of the request (IPv6: the /64)."""
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode] = ()
    """Comma-separated networks whose ``X-Forwarded-For`` and ``X-Forwarded-Prefix`` are
    trusted."""
    fair_quantum_s: Annotated[float, Field(ge=0)] = 10.0
    """A client's requests are this far apart in the queue, so that others come between them; 0:
    first come, first served. Set it longer than one request keeps the fleet busy."""
    retry_window_s: Annotated[float, Field(ge=0)] = 900.0
    """How long a retry by OpenAI's SDKs joins the request that it repeats; 0: never. Set it longer
    than the timeouts of SDKs and proxies."""
    max_body_bytes: Annotated[int, Field(ge=1024)] = 1_048_576
    """Maximum body of one call; beyond it 413 ``body_too_large``."""
    max_url_bytes: Annotated[int, Field(ge=256)] = 8192
    """Maximum request target of one call, path and query; beyond it 414."""
    max_field_bytes: Annotated[int, Field(ge=256)] = 12_288
    """Maximum size of one header field, name and value. A JWT may have 8,192 characters."""
    max_head_bytes: Annotated[int, Field(ge=1024)] = 24_576
    """Maximum size of all header fields of a request; also of its trailers and chunk extensions."""
    max_fields: Annotated[int, Field(ge=8)] = 100
    """Maximum number of header fields of one call; beyond it 431."""

    head_timeout_s: Positive = 10.0
    """Timeout for a request's head, from the connection or from a later request's first byte."""
    body_timeout_s: Positive = 60.0
    """Timeout for a request's body, from the end of its head."""
    keep_alive_s: Positive = 75.0
    """How long a connection may wait for its next request. Set it longer than load balancers in
    front keep idle connections, often 60 s."""
    max_connections: Annotated[int, Field(ge=1)] = 10_000
    """Connections of one edge; fewer if its limit of open files is lower. Beyond it, the connection
    that has been idle longest is closed; if none is idle, the new one gets 503."""
    max_connections_per_address: Annotated[int, Field(ge=0)] = 0
    """Connections of one address (IPv6: of a /64) to one edge, except from trusted proxies; 0: no
    limit."""

    heartbeat_s: Positive = 15.0
    """How often a request without news is read again from the store. Its readers get a comment
    then, or sooner (``silence_s``)."""
    silence_s: Positive = 3.0
    """After this long without a byte, a reader goes to another edge. State events contain it;
    heartbeats come at least every half of it."""
    store_lost_s: Positive = 3.0
    """After this long without an answer from the store, an edge sends its readers elsewhere."""
    ring_chunks: Annotated[int, Field(ge=1)] = 256
    """Chunks kept in memory for each followed request; older ones are read from the log."""
    ring_bytes: Annotated[int, Field(ge=1024)] = 65_536
    """Bytes kept in memory for each followed request; older chunks are read from the log."""
    restore_grace_s: Annotated[float, Field(ge=0)] = 5.0
    """How long an edge waits for a request that the store lost. Its generator gives it back after
    reconnecting, which takes up to 2 s."""
    linger_s: Positive = 2.0
    """How long an edge follows a request after its last reader left."""
    socket_buffer_bytes: Annotated[int, Field(ge=4096)] = 32_768
    """Bytes buffered for one reader's socket before the edge stops writing to it."""
    tcp_user_timeout_s: Positive = 30.0
    """After this long without a TCP acknowledgment, a peer counts as gone."""

    max_connection_age_s: Annotated[float, Field(ge=0)] = 0.0
    """After about this long, a stream is asked to reconnect, so that new edges get readers; 0:
    never. Clients that cannot be asked stay."""
    drain_delay_s: Annotated[float, Field(ge=0)] = 0.0
    """Time between turning unready and sending readers away, so that load balancers notice."""
    drain_spread_s: Annotated[float, Field(ge=0)] = 1.0
    """Time over which readers are sent away, so that they do not all arrive together."""
    grace_s: Positive = 20.0
    """Maximum time from the signal to the exit."""

    @property
    def request_limits(self) -> RequestLimits:
        return RequestLimits(
            self.max_messages, self.max_message_chars, self.max_tokens, self.default_max_tokens
        )

    @field_validator("default_max_tokens")
    @classmethod
    def _within_the_longest(cls, default: int, info: ValidationInfo) -> int:
        most = info.data.get("max_tokens", default)
        if default > most:
            raise ValueError(f"must be at most LORE_MAX_TOKENS ({most})")
        return default

    @field_validator("tokenizer")
    @classmethod
    def _is_a_tokenizer(cls, value: str) -> str:
        if not value or (HUB_NAME.fullmatch(value) and not Path(value).exists()):
            return ""  # a generator's to fetch
        path = Path(value).expanduser()
        path = path / "tokenizer.json" if path.is_dir() else path
        try:
            known: object = json.loads(path.read_bytes())
            what = "it has no model in it" if "model" not in cast("dict[str, Any]", known) else ""
        except OSError as error:
            what = str(error.strerror)
        except (ValueError, TypeError):
            what = "it is not a JSON object"
        if what:
            raise ValueError(
                f"cannot count with {path}: {what}; name the model's tokenizer.json or its folder, "
                "or unset it, and generators find out what is too long"
            )
        return str(path)

    @field_validator(*_LISTS, mode="before")
    @classmethod
    def _split(cls, value: object, info: ValidationInfo) -> object:
        if not isinstance(value, str):
            return value
        read = _LISTS[str(info.field_name)]
        return tuple(read(part.strip()) for part in value.split(",") if part.strip())

    @field_validator("root_path")
    @classmethod
    def _is_a_path(cls, value: str) -> str:
        value = value.rstrip("/")
        if value and not PATH.fullmatch(value):
            raise ValueError(f"'{value}' is not a path such as /lore")
        if value.split("/")[1:2] in (["v1"], ["web"]):
            raise ValueError(f"'{value}' begins like a path of Lore's own")
        return value

    @field_validator("edges", "cors_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        for origin in value:
            parts = urlsplit(origin)
            below = info.field_name == "edges" and PATH.fullmatch(parts.path)
            if origin != "*" and (
                parts.scheme not in ("http", "https")
                or not parts.netloc
                or (parts.path and not below)
            ):
                raise ValueError(f"'{origin}' is not an origin such as https://example.org")
        return value

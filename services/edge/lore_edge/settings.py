"""The edge's settings: environment variables ``LORE_<NAME>``."""

import json
import re
import socket
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, cast
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import NoDecode

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


class EdgeSettings(CommonSettings):
    host: str = "127.0.0.1"
    port: Port = 8080
    edge_id: Annotated[str, Field(min_length=1, max_length=64)] = socket.gethostname()
    """How this edge names itself in state events and views."""
    edges: Origins = ()
    """The public URLs of all edges, for the page; empty means the one it was loaded from.
    Below a path they end with it: ``https://example.org/lore``."""
    root_path: str = ""
    """The path that a proxy serves this Lore below, such as ``/lore``: links begin with it, whether
    the proxy takes it away or not. A trusted proxy's ``X-Forwarded-Prefix`` takes precedence."""
    cors_origins: Origins = ()
    """Origins whose pages may call this edge; ``*`` for all, empty for none but its own."""
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Comma-separated names, without ports, that calls may come for; empty for any. IP addresses
    may always be called. ``lore up`` allows ``localhost`` where it lets everyone in."""
    auth: Literal["required", "off"] = "required"
    """``off`` lets everyone in, as one and the same subject."""
    api_keys_file: str = ""
    """A file of API keys (lore.apikeys), read again whenever it changes."""
    jwt_issuer: str = ""
    """Whose JWTs open the edge: what their ``iss`` must be; empty, nobody's."""
    jwt_audience: str = ""
    """What the ``aud`` of a JWT must hold; needed with an issuer."""
    jwt_jwks: str = ""
    """Where the issuer's keys are: an https:// or http:// URL, or a file."""
    secret: SecretStr = SecretStr("lore")
    """The same on every edge. Signs stream tokens, and makes request ids of ``Idempotency-Key``s
    hard to guess; what it is without being set serves only where everyone is let in."""
    stream_token_s: Annotated[int, Field(ge=1, le=86_400)] = 600
    """How long a stream token opens its request."""
    model: str = ""
    """The model's name for OpenAI's API and the page; empty, what the generators tell."""
    prometheus_url: Annotated[
        str, Field(pattern="^(https?://.+)?$", examples=["http://prometheus:9090"])
    ] = ""
    """A Prometheus that scrapes this Lore: ``/status`` then plots its key figures, for all who
    are let in. They tell how much Lore is used; empty, there is no such page."""
    system_prompt: Annotated[str, Field(min_length=1)] = SYSTEM_PROMPT
    """Put in front of a ``question``; ``messages`` are taken as they are."""

    retention_floor_s: Positive = 300.0
    """How long an answer is kept at least. When the store is full, older answers that were
    acknowledged to their end are given up for new requests."""
    queue_limit: Annotated[int, Field(ge=1)] = 4096
    """Requests that may wait for a generator, over all partitions."""
    streams_per_client: Annotated[int, Field(ge=0)] = 0
    """Live requests of one client, over all edges; 0 for no limit."""
    requests_per_minute: Annotated[int, Field(ge=0)] = 0
    """Requests of one client in any 60 s, over all edges; 0 for no limit."""
    tokens_per_minute: Annotated[int, Field(ge=0)] = 0
    """What one client may ask for in any 60 s, over all edges; 0 for no limit. A request counts
    when it is admitted, with its prompt (a token for 4 bytes) and max_tokens, and for what it
    really used once it has ended."""
    max_prompt_chars: Annotated[int, Field(ge=0)] = 0
    """Characters of a question, or of all messages together; 0 for no limit."""
    tokenizer: str = ""
    """The model's ``tokenizer.json``, or its folder, by which prompts that may be too long for its
    context are counted before they are accepted; unset, or a name on the hub, the generators' own
    where it is on this machine. Without one a generator finds out."""
    max_message_chars: Annotated[int, Field(ge=1)] = _LIMITS.message_chars
    """Characters of a question, or of one message."""
    max_messages: Annotated[int, Field(ge=1)] = _LIMITS.messages
    """Messages of one request, those of earlier turns included."""
    max_tokens: Annotated[int, Field(ge=1)] = _LIMITS.max_tokens
    """The longest answer that can be asked for, whatever the model's context would allow."""
    default_max_tokens: Annotated[int, Field(ge=1)] = _LIMITS.default_max_tokens
    """Tokens of an answer whose request sets no limit. OpenAI's API then sets none either, and
    limits on tokens count this many until it has ended."""
    share_by: Literal["subject", "address"] = "subject"
    """What a client is, for its share of the queue and its limits: who is logged in (nobody:
    all are one client), or the address (IPv6: the /64) that a request comes from."""
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode] = ()
    """Comma-separated networks whose ``X-Forwarded-For`` and ``X-Forwarded-Prefix`` are
    believed."""
    fair_quantum_s: Annotated[float, Field(ge=0)] = 10.0
    """A client's requests stand this far apart in the queue, and others come between them;
    0 for first come, first served. Longer than one request keeps the fleet busy."""
    retry_window_s: Annotated[float, Field(ge=0)] = 900.0
    """For how long a retry by OpenAI's SDKs joins the request that it repeats; 0 for never. Longer
    than the SDKs, and proxies, wait."""
    max_body_bytes: Annotated[int, Field(ge=1024)] = 1_048_576
    """The body of one call; beyond it 413 ``body_too_large``."""
    max_url_bytes: Annotated[int, Field(ge=256)] = 8192
    """The request target of one call, path and query; beyond it 414."""
    max_field_bytes: Annotated[int, Field(ge=256)] = 12_288
    """One header field, name and value. A JWT may have 8,192 characters."""
    max_head_bytes: Annotated[int, Field(ge=1024)] = 24_576
    """All header fields of a request together; trailers and chunk extensions as well."""
    max_fields: Annotated[int, Field(ge=8)] = 100
    """Header fields of one call; beyond it 431."""

    head_timeout_s: Positive = 10.0
    """From a connection, or the first byte of a later request on it, to the end of the head."""
    body_timeout_s: Positive = 60.0
    """From a request's head to the end of its body."""
    keep_alive_s: Positive = 75.0
    """How long a connection may wait for its next request. Longer than the load balancers in
    front, which often reuse connections after 60 s."""
    max_connections: Annotated[int, Field(ge=1)] = 10_000
    """Connections of one edge; fewer where its limit of open files is lower. Beyond it, the
    connection that has waited longest for a request makes room; where none waits, the new one
    gets 503."""
    max_connections_per_address: Annotated[int, Field(ge=0)] = 0
    """Connections of one address (IPv6: of a /64) to one edge, the trusted proxies' not counted;
    0 for no limit."""

    heartbeat_s: Positive = 15.0
    """How often a request without news is read again from the store. Its readers hear a comment
    then, or sooner (``silence_s``)."""
    silence_s: Positive = 3.0
    """How long a reader may hear nothing before it goes to another edge. State events carry it;
    heartbeats come at least every half of it."""
    store_lost_s: Positive = 3.0
    """An edge that the store has not answered for this long sends its readers elsewhere."""
    ring_chunks: Annotated[int, Field(ge=1)] = 256
    """Chunks of each followed request that are kept in memory; older ones are read from the log."""
    ring_bytes: Annotated[int, Field(ge=1024)] = 65_536
    """Bytes of each followed request that are kept in memory; older chunks are read from the
    log."""
    restore_grace_s: Annotated[float, Field(ge=0)] = 5.0
    """How long a request that the store lost with its data is waited for: its generator gives it
    back once it is connected again, which takes it up to 2 s."""
    linger_s: Positive = 2.0
    """How long a request is followed after its last reader left."""
    socket_buffer_bytes: Annotated[int, Field(ge=4096)] = 32_768
    """Bytes that may wait here for one reader's socket before writing to it stops."""
    tcp_user_timeout_s: Positive = 30.0
    """A peer that acknowledges nothing for this long is gone."""

    max_connection_age_s: Annotated[float, Field(ge=0)] = 0.0
    """A stream that has been open about this long is sent to come back, so that new edges get
    readers; 0 for never. Those who cannot be told stay."""
    drain_delay_s: Annotated[float, Field(ge=0)] = 0.0
    """Between turning unready and sending readers elsewhere: time for load balancers to see it."""
    drain_spread_s: Annotated[float, Field(ge=0)] = 1.0
    """Readers are sent away over this long, so that they do not all arrive at once."""
    grace_s: Positive = 20.0
    """From the signal to the exit, at most."""

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
            what = "it is no JSON object"
        if what:
            raise ValueError(
                f"cannot count with {path}: {what}; name the model's tokenizer.json or its folder, "
                "or unset it, and generators find out what is too long"
            )
        return str(path)

    @field_validator("edges", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip().rstrip("/") for part in value.split(",") if part.strip())
        return value

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _are_names(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(part.strip().lower() for part in value.split(",") if part.strip())

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _are_networks(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(ip_network(part.strip()) for part in value.split(",") if part.strip())

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

"""Finds variables that begin with ``LORE_`` and are no setting, so that a typo is reported.

Each part knows the names of all parts, because they often share an environment. A name that is
nearly a known one counts as a mistake and is refused. Any other may belong to somebody else, and is
only reported.
"""

from collections.abc import Iterable
from difflib import get_close_matches

PREFIX = "LORE_"
_SERVICES = """
    ALLOWED_HOSTS API_KEYS_FILE ASYNC_BATCHING ATTENTION AUTH BODY_TIMEOUT_S COALESCE_CHARS
    COALESCE_DELAY_S CONTEXT_TOKENS CORS_ORIGINS CUDA_GRAPHS DEFAULT_MAX_TOKENS DEVICE_MAP
    DRAIN_DELAY_S DRAIN_S DRAIN_SPREAD_S DTYPE EDGES EDGE_ID ENGINE ENGINE_ANSWER_S ENGINE_CA_FILE
    ENGINE_KEY_FILE ENGINE_URL FAIR_QUANTUM_S GENERATOR_ID GRACE_S HEAD_TIMEOUT_S HEALTH_HOST
    HEALTH_PORT HEARTBEAT_S HOST JWT_AUDIENCE JWT_ISSUER JWT_JWKS KEEP_ALIVE_S KV_PAGE_TOKENS
    KV_TOKENS LEASE_S LINGER_S LOG_LEVEL MAX_BODY_BYTES MAX_CONNECTIONS
    MAX_CONNECTIONS_PER_ADDRESS MAX_CONNECTION_AGE_S MAX_FIELDS MAX_FIELD_BYTES MAX_HEAD_BYTES
    MAX_KEPT MAX_MESSAGES MAX_MESSAGE_CHARS MAX_PROMPT_CHARS MAX_REQUESTS MAX_TOKENS MAX_URL_BYTES
    MODEL MODEL_CACHE MODEL_REVISION NAMESPACE OPENAI_PACE OTHER_MODEL PACE PACE_CALM_S PACE_LEAD
    PACE_READING PACE_STEP PACING PARTS POLICY POLL_S PORT PROMETHEUS_URL QUEUE_LIMIT RELEASE
    REQUESTS_PER_MINUTE RESTORE_GRACE_S RETENTION_FLOOR_S RETENTION_S RETRY_WINDOW_S
    RETURN_GRACE_S RING_BYTES RING_CHUNKS ROOT_PATH SECRET SHARE_BY SILENCE_S SLOTS
    SOCKET_BUFFER_BYTES STEP_TIMEOUT_S STORE_LOST_S STORE_WAIT_S STREAMS_PER_CLIENT STREAM_TOKEN_S
    SWEEP_S SYNTHETIC_LENGTH SYNTHETIC_RATE SYSTEM_PROMPT TCP_USER_TIMEOUT_S TEMPLATE_ARGS THREADS
    TOKENIZER TOKENS_PER_MINUTE TP_PLAN TRUSTED_PROXIES VALKEY_URL WINDOW_INITIAL WINDOW_MAXIMUM
    WINDOW_SILENCE_S
"""
SERVICES = frozenset(_SERVICES.split())
"""The settings of edges, generators and the operator."""
OTHERS = frozenset({"API_KEY", "DATA_DIR", "OTHER_URL", "STALL_S", "URL"})
"""The settings of the command line and the examples."""
ALIKE, SUGGESTED = 0.85, 0.75


def judge(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Judge an environment's names: a line for each mistake, and one for each ignored name."""
    mistakes, ignored = list[str](), list[str]()
    known = [PREFIX + name for name in sorted(SERVICES | OTHERS)]
    for name in sorted(names):
        if not name.startswith(PREFIX) or name in known:
            continue
        if get_close_matches(name, known, 1, ALIKE):
            near = " or ".join(get_close_matches(name, known, 2, SUGGESTED))
            mistakes.append(f"{name}: there is no such setting; did you mean {near}?")
        else:
            ignored.append(f"{name}: there is no such setting, and it is ignored")
    return mistakes, ignored

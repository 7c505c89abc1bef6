"""The keys of a request's state in Valkey.

Every key of a request carries its partition as hash tag, so that one function call touches one slot
and the same code runs on one server and on a cluster. The partition's queue, leases and index are
in the same slot and change in the same atomic call.

 key | type | holds |
---|---|---|
 ``lore:{pNN}:r:<id>`` | hash | the request |
 ``lore:{pNN}:c:<id>`` | stream | its log, entry id ``<seq>-0`` |
 ``lore:{pNN}:x:<id>`` | string | for an hour, that it was deleted; ``elsewhere`` (``lore_open``) |
 ``lore:{pNN}:q`` | sorted set | waiting requests by their place, which they keep |
 ``lore:{pNN}:lease`` | sorted set | owned requests by the end of their lease |
 ``lore:{pNN}:live`` | sorted set | live requests by their last progress |
 ``lore:{pNN}:ended`` | sorted set | all others by when their memory may be reused |
 ``lore:{pNN}:s:<client>`` | sorted set | the client's live requests, and some that ended |
 ``lore:{pNN}:t:<client>`` | string | where in the queues the client's next request stands |
 ``lore:{pNN}:m:<client>`` | sorted set | the client's requests of the last minute |
 ``lore:{pNN}:k:<client>`` | hash | the tokens that each of those counts for, and their sum |
 ``lore:{pNN}:u:<subject>`` | sorted set | the subject's requests by when they were accepted |
 ``lore:{pNN}:a:<mark>`` | sorted set | requests of one body, by when they were last asked for |
 ``lore:{pNN}:model`` | hash | what generators publish about their model |
 ``lore:{pNN}:met`` | sorted set | the names of generators by when they last announced them |
 ``lore:{pNN}:n:<id>`` | sharded channel | to the edges |
 ``lore:{pNN}:b:<id>`` | sharded channel | back to the owner |
 ``lore:{pNN}:o:<owner>`` | sharded channel | a generator's own: it lives while it is subscribed |
 ``lore:{pNN}:wake`` | sharded channel | a request waits in the partition |
"""

import hashlib
from functools import cache, lru_cache

PARTITIONS = 64
CACHED = 2048  # request ids: more than a generator, the heaviest user, has under way


@lru_cache(CACHED)
def partition_of(request_id: str) -> int:
    """The partition of a request, 0 to PARTITIONS - 1; it never changes."""
    return hashlib.blake2b(request_id.encode(), digest_size=1).digest()[0] % PARTITIONS


@cache
def prefix(partition: int) -> str:
    return f"lore:{{p{partition:02d}}}:"


@lru_cache(CACHED)
def request_key(request_id: str) -> str:
    return f"{prefix(partition_of(request_id))}r:{request_id}"


@lru_cache(CACHED)
def log_key(request_id: str) -> str:
    return f"{prefix(partition_of(request_id))}c:{request_id}"


@lru_cache(CACHED)
def request_keys(request_id: str) -> tuple[str, str]:
    """The keys of a request's hash and of its log."""
    return request_key(request_id), log_key(request_id)


def reader_channel(request_id: str) -> str:
    return f"{prefix(partition_of(request_id))}n:{request_id}"


def owner_channel(request_id: str) -> str:
    return f"{prefix(partition_of(request_id))}b:{request_id}"


@lru_cache(CACHED)
def own_channel(partition: int, owner: str) -> str:
    return f"{prefix(partition)}o:{owner}"


@cache
def wake_channel(partition: int) -> str:
    return f"{prefix(partition)}wake"


def client_keys(client: str) -> tuple[str, str, str, str]:
    """The keys (open requests, turn, last minute, tokens) of a client, in the client's
    partition.
    """
    tag = prefix(partition_of(client))
    return f"{tag}s:{client}", f"{tag}t:{client}", f"{tag}m:{client}", f"{tag}k:{client}"


def subject_key(subject: str) -> str:
    return f"{prefix(partition_of(subject))}u:{subject}"


def attempts_key(mark: str) -> str:
    return f"{prefix(partition_of(mark))}a:{mark}"


def met_key() -> str:
    return f"{prefix(partition_of(''))}met"


def model_key() -> str:
    return f"{prefix(partition_of(''))}model"


@cache
def partition_keys(partition: int) -> tuple[str, str, str]:
    """The keys (queue, lease, live) of a partition."""
    tag = prefix(partition)
    return f"{tag}q", f"{tag}lease", f"{tag}live"


def ended_key(partition: int) -> str:
    return f"{prefix(partition)}ended"

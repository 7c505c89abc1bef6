"""What the calls for answers have in common."""

import hashlib
from dataclasses import dataclass

from lore_generator.engine import Job
from lore_generator.engines.remote.dialects.base import EngineDialect
from lore_generator.engines.remote.pool import ServerPool
from lore_generator.engines.remote.words import Words


@dataclass(frozen=True, slots=True)
class CallContext:
    """What all answers of one engine share."""

    dialect: EngineDialect
    pool: ServerPool
    words: Words
    model: str
    context_tokens: int
    step_s: float


def call_seed(job: Job, position: int) -> int:
    """The seed of a call. Each call has another one: with the same seed, each would repeat the
    draws of the first. A request without a seed draws by its id.
    """
    seed = job.request.seed
    if seed is None:
        seed = job.request_id.partition(".")[0]
    drawn = hashlib.blake2b(f"{seed} {position}".encode(), digest_size=4).digest()
    return int.from_bytes(drawn) >> 1

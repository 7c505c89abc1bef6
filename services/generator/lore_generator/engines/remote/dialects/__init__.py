"""The remote engines, by the names of ``LORE_ENGINE``."""

from lore_generator.engines.remote.dialects.base import EngineDialect
from lore_generator.engines.remote.dialects.llamacpp import LlamaCpp
from lore_generator.engines.remote.dialects.sglang import SGLang
from lore_generator.engines.remote.dialects.vllm import VLLM

DIALECTS: dict[str, EngineDialect] = {
    dialect.name: dialect for dialect in (LlamaCpp(), VLLM(), SGLang())
}

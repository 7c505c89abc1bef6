"""The engines by name. Only the transformers engine imports torch, and only when asked for."""

from lore_generator.engine import Engine
from lore_generator.engines.options import RemoteOptions, SyntheticOptions, TransformersOptions
from lore_generator.engines.synthetic import SyntheticEngine

REMOTE = ("llamacpp", "sglang", "vllm")
ENGINES = ("synthetic", "transformers", *REMOTE)


def create_engine(name: str, options: object = None) -> Engine:
    """An engine that is not started yet.

    ``options`` are those of the engine; None means the defaults, which a remote engine does not
    have. Raises ValueError for an unknown name and for missing packages.
    """
    if name == "synthetic":
        assert options is None or isinstance(options, SyntheticOptions)
        return SyntheticEngine(options)
    if name == "transformers":
        try:
            from lore_generator.engines.transformers_engine import TransformersEngine
        except ImportError as missing:
            raise ValueError(
                f"the transformers engine needs {missing.name}:"
                " pip install 'lore-generator[transformers]'"
            ) from None
        assert options is None or isinstance(options, TransformersOptions)
        return TransformersEngine(options)
    if name in REMOTE:
        try:
            from lore_generator.engines.remote.engine import RemoteEngine
        except ImportError as missing:
            raise ValueError(
                f"the engine {name} needs {missing.name}: pip install 'lore-generator[remote]'"
            ) from None
        assert isinstance(options, RemoteOptions)
        return RemoteEngine(options)
    raise ValueError(f"unknown engine {name!r}; the engines are {', '.join(ENGINES)}")

"""The engines by name. Only the transformers engine imports torch, and only when asked for."""

from lore_generator.engine import Engine
from lore_generator.engines.options import SyntheticOptions
from lore_generator.engines.synthetic import SyntheticEngine

ENGINES = ("synthetic",)


def create_engine(name: str, options: object = None) -> Engine:
    """An engine that is yet to be started.

    ``options`` is ``SyntheticOptions`` or ``TransformersOptions`` to match; None takes the
    defaults. Raises ValueError for an unknown name and for missing packages.
    """
    if name == "synthetic":
        assert options is None or isinstance(options, SyntheticOptions)
        return SyntheticEngine(options)
    raise ValueError(f"no engine is called {name!r}; there are {', '.join(ENGINES)}")

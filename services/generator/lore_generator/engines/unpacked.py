"""A GGUF file unpacked into a folder of weights, once, so that later starts take seconds.

transformers reads a GGUF file three times and restores its weights in Python. That takes half a
minute for the smallest model, and must not happen at every start of a pod.
"""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import structlog
import transformers
from filelock import FileLock
from transformers import AutoModelForCausalLM, AutoTokenizer

log = structlog.get_logger()


def unpacked(file: Path, cache: str | None) -> Path | None:
    """The folder with the file's model. It is created if necessary.

    ``cache`` contains such folders; None means ``lore/models`` in the user's cache. Returns None if
    nothing can be stored. Raises whatever a broken file makes transformers raise.
    """
    users = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    parent = Path(cache) if cache else Path(users).expanduser() / "lore" / "models"
    folder = parent / f"{file.stem}-{_mark(file)}"
    if folder.is_dir():
        return folder
    try:
        parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_suffix(".lock"))
        with lock:  # generators that start together unpack only once
            if not folder.is_dir():
                _unpack(file, folder)
    except OSError as error:
        log.warning("unpacked model not kept", folder=str(parent), reason=error.strerror)
        return None
    return folder


def _mark(file: Path) -> str:
    """A name that differs for another file of the same name, and for another version of the
    library.
    """
    stat = file.stat()
    facts = f"{stat.st_size} {stat.st_mtime_ns} {transformers.__version__}"
    return hashlib.blake2b(facts.encode(), digest_size=6).hexdigest()


def _unpack(file: Path, folder: Path) -> None:
    log.info("unpacking model once", folder=str(folder))
    where = {"gguf_file": file.name}
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        model = AutoModelForCausalLM.from_pretrained(file.parent, dtype="auto", **where)
        tokenizer = AutoTokenizer.from_pretrained(file.parent, config=model.config, **where)
        # The file's quantisation is undone, and so is the ban on saving that came with it.
        del model.hf_quantizer
        vars(model.config).pop("quantization_config")
        model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)

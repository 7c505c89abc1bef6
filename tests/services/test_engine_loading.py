"""A model that cannot be had is one clear line, at once."""

from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi
from transformers import AutoModelForCausalLM

from lore_generator.engines import create_engine, loading, unpacked
from lore_generator.engines.loading import ModelSource, find
from lore_generator.engines.options import TransformersOptions


def refusal(model: str) -> str:
    with pytest.raises(ValueError, match=r"model|GGUF") as refused:
        create_engine("transformers", TransformersOptions(model=model)).start(lambda _: None)
    message = str(refused.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("model", ["./nowhere", "/nowhere/at/all", "~/nowhere", "nowhere.gguf"])
def test_a_path_that_is_not_there_is_named(model: str) -> None:
    assert refusal(model) == f"no model at {model}: there is no such file or folder"


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    assert "neither config.json nor a GGUF file" in refusal(str(tmp_path))


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(b"weights")
    assert "not a GGUF file" in refusal(str(path))


def test_a_broken_model_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert refusal(str(tmp_path)).startswith(f"cannot load the model {tmp_path.name}: ")
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(40))
    assert refusal(str(broken)).startswith("cannot load the model broken: ")


def test_a_folder_with_several_gguf_files_asks_which(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).touch()
    assert "holds 2 GGUF files" in refusal(str(tmp_path))
    assert find(str(tmp_path / "b.gguf")) == ModelSource("b", str(tmp_path), "b.gguf")


def test_a_hub_name_that_cannot_be_had_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def offline(self: HfApi, name: str, **_: object) -> None:
        asked.append(name)
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr(HfApi, "model_info", offline)
    assert "the hub cannot be reached" in refusal("nobody/no-such-model")
    assert asked == ["nobody/no-such-model"]
    assert refusal("not a name!") == "no model at not a name!: neither a path nor a hub name"


COMMIT = "0123456789abcdef" * 2 + "01234567"


def test_a_hub_model_is_loaded_at_the_revision_that_was_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[object] = []

    def known(self: HfApi, name: str, *, revision: str | None, **_: object) -> None:
        asked.append(revision)

    def fetched(path: str, **where: object) -> None:
        asked.append(where.get("revision"))
        raise ConnectionError("far enough")

    monkeypatch.setattr(HfApi, "model_info", known)
    monkeypatch.setattr(loading.AutoModelForCausalLM, "from_pretrained", fetched)
    for revision in (COMMIT, None):
        with pytest.raises(ValueError, match="far enough"):
            loading.load(TransformersOptions(model="nobody/no-such-model", revision=revision))
    assert asked == [COMMIT, COMMIT, None, None]


def test_a_model_that_is_here_has_no_revision(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="LORE_MODEL_REVISION is for models on the hub"):
        loading.load(TransformersOptions(model=str(tmp_path), revision=COMMIT))


def test_the_default_model_comes_with_its_package() -> None:
    assert find(None).name == "SmolLM2-135M-Instruct.Q4_1"


@pytest.mark.model
def test_a_gguf_model_is_unpacked_once_and_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = TransformersOptions(cache=str(tmp_path / "models"))
    packed: list[Any] = []

    class Watched(AutoModelForCausalLM):
        @classmethod
        def from_pretrained(cls, *args: Any, **more: Any) -> Any:
            packed.append(AutoModelForCausalLM.from_pretrained(*args, **more))
            return packed[-1]

    monkeypatch.setattr(unpacked, "AutoModelForCausalLM", Watched)
    first, second = loading.load(kept), loading.load(kept)
    assert len(packed) == 1
    assert weights(first.model) == weights(second.model) == weights(packed[0])
    assert first.eos_ids == second.eos_ids == {packed[0].generation_config.eos_token_id}
    assert "<|im_start|>" in first.tokenizer.chat_template


def test_without_room_for_the_unpacked_model_the_file_is_loaded_as_it_is(tmp_path: Path) -> None:
    broken, cache = tmp_path / "broken.gguf", tmp_path / "a-file"
    broken.write_bytes(b"GGUF" + bytes(40))
    cache.touch()
    with pytest.raises(ValueError, match="cannot load the model broken"):
        loading.load(TransformersOptions(model=str(broken), cache=str(cache)))


def weights(model: Any) -> dict[str, bytes]:
    return {
        name: weight.view(torch.uint8).numpy().tobytes()
        for name, weight in model.state_dict().items()
    }


def test_a_model_that_cannot_be_unpacked_leaves_nothing_behind(tmp_path: Path) -> None:
    broken, cache = tmp_path / "broken.gguf", tmp_path / "models"
    broken.write_bytes(b"GGUF" + bytes(40))
    with pytest.raises(ValueError, match="cannot load the model broken"):
        loading.load(TransformersOptions(model=str(broken), cache=str(cache)))
    assert [path for path in cache.iterdir() if path.is_dir()] == []

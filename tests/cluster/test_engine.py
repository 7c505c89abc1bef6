"""llama.cpp, unmodified, as the second container of the generators' pods: asked, killed and deleted
under readers who compare with what it answers undisturbed.

Its program and its model are folders of this machine, which must be the node.
"""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.another import another, has_image
from tests.cluster.killer import kill, start_killer
from tests.cluster.kube import Object, until
from tests.cluster.load import Load
from tests.cluster.release import SMALL, VALUES, Release, merged
from tests.cluster.test_release import pick, restarts
from tests.engines import llamacpp
from tests.engines.server import gguf
from tests.faults.engines import TOPICS, draw
from tests.faults.readers import Question, ask_alone

TAG = "0.1.0-remote"
STREAMS = 8
TOKENS = 24
PORT, SLOTS, CONTEXT_TOKENS = 8000, 4, 8192
MACHINE_ID = Path("/etc/machine-id")


def values(edge_image: str) -> dict[str, Any]:
    """The edge's image has a shell and a C library, and is on the node."""
    model = gguf()
    assert model is not None
    folders = {"program": llamacpp.UNPACKED.parent, "model": model.parent}
    words = {
        "--model": f"/model/{model.name}",
        "--host": "0.0.0.0",
        "--port": PORT,
        "--threads": 1,
        "--parallel": SLOTS,
        "--ctx-size": CONTEXT_TOKENS,
    }
    theirs = {
        "image": {"tag": TAG},
        "settings": {"leaseS": VALUES["generator"]["settings"]["leaseS"]},
        "engine": {
            "type": "llamacpp",
            "image": edge_image,
            "command": [f"/program/{llamacpp.UNPACKED.name}"],
            "args": [str(word) for pair in words.items() for word in pair] + ["--metrics"],
            "port": PORT,
            "resources": SMALL,
        },
        "extraVolumes": [
            {"name": name, "hostPath": {"path": str(folder), "type": "Directory"}}
            for name, folder in folders.items()
        ],
        "extraVolumeMounts": [
            {"name": name, "mountPath": f"/{name}", "readOnly": True} for name in folders
        ],
    }
    generator = {key: one for key, one in VALUES["generator"].items() if key != "settings"}
    return VALUES | {"generator": merged(generator, theirs)}


@pytest.fixture(scope="module")
def driven(nodes: list[Object], release: Release) -> Iterator[Release]:
    """A release of its own; the tests' first one only lends the name of an image."""
    if why := llamacpp.missing():
        pytest.skip(why)
    if not llamacpp.UNPACKED.is_file():
        pytest.skip("LORE_TEST_LLAMA_SERVER names another llama.cpp; the pods take Debian's")
    if not has_image(nodes, f"lore-generator:{TAG}"):
        pytest.skip(f"no node has the image lore-generator:{TAG}")
    here = MACHINE_ID.read_text().strip() if MACHINE_ID.is_file() else ""
    if [node["status"]["nodeInfo"]["machineID"] for node in nodes] != [here]:
        pytest.skip("this machine, which has llama.cpp and the model, is not the only node")
    image = release.pods("edge")[0]["spec"]["containers"][0]["image"]
    with another("lore-engine", nodes, values(image)) as driven:
        driven.install()
        start_killer(driven.namespace, image)
        yield driven


@pytest.fixture(scope="module")
def known() -> list[Question]:
    """Answers of an undisturbed fleet, once one test has asked for them."""
    return []


async def asked_alone(release: Release, topic: str) -> Question:
    text = f"In short: what is {topic}?"
    plain: dict[str, Any] = {"repetition_penalty": 1.0, "max_tokens": TOKENS}
    return await ask_alone([release.url], text, api_key=release.api_key, **plain)


async def undisturbed(release: Release, known: list[Question]) -> list[Question]:
    if not known:
        known += [await asked_alone(release, topic) for topic in TOPICS[:STREAMS]]
    return known


async def under_load(release: Release, known: list[Question]) -> Load:
    pairs = [(one.messages, one.answer) for one in await undisturbed(release, known)]
    return Load(release, STREAMS, draw=lambda rng, _: draw(rng, pairs, TOKENS))


def test_helm_test_is_green_with_an_engine_of_others(driven: Release) -> None:
    said = driven.test()
    print(said)
    assert "all three readers agree" in said


async def test_a_question_is_answered_twice_alike_by_an_engine_of_others(
    driven: Release, known: list[Question]
) -> None:
    first = random.Random(1).choice(await undisturbed(driven, known))
    print(first.answer)
    again = await ask_alone(
        [driven.url], first.messages[0]["content"], api_key=driven.api_key, **first.parameters
    )
    assert first.answer
    assert again.answer == first.answer


async def test_a_killed_engine_costs_no_reader_a_character(
    driven: Release, known: list[Question]
) -> None:
    """P1, P2. The generator beside it goes on, and takes the engine that Kubernetes restarts."""
    async with await under_load(driven, known) as load:
        before = restarts(driven, "generator")
        await kill(driven.namespace, await pick(driven, "generator"), "engine")
        await until(lambda: restarts(driven, "generator") > before, "a restart of the engine")
        await asyncio.to_thread(driven.settled)
    load.report("the engine's container, kill -9")
    assert load.violations == []


async def test_a_deleted_pod_with_its_engine_costs_no_reader_a_character(
    driven: Release, known: list[Question]
) -> None:
    """P1, P2, P15."""
    async with await under_load(driven, known) as load:
        name = (await pick(driven, "generator"))["metadata"]["name"]
        await asyncio.to_thread(driven.namespace, "delete", "pod", name, timeout_s=120)
        await asyncio.to_thread(driven.settled)
    load.report("a generator's pod with its engine, deleted")
    assert load.violations == []

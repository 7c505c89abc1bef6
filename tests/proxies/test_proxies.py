"""Behind every proxy, every client gets its whole answer (protocol P8, P11, P18)."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lore_client.ask import HELD_BACK as HELD_BACK_WORDS
from tests import programs
from tests.browser.stack import Stack, lore_up
from tests.proxies.proxies import HELD_BACK, PROXIES
from tests.proxies.trials import LIMIT_S, QUESTION, RATE, all_clients, whole

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def lore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with lore_up(tmp_path_factory.mktemp("lore"), "--edges", "1", **RATE) as stack:
        yield stack


@pytest.mark.rule("P18.1")
@pytest.mark.parametrize("name", PROXIES)
async def test_every_client_reads_the_whole_answer(name: str, lore: Stack, tmp_path: Path) -> None:
    edge = lore.urls[0]
    with PROXIES[name].start(tmp_path, int(edge.rpartition(":")[2])) as url:
        for client, said in (await all_clients(url)).items():
            assert said["text"] == await whole(edge, said["id"]) != "", client
            if name in ("none", HELD_BACK) and "polls" in said:
                assert (said["polls"] > 0) == (name == HELD_BACK), client


async def test_lore_ask_says_why_the_answer_comes_in_parts(lore: Stack, tmp_path: Path) -> None:
    edge = lore.urls[0]
    with PROXIES[HELD_BACK].start(tmp_path, int(edge.rpartition(":")[2])) as url:
        program = str(Path(sys.executable).with_name("lore"))
        argv = (program, "ask", "--edge", url, QUESTION)
        done = await programs.run(*argv, env=os.environ, limit_s=LIMIT_S)
    assert done.status == 0
    request_id = done.err.split()[1]
    assert done.out == await whole(edge, request_id) + "\n"
    assert HELD_BACK_WORDS in done.err

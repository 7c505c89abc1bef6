"""Tensor parallelism: one rank serves, the others only decode with it."""

import signal
import threading

import pytest

from lore_generator import main as generator
from lore_generator import ranks
from lore_generator.engine import EngineInfo, Sink
from lore_generator.engines.synthetic import SyntheticEngine

WAIT_S = 10.0


class Shard(SyntheticEngine):
    """Alive until the first rank says that it ends."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.over = threading.Event(), threading.Event()

    def start(self, sink: Sink) -> EngineInfo:
        self.begun.set()
        return EngineInfo("a model", 1, 1)

    def alive(self) -> bool:
        return not self.over.is_set()


@pytest.mark.parametrize(
    ("rank", "plan", "serves"),
    [("0", "auto", True), ("1", "auto", False), ("", "auto", True), ("1", "", True)],
)
def test_only_the_first_rank_opens_the_store_and_the_health_port(
    monkeypatch: pytest.MonkeyPatch, rank: str, plan: str, serves: bool
) -> None:
    """Their port is the same, and so would be their leases' owner."""
    opened: list[str] = []
    shard = Shard()
    shard.over.set()

    def stop(what: str) -> None:
        opened.append(what)
        raise SystemExit

    monkeypatch.setattr(generator, "configure_logging", lambda *_: None)
    monkeypatch.setattr(generator, "_exit", lambda status, _="": exit(status))
    monkeypatch.setattr(generator, "open_store", lambda _: stop("store"))
    monkeypatch.setattr(generator, "create_engine", lambda *_: shard)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    if rank:
        monkeypatch.setenv("RANK", rank)
    if plan:
        monkeypatch.setenv("LORE_TP_PLAN", plan)
    with pytest.raises(SystemExit) as ended:
        generator.main()
    assert bool(opened) == serves
    assert shard.begun.is_set() != serves
    if not serves:
        assert ended.value.code == 0


def test_a_follower_ignores_signals_and_ends_with_the_first_rank(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handled: dict[int, object] = {}
    monkeypatch.setattr(signal, "signal", handled.__setitem__)
    shard = Shard()
    following = threading.Thread(target=ranks.follow, args=(shard,), daemon=True)
    following.start()
    assert shard.begun.wait(WAIT_S)
    assert handled == {signal.SIGTERM: signal.SIG_IGN, signal.SIGINT: signal.SIG_IGN}
    assert following.is_alive()
    shard.over.set()
    following.join(WAIT_S)
    assert not following.is_alive()

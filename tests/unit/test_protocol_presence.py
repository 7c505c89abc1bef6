"""What one look at the owners says, and what it takes to miss one (P15)."""

from dataclasses import dataclass, field

import pytest

from lore.protocol.commands import Look, Meet, Silent
from lore.protocol.presence import LOOK_EVERY_S, SILENT_S, Looking, Presence

TRIP_S = 0.01


@dataclass
class Servers:
    """Two partitions, each at a server; and a generator that looks at them."""

    lives: dict[int, str] = field(default_factory=lambda: {0: "one", 1: "one"})
    ready: set[int] = field(default_factory=lambda: {0, 1})
    there: set[str] = field(default_factory=lambda: {"me", "other"})
    now: float = 100.0

    def __post_init__(self) -> None:
        self.presence = Presence(
            *("me", (0, 1)),
            run_id=self.lives.__getitem__,
            is_ready=self.ready.__contains__,
            now=self.now,
        )
        self.presence.on_met(["me", "other"])

    def asks(self) -> list[tuple[Looking | None, Look | Meet]]:
        self.now = max(self.now, self.presence.deadline())
        self.presence.on_time(self.now)
        return self.presence.take()

    def look(self) -> bool:
        """Look everywhere. True when there is something new to claim."""
        news = False
        asked = self.asks()
        self.now += TRIP_S
        for looking, command in asked:
            assert looking is not None
            assert isinstance(command, Look)
            present = [owner for owner in command.owners if owner in self.there]
            news |= self.presence.on_looked(looking, command, present, self.now)
        return news

    def until_news(self) -> float:
        """How long it takes to miss somebody."""
        began_s = self.now
        while not self.look():
            assert self.now < began_s + 10
        return self.now - began_s


@pytest.mark.rule("P15.12")
def test_an_owner_that_was_there_is_missed_after_two_looks() -> None:
    servers = Servers()
    assert not servers.look()
    assert servers.presence.watched == 1
    servers.there.discard("other")
    took_s = servers.until_news()
    assert SILENT_S < took_s < SILENT_S + LOOK_EVERY_S + 4 * TRIP_S
    assert servers.presence.silent == (Silent("one", round(SILENT_S * 1000), ("other",)),)


@pytest.mark.rule("P15.12")
def test_one_that_is_back_in_between_is_not() -> None:
    servers = Servers()
    servers.look()
    servers.there.discard("other")
    assert not servers.look()
    servers.there.add("other")
    assert not servers.look()
    servers.there.discard("other")
    assert servers.until_news() > SILENT_S
    servers.there.add("other")
    servers.look()
    assert servers.presence.silent == ()


@pytest.mark.rule("P15.11")
def test_nobody_is_missed_who_was_not_seen_on_that_server() -> None:
    servers = Servers(there={"me"})
    assert not any(servers.look() for _ in range(20))
    servers.there.add("other")
    servers.look()
    servers.lives |= {0: "two", 1: "two"}
    servers.there.discard("other")
    assert not any(servers.look() for _ in range(20))


@pytest.mark.rule("P15.11")
def test_who_was_not_heard_itself_has_seen_nobody() -> None:
    servers = Servers()
    servers.look()
    servers.presence.on_store_back()
    servers.there.discard("other")
    assert not any(servers.look() for _ in range(20))


@pytest.mark.rule("P15.10")
def test_each_server_is_asked_once_and_where_this_one_is_heard() -> None:
    servers = Servers()
    assert [command for _, command in servers.asks()] == [Look(0, ("other",))]
    assert servers.asks() == []  # it has not answered
    servers = Servers(lives={0: "one", 1: "two"})
    assert [command for _, command in servers.asks()] == [
        Look(0, ("other",)),
        Look(1, ("other",)),
    ]
    servers = Servers(lives={0: "one", 1: "two"}, ready={1})
    assert [command for _, command in servers.asks()] == [Look(1, ("other",))]
    assert servers.presence.unheard == [0]


def test_an_answer_of_another_server_counts_for_nothing() -> None:
    servers = Servers()
    ((looking, look),) = servers.asks()
    assert looking is not None
    assert isinstance(look, Look)
    servers.lives[0] = "two"
    assert not servers.presence.on_looked(looking, look, ["other"], servers.now)
    assert servers.presence.watched == 0


def test_a_look_that_is_lost_is_made_again() -> None:
    servers = Servers()
    ((looking, _),) = servers.asks()
    assert looking is not None
    servers.presence.on_lost(looking)
    assert len(servers.asks()) == 1


def test_whoever_is_met_no_more_is_forgotten() -> None:
    servers = Servers()
    servers.look()
    servers.there.discard("other")
    servers.until_news()
    servers.presence.on_met(["me"])
    assert (servers.presence.silent, servers.presence.watched) == ((), 0)
    assert servers.asks() == []


def test_it_tells_its_name() -> None:
    servers = Servers()
    servers.presence.meet()
    ((_, command),) = servers.presence.take()
    assert isinstance(command, Meet)
    assert command.owner == "me"

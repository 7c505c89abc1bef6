"""The limits of clients (P17): whatever is asked for, when, and over whatever is lost, Valkey
judges as its twin does, and no minute has more than a limit allows."""

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from lore.store.base import Admission, Limits
from lore.store.keys import client_keys
from lore.store.memory.limits import MINUTE_MS, Account
from lore.store.memory.state import StoreState
from lore.store.types import Admit, Leave, Settle
from tests.store.backends import KINDS, expire_keys
from tests.store.real import RealStore, broken, real

__all__ = ["real"]

CLIENTS = ["a", "b"]
IDS = [f"r{number}" for number in range(6)]

clients = st.sampled_from(["a", "a", "a", "b"])
ids = st.sampled_from(IDS)
used = st.one_of(st.none(), st.integers(0, 30))


class AccountMachine(RuleBasedStateMachine):
    snapshots = Bundle("snapshots")

    def __init__(self, real: RealStore) -> None:
        super().__init__()
        self.real = real
        self.real.now_ms = 4_000_000_000_000  # later than any server's own clock
        self.twin = StoreState("run-0")
        self.real.restart({}, "run-0")
        self.admitted: list[tuple[int, str, str]] = []

    def both(self, command: Any) -> Any:
        expected: Any = self.twin.do(command, now_ms=self.real.now_ms)
        answer, _ = self.real.call(command)
        assert answer == expected
        return answer

    @initialize(
        streams=st.sampled_from([0, 0, 2, 3]),
        requests=st.sampled_from([0, 2, 3]),
        tokens=st.sampled_from([0, 20, 50]),
        quantum_ms=st.sampled_from([0, 30, 3_600_000]),
    )
    def begin(self, streams: int, requests: int, tokens: int, quantum_ms: int) -> None:
        self.limits = Limits(streams, requests, tokens)
        self.quantum_ms = quantum_ms
        self.admit("a", "r0", 10)
        self.pass_time(20_000)

    @rule(client=clients, request_id=ids, tokens=st.integers(1, 25))
    def admit(self, client: str, request_id: str, tokens: int) -> None:
        self.admit_within(self.limits, client, request_id, tokens)

    @rule(request_ids=st.permutations(IDS), ms=st.sampled_from([1, 20_000]))
    def admit_some_in_turn(self, request_ids: list[str], ms: int) -> None:
        for request_id in request_ids[:3]:
            self.admit("a", request_id, 5)
            self.pass_time(ms)

    @rule(client=clients, request_id=ids, tokens=st.integers(1, 25))
    def admit_at_an_edge_without_limits(self, client: str, request_id: str, tokens: int) -> None:
        self.admit_within(Limits(), client, request_id, tokens)

    def admit_within(self, limits: Limits, client: str, request_id: str, tokens: int) -> None:
        known = self.is_counted(client, request_id, limits)
        admission: Admission = self.both(Admit(client, request_id, limits, tokens, self.quantum_ms))
        account = self.twin._accounts[client]
        if limits is self.limits and admission.admitted and not known:
            self.admitted.append((self.real.now_ms, client, request_id))
            self.check_limits(client, account)
        if admission.limit in ("requests", "tokens"):
            assert 0 < admission.wait_ms <= MINUTE_MS

    def is_counted(self, client: str, request_id: str, limits: Limits) -> bool:
        account = self.twin._accounts.get(client, Account())
        admitted_ms = account.minute_ms.get(request_id, 0)
        is_open = bool(limits.streams) and request_id in account.open_ms
        return is_open or admitted_ms > self.real.now_ms - MINUTE_MS

    def check_limits(self, client: str, account: Account) -> None:
        """In the minute up to now, by what this machine has seen admitted."""
        since = self.real.now_ms - MINUTE_MS
        minute = {name for ms, whose, name in self.admitted if whose == client and ms > since}
        if limit := self.limits.requests_per_minute:
            assert len(minute) <= limit
        if limit := self.limits.tokens_per_minute:
            assert sum(account.tokens.values()) <= limit
        if limit := self.limits.streams:
            assert len(account.open_ms) <= limit

    @rule(client=clients, ended=st.dictionaries(ids, used, min_size=1, max_size=3))
    def settle(self, client: str, ended: dict[str, int | None]) -> None:
        self.both(Settle(client, ended))

    @rule(client=clients, request_id=ids)
    def leave(self, client: str, request_id: str) -> None:
        self.both(Leave(client, request_id))
        self.admitted = [a for a in self.admitted if a[1:] != (client, request_id)]

    @rule(ms=st.sampled_from([1, 20_000, 40_000, MINUTE_MS]))
    def pass_time(self, ms: int) -> None:
        self.real.now_ms += ms
        expire_keys(self.real.admin, self.real.now_ms)

    @rule(target=snapshots)
    def take_snapshot(self) -> Any:
        return (self.twin.snapshot(), self.real.dump(), list(self.admitted))

    @rule(snapshot=snapshots)
    def come_back_as_earlier(self, snapshot: Any) -> None:
        kept, dump, self.admitted = snapshot[0], snapshot[1], list(snapshot[2])
        self.twin.restore(kept, "run-1")
        self.real.restart(dump, "run-1")
        expire_keys(self.real.admin, self.real.now_ms)

    @invariant()
    def the_sum_is_that_of_what_counts(self) -> None:
        for client in CLIENTS:
            tokens: Any = self.real.admin.hgetall(client_keys(client)[3])
            total = int(tokens.pop(b"sum", 0))
            assert total == sum(map(int, tokens.values()))
            account = self.twin._accounts.get(client, Account())
            if tokens:  # else they may be gone with the key's time, and not yet there
                assert {key.decode(): int(n) for key, n in tokens.items()} == account.tokens


def run_machine(real: RealStore, **changes: Any) -> None:
    class Machine(AccountMachine):
        def __init__(self) -> None:
            super().__init__(real)

    Machine.__qualname__ = "AccountMachine"
    arguments = {
        "max_examples": 60,
        "stateful_step_count": 40,
        "deadline": None,
        "suppress_health_check": [HealthCheck.too_slow],
    }
    run_state_machine_as_test(Machine, settings=settings(**(arguments | changes)))


def test_valkey_and_its_twin_judge_alike(real: RealStore) -> None:
    """P17"""
    run_machine(real)


@pytest.mark.parametrize("real", KINDS[1:], indirect=True)
def test_every_kind_of_valkey_judges_alike(real: RealStore) -> None:
    """P17"""
    run_machine(real, max_examples=5)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        pytest.param("  end_minute(m, k, now)\n", "", id="no minute ends"),
        pytest.param(
            "for _, id in ipairs(over) do count(k, id, nil) end", "", id="tokens for ever"
        ),
        pytest.param("if (tokens or 0) ~= before", "if tokens", id="a sum that forgets nothing"),
        pytest.param(
            "and server.call('HEXISTS', k, args[i]) == 1 then", "then", id="settled for ever"
        ),
        pytest.param("longer >= wait", "longer < wait", id="the shorter wait"),
        pytest.param(
            "  server.call('ZREM', m, args[2])\n", "", id="what has not come to be counts"
        ),
    ],
)
def test_the_machine_catches_broken_limits(real: RealStore, right: str, wrong: str) -> None:
    """A check that cannot fail checks nothing."""
    with broken(real, right, wrong), pytest.raises(AssertionError):
        run_machine(
            real, max_examples=150, phases=[Phase.generate], database=None, derandomize=True
        )

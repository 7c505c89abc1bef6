"""What the operator decides: pure functions, without a cluster or a store (P15, P16, P17)."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lore.protocol.lifecycle import LIVE, OWNED, Event, Status, transition
from lore.store.base import View
from lore.sweep import Finding
from lore_operator.fleet import PEAK_MS, Fleet, Observed, OwnerProcess
from lore_operator.plan import Loss, ReapAction, ReleaseAction, SetCost, Tell, deletion_cost, plan
from lore_operator.pods import Pod, hostname_of, pod_from
from lore_operator.policy import StreamPolicy, read_policy
from tests.services import kube_stub
from tests.unit.test_sweep import REQUEST

NOW_MS = 10_000_000
OWNERS = ["gen-1-00000001", "gen-2-00000002", "elsewhere-0000000a"]


def policy(**spec: Any) -> StreamPolicy:
    return read_policy(kube_stub.policy(**spec)["spec"])


POLICY = policy(stall={"afterSeconds": 20}, lease={"seconds": 10})


def pod(name: str = "gen-1", **changes: Any) -> Pod:
    default = Pod(name, f"uid-{name}", name, ready=True, leaving=False, cost=None)
    return replace(default, **changes)


def request(owner: str = OWNERS[0], **changes: Any) -> View:
    moving = {"status": Status.GENERATING, "progress_ms": NOW_MS, "lease_until_ms": NOW_MS + 9_000}
    return replace(REQUEST, owner=owner, **(moving | changes))


@st.composite
def views(draw: st.DrawFn) -> list[View]:
    count = draw(st.integers(0, 6))
    return [draw(_view(f"r{number}")) for number in range(count)]


@st.composite
def _view(draw: st.DrawFn, request_id: str) -> View:
    status = draw(st.sampled_from(sorted(LIVE)))
    owned = status in OWNED
    return request(
        owner=draw(st.sampled_from(OWNERS)) if owned else "",
        request_id=request_id,
        status=status,
        progress_ms=NOW_MS - draw(st.integers(-1_000, 2_000_000)),
        lease_until_ms=NOW_MS + draw(st.integers(-90_000, 10_000)) if owned else 0,
    )


owners = st.dictionaries(
    st.sampled_from(OWNERS),
    st.builds(OwnerProcess, st.booleans(), st.booleans(), st.integers(0, 20_000)),
)
pods = st.lists(
    st.builds(
        pod,
        st.sampled_from(["gen-1", "gen-2", "gen-3"]),
        cost=st.none() | st.integers(-5, 100),
        leaving=st.booleans(),
        ready=st.booleans(),
    ),
    max_size=3,
    unique_by=lambda one: one.name,
)
observations = st.builds(
    Observed,
    views(),
    pods,
    owners,
    st.dictionaries(st.sampled_from(["uid-gen-1", "uid-gen-2"]), st.integers(0, 100)),
)
policies = st.builds(
    lambda action, on_loss: policy(
        stall={"afterSeconds": 20, "action": action}, lease={"seconds": 10, "onLoss": on_loss}
    ),
    st.sampled_from(["Reap", "Park"]),
    st.sampled_from(["Release", "Wait"]),
)


@given(observations, policies)
def test_a_request_is_changed_once_at_most_and_only_as_its_state_allows(
    observed: Observed, policy: StreamPolicy
) -> None:
    """P13"""
    changes = [
        one for one in plan(observed, policy, NOW_MS) if isinstance(one, ReapAction | ReleaseAction)
    ]
    ids = [change.view.request_id for change in changes]
    assert len(ids) == len(set(ids))
    for change in changes:
        transition(
            change.view.status, Event.REAP if isinstance(change, ReapAction) else Event.RELEASE
        )


@pytest.mark.rule("P16.3")
@given(observations, policies)
def test_a_request_is_reaped_exactly_when_its_window_is_stalled_and_the_policy_says_so(
    observed: Observed, policy: StreamPolicy
) -> None:
    reaped = {one.view for one in plan(observed, policy, NOW_MS) if isinstance(one, ReapAction)}
    assert reaped == {
        view
        for view in observed.views
        if policy.stall.action == "Reap"
        and view.status is Status.PAUSED
        and NOW_MS - view.progress_ms >= 20_000
    }


@given(observations, policies)
def test_only_the_requests_of_owners_that_are_known_to_be_lost_are_released(
    observed: Observed, policy: StreamPolicy
) -> None:
    """P15"""
    actions = plan(observed, policy, NOW_MS)
    reaped = {one.view for one in actions if isinstance(one, ReapAction)}
    released = {one.view for one in actions if isinstance(one, ReleaseAction)}
    for view in observed.views:
        owner = observed.owners.get(view.owner)
        lost = owner and (not owner.there or (not owner.ready and owner.silent_ms >= 5_000))
        may = bool(lost) and policy.lease.on_loss == "Release" and view.status in OWNED
        assert (view in released) == (may and view not in reaped)


@given(observations, policies)
def test_costs_that_were_written_are_not_written_again(
    observed: Observed, policy: StreamPolicy
) -> None:
    changes = [one for one in plan(observed, policy, NOW_MS) if isinstance(one, SetCost)]
    cost = {change.pod.uid: change.cost for change in changes}
    written = [replace(one, cost=cost.get(one.uid, one.cost)) for one in observed.pods]
    after = plan(replace(observed, pods=written), policy, NOW_MS)
    assert not any(isinstance(one, SetCost) for one in after)
    assert not any(change.pod.leaving for change in changes)
    for one in written:
        if not one.leaving:
            assert (one.cost or 0) == deletion_cost(observed.busy.get(one.uid, 0))


def test_a_pod_that_a_policy_selects_and_that_is_no_generator_is_not_written_on() -> None:
    pods = [pod("gen-1", cost=10), pod("database", cost=10, generator=False)]
    actions = plan(Observed([], pods), POLICY, NOW_MS)
    assert [one.pod.name for one in actions if isinstance(one, SetCost)] == ["gen-1"]


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_the_busier_pod_is_never_the_cheaper_one(one: int, other: int) -> None:
    assert (one <= other) <= (deletion_cost(one) <= deletion_cost(other))


def test_an_idle_pod_costs_nothing_and_a_busy_one_something() -> None:
    assert deletion_cost(0) == 0 < deletion_cost(1) < deletion_cost(2) == deletion_cost(3)


@given(observations, policies)
@example(Observed([request(status=Status.QUEUED, owner="", progress_ms=0)]), POLICY)
def test_whatever_stands_still_is_reaped_released_or_told_of(
    observed: Observed, policy: StreamPolicy
) -> None:
    """P17: none is forgotten."""
    actions = plan(observed, policy, NOW_MS + 2_000_000)
    changed = sum(isinstance(one, ReapAction | ReleaseAction) for one in actions)
    told = sum(one.requests for one in actions if isinstance(one, Tell))
    assert changed + told == len(observed.views)


# what it takes two looks to see


def look(fleet: Fleet, views: Collection[View], pods: Sequence[Pod], at_ms: int = 0) -> list[Any]:
    return plan(fleet.look(views, pods, NOW_MS + at_ms), POLICY, NOW_MS + at_ms)


def released(actions: list[Any]) -> list[ReleaseAction]:
    return [one for one in actions if isinstance(one, ReleaseAction)]


def losses(actions: list[Any]) -> list[Loss]:
    return [one.loss for one in released(actions)]


@pytest.mark.rule("P15.2")
def test_a_pod_that_is_gone_loses_its_requests_at_once() -> None:
    fleet = Fleet()
    assert losses(look(fleet, [request()], [pod()])) == []
    assert losses(look(fleet, [request()], [], 1)) == [Loss.GONE]


@pytest.mark.parametrize(
    "change",
    [{"ended": frozenset({OWNERS[0]})}, {"uid": "uid-of-another"}, {"over": True}],
    ids=str,
)
def test_so_does_a_pod_whose_container_ended_or_that_was_replaced_under_its_name_or_is_over(
    change: dict[str, Any],
) -> None:
    """P15"""
    fleet = Fleet()
    look(fleet, [request()], [pod()])
    now = [pod(**change)]
    assert losses(look(fleet, [request()], now, 1)) == [Loss.GONE]
    newer = request("gen-1-0000000b", request_id="b")
    assert losses(look(fleet, [newer], now, 2)) == ([Loss.GONE] if now[0].over else [])


def test_a_claim_that_no_look_saw_before_its_pod_was_gone_is_lost_by_the_pods_name() -> None:
    fleet = Fleet()
    look(fleet, [], [pod()])
    assert losses(look(fleet, [request()], [], 1)) == [Loss.GONE]


def test_an_owner_whose_container_ended_before_any_look_is_lost_by_the_name_that_it_left() -> None:
    """P15. Only the last two containers' names are known, and this one's for longer."""
    fleet = Fleet()
    dead, alive = request(), request("gen-1-0000000b", request_id="b")
    now = [pod(ended=frozenset({dead.owner}))]
    assert [one.view for one in released(look(fleet, [dead, alive], now))] == [dead]
    later = [pod(ended=frozenset({alive.owner}))]
    assert [one.view for one in released(look(fleet, [dead, alive], later, 1))] == [dead, alive]


def test_a_pod_as_it_was_before_a_claim_takes_nothing_from_the_claimer() -> None:
    """P15. An API server may be late: it tells of the container before, then of this one."""
    fleet, claimer = Fleet(), request("gen-1-0000000b")
    for ended in (frozenset[str](), frozenset({"gen-1-00000009"}), frozenset({"gen-1-0000000a"})):
        assert losses(look(fleet, [claimer], [pod(ended=ended, ready=False)])) == []


def test_an_owner_that_was_never_seen_as_a_pod_is_left_to_its_lease() -> None:
    """A selector that matches nothing, or a generator outside the cluster."""
    fleet = Fleet()
    for at_ms in range(0, 100_000, 5_000):
        assert losses(look(fleet, [request("elsewhere-0000000a")], [pod()], at_ms)) == []


def test_a_pod_that_is_not_ready_and_whose_leases_move_keeps_its_requests() -> None:
    """It may only have lost the store for a moment."""
    fleet = Fleet()
    unready = [pod(ready=False), pod("gen-2")]
    for at_ms in range(0, 60_000, 2_500):
        moving = request(lease_until_ms=NOW_MS + at_ms + 10_000)
        assert losses(look(fleet, [moving, alive(at_ms)], unready, at_ms)) == []


def alive(at_ms: int) -> View:
    """A request of another generator, which renews its lease as it should."""
    return request("gen-2-00000002", request_id="b", lease_until_ms=NOW_MS + at_ms + 10_000)


def test_a_pod_that_is_not_ready_and_silent_loses_its_requests_before_the_lease_does() -> None:
    """P15"""
    fleet = Fleet()
    unready = [pod(ready=False), pod("gen-2")]
    assert losses(look(fleet, [request(), alive(0)], unready)) == []
    assert losses(look(fleet, [request(), alive(4_999)], unready, 4_999)) == []
    assert losses(look(fleet, [request(), alive(5_000)], unready, 5_000)) == [Loss.SILENT]
    ready = [pod(), pod("gen-2")]
    assert losses(look(fleet, [request(), alive(6_000)], ready, 6_000)) == []


def test_when_nobody_moves_it_is_rather_the_store_that_stood_still() -> None:
    fleet = Fleet()
    unready = [pod(ready=False), pod("gen-2", ready=False)]
    for at_ms in range(0, 60_000, 5_000):
        assert losses(look(fleet, [request(), alive(0)], unready, at_ms)) == []


def test_after_a_blink_silence_is_counted_anew() -> None:
    """A store that was away has made everybody silent, and every pod unready."""
    fleet = Fleet()
    unready = [pod(ready=False), pod("gen-2")]
    look(fleet, [request(), alive(0)], unready)
    fleet.blink()
    assert losses(look(fleet, [request(), alive(30_000)], unready, 30_000)) == []
    assert losses(look(fleet, [request(), alive(35_000)], unready, 35_000)) == [Loss.SILENT]


def test_one_moving_lease_speaks_for_all_of_its_owner() -> None:
    fleet = Fleet()
    unready = [pod(ready=False), pod("gen-2")]
    still = request(request_id="still")
    for at_ms in (0, 6_000, 12_000):
        moving = request(request_id="moving", lease_until_ms=NOW_MS + at_ms + 10_000)
        assert losses(look(fleet, [still, moving, alive(at_ms)], unready, at_ms)) == []


def test_a_pod_stays_as_expensive_as_it_was_in_the_last_minute() -> None:
    fleet = Fleet()

    def busy(requests: int, at_ms: int) -> int:
        many = [request(request_id=f"r{n}") for n in range(requests)]
        return fleet.look(many, [pod()], NOW_MS + at_ms).busy["uid-gen-1"]

    assert busy(4, 0) == 4
    assert busy(1, 1) == 4
    assert busy(5, 2) == 5
    assert busy(0, 2 + PEAK_MS - 1) == 5
    assert busy(0, 2 + PEAK_MS) == 0


# what the API server shows


def test_an_owner_is_called_after_its_pods_host() -> None:
    hosts = ["gen-1", "gen-1-0000000a"]
    assert hostname_of("gen-1-00000001", hosts) == "gen-1"
    assert hostname_of("gen-1", hosts) == "gen-1"
    assert hostname_of("gen-1-0000000a-00000002", hosts) == "gen-1-0000000a"
    assert hostname_of("gen-2-00000001", hosts) is None
    assert hostname_of("", hosts) is None


@pytest.mark.parametrize("phase", ["Running", "Succeeded", "Failed"])
def test_a_pod_is_over_when_its_phase_says_that_it_ended(phase: str) -> None:
    body = kube_stub.pod()
    body["metadata"]["uid"] = "u"
    body["status"]["phase"] = phase
    assert pod_from(body).over == (phase != "Running")


@pytest.mark.parametrize("state", ["state", "lastState"])
def test_the_names_that_an_ended_container_left_are_read_from_its_pod(state: str) -> None:
    body = kube_stub.pod()
    body["metadata"]["uid"] = "u"
    assert pod_from(body).ended == frozenset()
    (container,) = body["status"]["containerStatuses"]
    container[state] = {"terminated": {"exitCode": 137}}
    assert pod_from(body).ended == frozenset()
    container[state] = {"terminated": {"exitCode": 137, "message": "gen-1-0a\ngen-1-0b\n"}}
    assert pod_from(body).ended == {"gen-1-0a", "gen-1-0b"}


def test_a_pods_host_is_its_name_cut_to_what_dns_takes() -> None:
    long = "x" * 62 + "-" + "y" * 10
    body = kube_stub.pod(long)
    body["metadata"]["uid"] = "u"
    assert pod_from(body).hostname == "x" * 62


def test_findings_are_told_by_kind_with_the_longest() -> None:
    waiting = [
        request("", request_id=f"w{n}", status=Status.QUEUED, progress_ms=NOW_MS - 700_000 - n)
        for n in range(3)
    ]
    assert plan(Observed(waiting), POLICY, NOW_MS) == [Tell(Finding.WAITING, 3, 700_002)]

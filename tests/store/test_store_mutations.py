"""Broken libraries, each of which the state machine must catch: a check that cannot fail checks
nothing."""

import pytest
from hypothesis import Phase

from tests.store.machine import ForgettingMachine, StoreMachine, run_machine
from tests.store.real import RealStore, broken, real

__all__ = ["real"]
pytestmark = pytest.mark.long


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        pytest.param(
            "if epoch < request.epoch or owner ~= request.owner or not OWNED[request.status] then",
            "if not OWNED[request.status] then",
            id="no fencing",
        ),
        pytest.param("if seq > expected then return 'gap' end", "", id="no gap check"),
        pytest.param(
            "'acked_seq', args[2], 'acked_tokens'",
            "'acked_seq', int(seq - 1), 'acked_tokens'",
            id="ack off by one",
        ),
        pytest.param(
            "if other_store or now < request.alone", "if now < request.alone", id="no fork"
        ),
        pytest.param(
            "if other_store or now < request.alone_until_ms then",
            "if other_store then",
            id="no fork behind an owner out of reach",
        ),
        pytest.param(
            "return request.run_id == run_id or now < number_of(request, 'lease_until_ms')",
            "return true",
            id="a lease that a restart outlived",
        ),
        pytest.param(
            "ZADD', request.q, int(request.place_ms)",
            "ZADD', request.q, int(request.created_ms)",
            id="a place forgotten",
        ),
        pytest.param(
            "own(request, by.owner, epoch, by.now, by.lease_ms)",
            "",
            id="a forgotten claim is not taken up",
        ),
        pytest.param("~= subject then return nil", "== '' then return nil", id="anyone's request"),
        pytest.param(
            "if not (untried and request.tries > 0) and", "if", id="what was tried is tried again"
        ),
        pytest.param(
            "return now < passed_ms + others.left_ms", "return false", id="no answer is left"
        ),
        pytest.param(
            "'o:' .. request.owner)[2] == 0", "'o:' .. request.owner)[2] >= 0", id="no second look"
        ),
        pytest.param(
            "if request.lease_until_ms - lease_ms > now - silent_ms then return false end",
            "",
            id="a sign of life is nothing",
        ),
        pytest.param(
            "request.alone_until_ms = left.lease_until_ms", "", id="no fork behind who has left"
        ),
        pytest.param("and 0 or request.tries", "and request.tries", id="a chunk is nothing"),
        pytest.param("or v[4] ~= by.owner", "", id="another's append passes"),
        pytest.param("or v[5] ~= args[at + 1]", "", id="a lost log's append passes"),
        pytest.param("or v[6] ~= by.run_id", "", id="an append after a loss passes"),
        pytest.param("args[at + 3] ~= '0'", "false", id="a closed window is not told"),
        pytest.param("return tonumber(v[10])", "return 0", id="no acks"),
        pytest.param(
            "server.call('ZADD', request.live, int(request.progress_ms), request.id)",
            "",
            id="a renewal moves nothing",
        ),
        pytest.param("k, at = k + 2, last + 1", "k = k + 2", id="an append twice, another not"),
        pytest.param("if not args[4] and", "if", id="no failure counts"),
        pytest.param(
            "'forks', args[5],",
            "'forks', '',",
            id="a request given back without its fork",
        ),
        pytest.param("> now + lease_ms then", "> now + 9e9 then", id="leases of another clock"),
        pytest.param(
            "return request.acked_seq >= request.next_seq - 1",
            "return true",
            id="unread and given up",
        ),
        pytest.param("if given.elsewhere then", "if false then", id="two partitions for one key"),
    ],
)
def test_the_machine_catches_a_broken_library(real: RealStore, right: str, wrong: str) -> None:
    """A check that cannot fail checks nothing."""
    break_and_catch(real, StoreMachine, right, wrong)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        pytest.param(
            "if server.call('GET', deleted_key(keys[1])) == '' then return unknown() end",
            "",
            id="a deleted request given back",
        ),
        pytest.param(
            "if gone then return {gone == 'elsewhere' and 'full' or 'unknown', 0} end",
            "",
            id="a deleted request opened again",
        ),
    ],
)
def test_the_machine_catches_a_library_that_forgets_to_forget(
    real: RealStore, right: str, wrong: str
) -> None:
    break_and_catch(real, ForgettingMachine, right, wrong)


def break_and_catch(real: RealStore, kind: type[StoreMachine], right: str, wrong: str) -> None:
    with broken(real, right, wrong), pytest.raises(AssertionError):
        run_machine(
            real, kind, max_examples=1_500, phases=[Phase.generate], database=None, derandomize=True
        )

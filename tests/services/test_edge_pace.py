"""P20: the pace that a request has at a generator."""

import json

import pytest

from lore.request import KeptRequest, StreamRequest
from lore_edge.admission.create import complete
from lore_edge.settings import EdgeSettings

DEFAULT = EdgeSettings(auth="off")
SET = EdgeSettings(auth="off", pace=5, openai_pace=9)


@pytest.mark.rule("P20.8")
@pytest.mark.parametrize(
    ("kind", "asked", "settings", "pace"),
    [
        (StreamRequest, {}, DEFAULT, 12),
        (StreamRequest, {}, SET, 5),
        (StreamRequest, {"ack": "socket"}, DEFAULT, 12),
        (StreamRequest, {"ack": "none"}, SET, None),
        (StreamRequest, {"ack": "none", "pace": 20}, SET, 20),
        (StreamRequest, {"pace": 30.5}, SET, 30.5),
        (StreamRequest, {"pace": 0}, SET, None),
        (StreamRequest, {"pace": None}, SET, 5),
        (KeptRequest, {"ack": "socket"}, DEFAULT, None),
        (KeptRequest, {"ack": "socket"}, SET, 9),
        (KeptRequest, {"ack": "none"}, SET, None),
    ],
)
def test_a_request_is_kept_with_its_own_pace_or_what_the_edge_is_set_to(
    kind: type[StreamRequest], asked: dict[str, object], settings: EdgeSettings, pace: float | None
) -> None:
    whole = complete(kind.model_validate({"question": "why?", **asked}), settings)
    kept = whole.kept_json()
    assert KeptRequest.read(kept).pace == pace
    assert "pace" not in json.loads(kept), "an older generator would fail it"


def test_a_pace_counts_for_what_a_key_stands_for_only_if_it_is_given() -> None:
    """H2: an older release does not know it."""
    plain = StreamRequest.model_validate({"question": "why?"})
    paced = plain.model_copy(update={"pace": 3.0})
    assert "pace" not in plain.model_dump_json(exclude={"pace"})
    assert plain.fingerprint() != paced.fingerprint()

"""Answers keep to public JSON schemas. The whole: ``python -m tests.engines.schemas``."""

import pytest

from tests.engines import schemas

pytestmark = pytest.mark.model


@pytest.mark.rule("H14")
@pytest.mark.skipif(not schemas.SUITE.is_dir(), reason="no suite here (make setup unpacks it)")
def test_every_whole_answer_to_a_public_schema_is_valid_and_every_refusal_names_a_place() -> None:
    tallies = schemas.run(schemas.cases(every=4), draws=1, tokenizer=schemas.smollm2())
    assert not [one for of in tallies.values() for one in of.wrong]
    for of in tallies.values():
        assert of.answered
        assert of.refused
        assert of.schemas == of.refused.total() + len(of.answered) + of.cut

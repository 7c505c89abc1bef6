"""Answers under the grammars of public JSON schemas: every one that ends has to be valid.

The schemas are those of the JSON-Schema-Test-Suite, which comes with the sources of jsonschema
(``make setup`` unpacks them), and of Kubernetes' API, which kubernetes-validate brings. The model
is noise that likes to end; tokenizer, grammars and sampler are those of the engine.

Usage: python -m tests.engines.schemas [--draws 4] [--every 1]
"""

import argparse
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema_rs
import kubernetes_validate
import torch
from jsonschema.validators import validator_for
from pydantic import ValidationError
from transformers import AutoTokenizer
from transformers.tokenization_utils_tokenizers import TokenizersBackend

from lore.request import KeptRequest
from lore_generator.engines.automata import Grammars
from lore_generator.engines.conversation import Refused
from lore_generator.engines.grammar import grammar_of
from lore_generator.engines.loading import find
from lore_generator.engines.unpacked import unpacked
from tests.services.sampler_harness import PLAIN, Batch, sampling, state_of

SUITE = Path(__file__).parents[2] / ".venv" / "schemas" / "json" / "tests"
DRAFTS = {
    "draft2020-12": "https://json-schema.org/draft/2020-12/schema",
    "draft2019-09": "https://json-schema.org/draft/2019-09/schema",
    "draft7": "http://json-schema.org/draft-07/schema#",
    "draft6": "http://json-schema.org/draft-06/schema#",
    "draft4": "http://json-schema.org/draft-04/schema#",
}
RELEASE = "v1.37.0-local"
ELSEWHERE = "/api/_definitions.json#/"
WIDTH = 32
MOST_TOKENS = 300
NOISE = 1 << 22


class Case(NamedTuple):
    suite: str
    name: str
    schema: dict[str, Any]


@dataclass(slots=True)
class Tally:
    """What came of the schemas of a suite."""

    schemas: int = 0
    refused: Counter[str] = field(default_factory=Counter[str])
    """By the reason."""
    answered: set[str] = field(default_factory=set[str])
    """The schemas of which an answer has ended."""
    ended: int = 0
    cut: int = 0
    """Answers that had not ended after ``MOST_TOKENS``."""
    wrong: list[str] = field(default_factory=list[str])
    """Answers that are not valid, and refusals that do not say where."""


def cases(every: int = 1) -> list[Case]:
    """Each distinct schema once, or every so-manieth of them."""
    distinct: dict[str, Case] = {}
    for case in (*_test_suite(), *_kubernetes()):
        bare = {name: value for name, value in case.schema.items() if name != "$schema"}
        distinct.setdefault(json.dumps(bare, sort_keys=True), case)
    return list(distinct.values())[::every]


def _test_suite() -> Iterator[Case]:
    for draft, uri in DRAFTS.items():
        for file in sorted((SUITE / draft).rglob("*.json")):
            for group in json.loads(file.read_text()):
                if isinstance(schema := group["schema"], dict):
                    name = f"{file.relative_to(SUITE)}: {group['description']}"
                    yield Case("JSON-Schema-Test-Suite", name, {"$schema": uri, **schema})


def _kubernetes() -> Iterator[Case]:
    """Each kind of object by itself, with the definitions that it refers to."""
    folder = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema" / RELEASE
    known = json.loads((folder / "_definitions.json").read_text().replace(ELSEWHERE, "#/"))
    for file in sorted(folder.glob("[a-z]*.json")):
        schema = json.loads(file.read_text().replace(ELSEWHERE, "#/"))
        used: dict[str, Any] = {}
        todo = [schema]
        while todo:
            for name in re.findall(r'"#/\$defs/([^"]+)"', json.dumps(todo.pop())):
                if name not in used:
                    used[name] = known["$defs"][name]
                    todo.append(used[name])
        yield Case("Kubernetes", file.stem, {**schema, "$defs": used} if used else schema)


class Noise:
    """A model that says anything, and likes to end what it has begun."""

    def __init__(self, tokenizer: TokenizersBackend) -> None:
        generator = torch.Generator().manual_seed(0)
        self._noise = torch.randn(NOISE, generator=generator)
        self._likes = torch.zeros(len(tokenizer))
        for text, token in tokenizer.get_vocab().items():
            if set(text) <= set('"}],:0123456789') and len(text) < 3:
                self._likes[token] = 2.5
        self.eos: Any = tokenizer.eos_token_id
        self._likes[self.eos] = 4

    def scores(self, of: Sequence[random.Random]) -> torch.Tensor:
        width = len(self._likes)
        starts = [rng.randrange(NOISE - width) for rng in of]
        return torch.stack([self._noise[at : at + width] for at in starts]) + self._likes


def smollm2() -> TokenizersBackend:
    source = find(None)
    assert source.gguf_file is not None
    folder = unpacked(Path(source.path) / source.gguf_file, None)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert isinstance(tokenizer, TokenizersBackend)
    return tokenizer


def run(some: Sequence[Case], draws: int, tokenizer: TokenizersBackend) -> dict[str, Tally]:
    """Draw so many answers of each schema that the library supports."""
    model = Noise(tokenizer)
    grammars = Grammars(tokenizer, len(tokenizer), frozenset({model.eos}))
    tallies = {case.suite: Tally() for case in some}
    for case in some:
        tallies[case.suite].schemas += 1
    supported = [(case, grammar) for case in some if (grammar := _grammar(case, grammars, tallies))]
    waiting = ((case, grammar, draw) for case, grammar in supported for draw in range(draws))
    batch = Batch(grammars)
    live: dict[str, tuple[Case, random.Random, Any]] = {}
    while True:
        for case, grammar, draw in waiting:
            key = f"{case.name} ({draw})"
            live[key] = case, random.Random(key), state_of(key, [1], sampling(), grammar)
            if len(live) == WIDTH:
                break
        if not live:
            return tallies
        scores = model.scores([rng for _, rng, _ in live.values()])
        batch.step([state for _, _, state in live.values()], scores)
        for key in [key for key, one in live.items() if _has_ended(one[2], model, batch)]:
            case, _, state = live.pop(key)
            tally, tokens = tallies[case.suite], state.generated_tokens
            if tokens[-1] != model.eos and key not in batch.failed:
                tally.cut += 1
                continue
            text = tokenizer.decode(tokens, skip_special_tokens=True)
            tally.ended += 1
            tally.answered.add(case.name)
            tally.wrong += [f"{key}: {why}" for why in _faults(str(text), case.schema)]


def _grammar(case: Case, grammars: Grammars, tallies: dict[str, Tally]) -> str | None:
    tally = tallies[case.suite]
    wanted = {"type": "json_schema", "name": "a", "schema": case.schema, "strict": True}
    try:
        given = {"question": "q", **PLAIN, "response_format": wanted}
        grammar = grammar_of(KeptRequest.model_validate(given, strict=False), grammars.special)
        assert grammar is not None
        grammars.automaton(grammar)
    except ValidationError as error:
        tally.refused[error.errors()[0]["type"]] += 1
    except Refused as error:
        said = re.fullmatch(
            r"response_format: schema not supported(?: at '(#/.*?)')?: (.+)", str(error), re.DOTALL
        )
        if said is None or "$defs/root" in said[2] or not _is_in(case.schema, said[1] or "#"):
            tally.wrong.append(f"{case.name}: refused without a place: {error}")
        else:
            tally.refused[said[2]] += 1
    else:
        return grammar
    return None


def _is_in(schema: Any, place: str) -> bool:
    for step in place.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(schema, list):
            schema = dict(enumerate(schema)).get(int(name))
        else:
            schema = schema.get(name)
        if schema is None:
            return False
    return True


def _has_ended(state: Any, model: Noise, batch: Batch) -> bool:
    tokens = state.generated_tokens
    return tokens[-1] == model.eos or len(tokens) == MOST_TOKENS or state.request_id in batch.failed


def _faults(text: str, schema: dict[str, Any]) -> list[str]:
    try:
        value = json.loads(text)
    except ValueError as error:
        return [f"{error}: {text[:200]}"]
    try:
        errors = [error.message for error in validator_for(schema)(schema).iter_errors(value)]
    except re.error:  # patterns such as \\p{Letter}, which Python does not know
        errors = [error.message for error in jsonschema_rs.iter_errors(schema, value)]
    return [f"{error[:200]}: {text[:200]}" for error in errors]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=4, help="answers of each schema")
    parser.add_argument("--every", type=int, default=1, help="2 takes half of the schemas")
    chosen = parser.parse_args()
    began_s = time.perf_counter()
    tallies = run(cases(chosen.every), chosen.draws, smollm2())
    print("| suite | schemas | refused | with a whole answer | whole | cut | wrong |")
    print("|---|---|---|---|---|---|---|")
    for name, of in tallies.items():
        counts = (of.schemas, of.refused.total(), len(of.answered), of.ended, of.cut, len(of.wrong))
        print("|", " | ".join([name, *map(str, counts)]), "|")
    print(f"\n{time.perf_counter() - began_s:.0f} s")
    for of in tallies.values():
        for why, count in of.refused.most_common(12):
            print(f"refused {count}: {why[:100]}")
        for one in of.wrong:
            print(f"wrong: {one}")
    sys.exit(any(of.wrong for of in tallies.values()))


if __name__ == "__main__":
    main()

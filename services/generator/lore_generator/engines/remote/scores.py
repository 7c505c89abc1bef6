"""The log probabilities that an engine tells, as the log keeps them."""

from lore.protocol.logprobs import Likely, Scored
from lore_generator.engines.remote.dialects.base import EngineEvent, unnamed
from lore_generator.engines.remote.trouble import Kind, Trouble
from lore_generator.engines.remote.words import Words


async def scored(said: EngineEvent, most: int, words: Words, *, whole: bool) -> list[Scored]:
    """Of each of these ids, with its ``most`` likeliest alternatives. ``whole``: all must be told.

    Raises Trouble.
    """
    told, found = list(said.scored), list[Scored]()
    for token in reversed(said.ids):
        if told and told[-1].chosen.token_id == token:
            found.append(await _named(told.pop(), most, words))
        elif whole:
            raise Trouble(Kind.FAILED, "no log probabilities in its stream")
        else:
            found.append(Scored(await _with_text(unnamed(token, None), words)))
    if told:
        raise Trouble(Kind.FAILED, "its log probabilities are those of other tokens")
    return found[::-1]


async def _named(one: Scored, most: int, words: Words) -> Scored:
    best = sorted(one.top, key=lambda other: -other.logprob)[:most]
    top = [await _with_text(other, words) for other in best]
    return Scored(await _with_text(one.chosen, words), tuple(top))


async def _with_text(one: Likely, words: Words) -> Likely:
    return one if one.text else one._replace(text=await words.bytes_of(one.token_id))

"""A constraint as a grammar of llama.cpp (GBNF), around those that its server makes of schemas."""

import json
import re

from lore_generator.engines.remote.constraint import Constraint

_NAMES = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|(?P<name>[a-zA-Z][\w-]*)')
"""Literals and classes of characters, in which nothing is a name; and names."""


def gbnf(constraint: Constraint, calls: str, answer: str) -> str:
    """``calls`` and ``answer``: the server's grammars of the schemas that the constraint has."""
    rules: list[str] = []
    said: list[str] = []
    if constraint.calls is not None:
        before, _, after, separator, most = constraint.calls
        more = f" ({_text(separator)} call){{0,{most - 1}}}" if most > 1 else ""
        rules += [f"call ::= {_text(before)} call-root {_text(after)}", f"calls ::= call{more}"]
        rules.append(_named(calls, "call-"))
        said.append("calls")
    if constraint.answer is not None:
        rules.append(_named(answer, "answer-"))
        said.append("answer-root")
    first = ""
    if constraint.thought_end:
        rules += [*_up_to(constraint.thought_end), r"space ::= [ \n]{0,4}"]
        first = "thought0 space "
    return "\n".join([f"root ::= {first}({' | '.join(said)})", *rules, ""])


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if text else ""


def _named(grammar: str, prefix: str) -> str:
    """The same grammar with a prefix to the names of its rules."""
    return _NAMES.sub(lambda found: prefix + found[0] if found["name"] else found[0], grammar)


def _up_to(marker: str) -> list[str]:
    """Rules ``thought0`` to the first end of a marker: in ``thoughtN``, its first N characters
    have just been written (Knuth, Morris and Pratt).
    """
    letters, rules = sorted(set(marker)), list[str]()
    for place in range(len(marker)):
        ways: list[str] = []
        for letter in letters:
            behind = marker[:place] + letter
            reached = next(
                n for n in range(len(behind), -1, -1) if marker[:n] == behind[-n:] or not n
            )
            ways.append(
                f"[{_code(letter)}]" + (f" thought{reached}" if reached < len(marker) else "")
            )
        others = f"[^{''.join(map(_code, letters))}] thought0"
        rules.append(f"thought{place} ::= {' | '.join([*ways, others])}")
    return rules


def _code(letter: str) -> str:
    return f"\\x{ord(letter):02X}"

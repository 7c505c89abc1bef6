"""A model's chat template, rendered as transformers does, but without transformers.

Templates come with models from the hub and are untrusted code: they run in Jinja's sandbox.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, meta, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from lore.template_args import SWITCHES
from lore_generator.engines.conversation import Render
from lore_generator.engines.turns import Json


def renderer(source: str, tokens: Mapping[str, str], args: Mapping[str, object]) -> Render:
    """A function that renders the template. ``tokens``: the special tokens by name, such as
    ``eos_token``. ``args``: its arguments, such as ``enable_thinking``.

    Raises TemplateError when the template is invalid.
    """
    template = _environment().from_string(source)
    given = {**tokens, **args}

    def render(conversation: list[Json], tools: list[Json], more: Mapping[str, object]) -> str:
        try:
            return template.render(
                messages=conversation,
                add_generation_prompt=True,
                tools=tools or None,
                documents=None,
                **{**given, **more},
            )
        except TemplateError:
            raise
        except Exception as error:  # noqa: BLE001 - a template may raise anything
            raise TemplateError(f"{type(error).__name__}: {error}") from None

    return render


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _now
    environment.globals["namespace"] = _Namespace
    return environment


def switches_of(source: str) -> str:
    """Those of ``SWITCHES`` that a template reads, in words."""
    try:
        read = meta.find_undeclared_variables(_environment().parse(source))
    except TemplateError:
        return ""
    return " ".join(name for name in SWITCHES if name in read)


class _Generation(Extension):
    """Supports ``{% generation %}``, which marks answers for training and has no effect here."""

    tags = {"generation"}  # noqa: RUF012 - Jinja declares it so

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Namespace(Namespace):
    """A namespace without names that reach into Python."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, rest = args[0], args[1:]
        attributes = dict(*rest, **kwargs)
        for name in attributes:
            _check_name(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace takes no name like {name!r}")


def _now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)


def _raise(message: str) -> None:
    raise TemplateError(message)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """The filter ``tojson`` without Jinja's escapes for HTML."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )

"""Write what is derived from values.yaml and the services' settings: ``make chart``.

README.md gets its tables, values.schema.json its settings. A setting's name here is the one
in the code in camelCase: ``queue_limit`` is ``queueLimit`` and ``LORE_QUEUE_LIMIT``.
"""

import ast
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic.alias_generators import to_camel

from lore.settings import CommonSettings
from lore_edge.settings import EdgeSettings
from lore_generator.settings import GeneratorSettings
from lore_operator.settings import OperatorSettings

CHART = Path(__file__).parent
SERVICES: dict[str, type[CommonSettings]] = {
    "edge": EdgeSettings,
    "generator": GeneratorSettings,
    "operator": OperatorSettings,
}
OWNED = {
    "api_keys_file", "edge_id", "generator_id", "health_host", "health_port", "host", "model_cache",
    "namespace", "policy", "port", "secret", "valkey_url",
}  # fmt: skip
"""The chart sets these itself."""
COMMENT = "# -- "


def fields(kind: type[CommonSettings]) -> set[str]:
    """The settings of a service that are its own, and not common to all."""
    return set(kind.model_fields) - set(CommonSettings.model_fields) - OWNED


def json_type(kind: type[CommonSettings], name: str) -> dict[str, Any]:
    """What an environment variable of this setting may hold, as JSON schema."""
    whole = kind.model_json_schema(mode="serialization")["properties"][name]
    options = [one for one in whole.get("anyOf", [whole]) if one.get("type") != "null"]
    if len(options) != 1 or options[0].get("type") in ("array", None):
        return {"type": "string"}
    keep = ("type", "enum", "const", "minimum", "maximum", "exclusiveMinimum", "minLength")
    return {key: options[0][key] for key in keep if key in options[0]}


def definitions() -> dict[str, Any]:
    """The schema's parts for settings: each takes the common ones too."""
    common = set(CommonSettings.model_fields) - OWNED
    kinds = {"": (CommonSettings, common)}
    kinds |= {name: (kind, common | fields(kind)) for name, kind in SERVICES.items()}
    return {
        to_camel(f"{name}_settings".lstrip("_")): {
            "type": "object",
            "additionalProperties": False,
            "properties": {to_camel(one): json_type(kind, one) for one in sorted(names)},
        }
        for name, (kind, names) in kinds.items()
    }


def docs(kind: type[CommonSettings]) -> dict[str, str]:
    """A setting's docstring, by name."""
    (body,) = (
        node.body
        for node in ast.parse(inspect.getsource(kind)).body
        if isinstance(node, ast.ClassDef)
    )
    found: dict[str, str] = {}
    for node, after in zip(body, [*body[1:], None], strict=True):
        match node, after:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(
                value=ast.Constant(value=str(text))
            ):
                found[name] = " ".join(inspect.cleandoc(text).split()).replace("``", "`")
            case _:
                pass
    return found


def settings_rows(kind: type[CommonSettings], names: set[str]) -> Iterator[str]:
    told = docs(kind)
    for name, field in kind.model_fields.items():
        if name in names:
            default = field.get_default()
            shown = (
                "" if default in (None, "", ()) or default is ... else f"`{json.dumps(default)}`"
            )
            if len(shown) > 40:
                shown = "a prompt" if name == "system_prompt" else "…"
            yield f"| `{to_camel(name)}` | {shown} | {told.get(name, '')} |"


def settings_tables() -> str:
    head = "| setting | default | |\n|---|---|---|"
    parts = [
        ("All services (`settings`)", CommonSettings, set(CommonSettings.model_fields) - OWNED)
    ]
    parts += [(f"`{name}.settings`", kind, fields(kind)) for name, kind in SERVICES.items()]
    return "\n\n".join(
        "\n".join([f"### {title}", head, *settings_rows(kind, names)])
        for title, kind, names in parts
    )


def described(text: str) -> Iterator[tuple[str, str]]:
    """(dotted key, comment) of each commented key of values.yaml, in its order."""
    path: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            if stripped.startswith(COMMENT) or comment:
                comment.append(stripped.removeprefix(COMMENT).removeprefix("# "))
        elif match := re.match(r"( *)([A-Za-z]+):", line):
            path = [(indent, key) for indent, key in path if indent < len(match[1])]
            path.append((len(match[1]), match[2]))
            if comment:
                yield ".".join(key for _, key in path), " ".join(comment)
            comment = []


def at(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values


def values_table(text: str) -> str:
    values = yaml.safe_load(text)
    rows = [
        f"| `{key}` | `{json.dumps(at(values, key), ensure_ascii=False)}` | {comment} |"
        for key, comment in described(text)
    ]
    return "\n".join(["| value | default | |", "|---|---|---|", *rows])


def readme(before: str) -> str:
    tables = {
        "values": values_table((CHART / "values.yaml").read_text()),
        "settings": settings_tables(),
    }
    for name, table in tables.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        head, _, rest = before.partition(begin)
        before = f"{head}{begin}\n{table}\n{end}{rest.partition(end)[2]}"
    return before


def schema(before: str) -> str:
    whole = json.loads(before)
    whole["definitions"] |= definitions()
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


FILES = {"README.md": readme, "values.schema.json": schema}

if __name__ == "__main__":
    for name, derive in FILES.items():
        (CHART / name).write_text(derive((CHART / name).read_text()))

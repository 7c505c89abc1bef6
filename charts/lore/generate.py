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
    "api_keys_file", "edge_id", "engine_ca_file", "engine_key_file", "engine_url",
    "generator_id", "health_host", "health_port", "host", "model_cache",
    "namespace", "policy", "port", "release", "secret", "valkey_url",
}  # fmt: skip
"""The chart sets these itself."""
HATCHES = {
    "podLabels": "labels",
    "podAnnotations": "strings",
    "env": "env",
    "resources": "resources",
    "extraVolumes": "named",
    "extraVolumeMounts": "mounts",
    "initContainers": "named",
    "sidecars": "named",
    "serviceAccount": "serviceAccount",
    "podSecurityContext": "podSecurityContext",
    "securityContext": "securityContext",
    "probes": "probes",
    "resourceClaims": "named",
    "revisionHistoryLimit": "history",
}
"""What can be bent in every workload, with the schema's definition of each."""
WORKLOADS = ("edge", "generator", "operator", "valkey.bundled")
COMMENT = "# -- "


def fields(kind: type[CommonSettings]) -> set[str]:
    """The settings of a service that are its own, and not common to all."""
    return set(kind.model_fields) - set(CommonSettings.model_fields) - OWNED


def json_type(kind: type[CommonSettings], name: str) -> dict[str, Any]:
    """What an environment variable of this setting may hold, as JSON schema."""
    whole = kind.model_json_schema(mode="serialization")["properties"][name]
    options = [one for one in whole.get("anyOf", [whole]) if one.get("type") != "null"]
    if len(options) != 1 or options[0].get("type") in ("array", "object", None):
        return {"type": "string"}
    keep = (
        "type", "enum", "const", "minimum", "maximum", "exclusiveMinimum", "minLength", "pattern",
    )  # fmt: skip
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


def settings_rows(
    kind: type[CommonSettings], names: set[str], chart: dict[str, Any]
) -> Iterator[str]:
    """``chart`` has those that the chart sets to another value than the code's default."""
    told = docs(kind)
    for name, field in kind.model_fields.items():
        if name in names:
            default = chart.get(to_camel(name), field.get_default())
            shown = "unset" if default is None else f"`{json.dumps(default)}`"
            if default == ():
                shown = '`""`'
            if name == "system_prompt":
                shown = "a prompt"
            yield f"| `{to_camel(name)}` | {shown} | {told[name]} |"


def settings_tables() -> str:
    head = "| setting | default | meaning |\n|---|---|---|"
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    common = set(CommonSettings.model_fields) - OWNED
    parts = [("All services (`settings`)", CommonSettings, common, values["settings"])]
    parts += [
        (f"`{name}.settings`", kind, fields(kind), values[name]["settings"])
        for name, kind in SERVICES.items()
    ]
    return "\n\n".join(
        "\n".join([f"### {title}", head, *settings_rows(kind, names, chart)])
        for title, kind, names, chart in parts
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
    return "\n".join(["| value | default | meaning |", "|---|---|---|", *rows])


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
    for workload in WORKLOADS:
        known = at(whole["properties"], workload.replace(".", ".properties.") + ".properties")
        known |= {name: {"$ref": f"#/definitions/{one}"} for name, one in HATCHES.items()}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


FILES = {"README.md": readme, "values.schema.json": schema}

if __name__ == "__main__":
    for name, derive in FILES.items():
        (CHART / name).write_text(derive((CHART / name).read_text()))

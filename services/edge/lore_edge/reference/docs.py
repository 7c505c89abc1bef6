"""The API description as a page for people, generated from the document."""

import json
import re
from html import escape
from typing import Any

Json = dict[str, Any]

_METHODS = ("get", "post", "put", "patch", "delete")
_REF = re.compile(r"#/components/schemas/(.+)")
_CODE = re.compile(r"`([^`]+)`")


def render(document: Json) -> str:
    """A whole HTML page. It runs no script and loads nothing from other servers."""
    info = document["info"]
    operations = [
        (path, method, item[method] | {"parameters": _parameters(item, method)})
        for path, item in document["paths"].items()
        for method in _METHODS
        if method in item
    ]
    calls = "".join(
        f'<li><a href="#{escape(operation["operationId"])}"><code>{method.upper()}</code> '
        f"<code>{escape(path)}</code></a></li>"
        for path, method, operation in operations
    )
    schemas = document["components"]["schemas"]
    schemes = document["components"].get("securitySchemes", {})
    title = escape(f"{info['title']} API")
    return _PAGE.format(
        title=title,
        version=escape(info["version"]),
        about=_about(info.get("description", "")),
        calls=calls,
        security="".join(_scheme(*named) for named in schemes.items()),
        operations="".join(_operation(document, *found) for found in operations),
        schemas="".join(
            f'<section class="schema"><h3 id="{escape(name)}">{escape(name)}</h3>{_schema(schema)}'
            "</section>"
            for name, schema in sorted(schemas.items())
        ),
    )


def _about(description: str) -> str:
    """Render a description, which uses two things of CommonMark: paragraphs and one list."""
    blocks = description.split("\n\n")
    return "".join(
        "".join(("<ul>", *(f"<li>{_text(line[2:])}</li>" for line in block.split("\n")), "</ul>"))
        if block.startswith("- ")
        else f"<p>{_text(block)}</p>"
        for block in blocks
    )


def _scheme(name: str, scheme: Json) -> str:
    where = f"?{scheme['name']}=…" if scheme["type"] == "apiKey" else "Authorization: Bearer …"
    about = _text(scheme.get("description", ""))
    return f"<div><dt>{escape(name)}</dt><dd><code>{escape(where)}</code>: {about}</dd></div>"


def _parameters(item: Json, method: str) -> list[Json]:
    return [*item.get("parameters", []), *item[method].get("parameters", [])]


def _operation(document: Json, path: str, method: str, operation: Json) -> str:
    security = operation.get("security", document.get("security", []))
    names = [name for choice in security for name in choice]
    who = " or ".join(names) if names else "none"
    name = escape(operation["operationId"])
    call = f"<code>{method.upper()}</code> <code>{escape(path)}</code>"
    parts = [
        f'<article><h3 id="{name}">{call}</h3><p>{_text(operation["summary"])}.</p>',
        f"<p>{_text(operation['description'])}</p>" if "description" in operation else "",
        f'<p class="who">Authentication: {escape(who)}</p>',
    ]
    if operation["parameters"]:
        rows = [
            (
                f"<code>{escape(each['name'])}</code>",
                escape(each["in"]),
                _type(each["schema"]),
                _text(each.get("description", "")),
            )
            for each in operation["parameters"]
        ]
        parts.append(_table("Parameters", ("Name", "In", "Type", "Meaning"), rows))
    if "requestBody" in operation:
        parts.append(f"<h4>Body</h4><p>{_content(operation['requestBody'])}</p>")
    rows = [
        (f"<code>{status}</code>", _content(answer), _text(answer["description"]))
        for status, answer in operation["responses"].items()
    ]
    parts.append(_table("Responses", ("Status", "Body", "Meaning"), rows))
    return "".join(parts) + "</article>"


def _content(found: Json) -> str:
    return ", ".join(
        f"{_type(content.get('schema', {}))} <small>{escape(kind)}</small>"
        for kind, content in found.get("content", {}).items()
    )


def _schema(schema: Json) -> str:
    about = f"<p>{_text(schema['description'])}</p>" if "description" in schema else ""
    required = schema.get("required", ())
    rows = [
        (
            f"<code>{escape(name)}</code>",
            _type(each),
            "yes" if name in required else "no",
            _text(each.get("description", "")),
        )
        for name, each in schema.get("properties", {}).items()
    ]
    if rows:
        return about + _table("", ("Field", "Type", "Required", "Meaning"), rows)
    return f"{about}<p>{_type(schema)}</p>"


def _type(schema: Json) -> str:
    """A type in a few words, with links to named schemas."""
    if match := _REF.fullmatch(schema.get("$ref", "")):
        return f'<a href="#{escape(match[1])}">{escape(match[1])}</a>'
    for word, choice in (("anyOf", " or "), ("oneOf", " or "), ("allOf", ", ")):
        if word in schema and not schema.get("properties"):
            named = [text for each in schema[word] if (text := _type(each))]
            return choice.join(dict.fromkeys(named))
    if "const" in schema:
        return f"<code>{escape(json.dumps(schema['const']))}</code>"
    if "enum" in schema:
        return " ".join(f"<code>{escape(json.dumps(each))}</code>" for each in schema["enum"])
    kind = schema.get("type", "")
    kinds = " or ".join(kind) if isinstance(kind, list) else kind
    if kind == "array":
        return f"list of {_type(schema.get('items', {})) or 'anything'}"
    return escape(kinds) + escape(_bounds(schema))


def _bounds(schema: Json) -> str:
    words = {
        "minimum": "from {}",
        "exclusiveMinimum": "above {}",
        "maximum": "to {}",
        "exclusiveMaximum": "below {}",
        "maxLength": "up to {} characters",
        "default": "default {}",
    }
    said = [words[name].format(json.dumps(schema[name])) for name in words if name in schema]
    return f" ({', '.join(said)})" if said else ""


def _table(title: str, heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    caption = f"<caption>{title}</caption>" if title else ""
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return (
        f'<div class="table" tabindex="0"><table>{caption}<thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _text(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(text))


_PAGE = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <title>{title}</title>
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <link rel="icon" type="image/svg+xml" href="web/icon.svg">
  <link rel="stylesheet" href="web/style.css">
  <link rel="stylesheet" href="web/docs.css">
</head>
<body class="docs">
  <a class="skip" href="#main">Skip to the calls</a>
  <header class="top"><a class="brand" href="./">
    <img src="web/icon.svg" alt="" width="22" height="22">Lore</a></header>
  <main id="main" tabindex="-1">
    <h1>{title}</h1>
    <div class="lead">{about}</div>
    <p>Version {version}. The same for programs: <a href="openapi.json">/openapi.json</a>.</p>
    <h2>Authentication</h2>
    <dl class="schemes">{security}</dl>
    <nav aria-label="Calls"><h2>Calls</h2><ul>{calls}</ul></nav>
    {operations}
    <h2>Bodies and events</h2>
    {schemas}
  </main>
</body>
</html>
"""

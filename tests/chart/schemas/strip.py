"""Take the schema out of a CRD, or a JSON schema as it is, without the prose.

    python strip.py < crd.yaml > name.json

How the files beside this one were made; README.md says from what.
"""

import json
import sys
from typing import Any

import yaml

PROSE = {"description", "x-intellij-html-description", "examples", "title"}


def without_prose(node: Any, *, names: bool = False) -> Any:
    """``names``: the keys of this mapping are somebody's names, not keywords of a schema."""
    if isinstance(node, list):
        return [without_prose(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: without_prose(value, names=key in ("properties", "definitions") and not names)
        for key, value in node.items()
        if names or key not in PROSE
    }


def schema(document: dict[str, Any]) -> dict[str, Any]:
    if document.get("kind") != "CustomResourceDefinition":
        return document
    (stored,) = [version for version in document["spec"]["versions"] if version["storage"]]
    return stored["schema"]["openAPIV3Schema"]


if __name__ == "__main__":
    json.dump(without_prose(schema(yaml.safe_load(sys.stdin))), sys.stdout, separators=(",", ":"))
    print()

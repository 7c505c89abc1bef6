"""Is an object what the API server would take? Unknown fields count as mistakes."""

import functools
import json
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from jsonschema import Draft7Validator
from jsonschema.protocols import Validator

from tests.chart.rendering import CHART, Object

KUBERNETES = "1.36.0"
SCHEMAS = Path(__file__).parent / "schemas"


def mistakes(one: Object) -> list[str]:
    """What is wrong with it, a line each."""
    validator = _validator(one["kind"])
    if validator is not None:
        return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(one)]
    try:
        kubernetes_validate.validate(one, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [str(error.message)]
    return []


@functools.cache
def _validator(kind: str) -> Validator | None:
    """For kinds that are not Kubernetes's own."""
    if kind == "StreamPolicy":
        crd = yaml.safe_load((CHART / "files/streampolicy-crd.yaml").read_text())
        schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    elif (file := SCHEMAS / f"{kind}.json").exists():
        schema = json.loads(file.read_text())
    else:
        return None
    closed = _closed(schema)
    closed["properties"]["metadata"] = {"type": "object"}
    return Draft7Validator(closed)


def _closed(schema: Any) -> Any:
    """A schema of a CRD that refuses what it does not name, as a strict API server does."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    closed = {key: _closed(part) for key, part in schema.items()}
    if (
        "properties" in schema
        and schema.get("type") == "object"
        and not schema.get("x-kubernetes-preserve-unknown-fields")
    ):
        closed.setdefault("additionalProperties", False)
    return closed

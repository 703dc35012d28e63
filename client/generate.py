"""``python client/generate.py``: write gauntlet_client/answers.py from the service's own /openapi.json.

Only what the service answers, without the limits on values: a client reads them. Fields that a newer service adds are
ignored, so that an older client goes on working with it.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from service.endpoints.openapi import document
from service.endpoints.routes import ENDPOINTS

WRITTEN = Path(__file__).parent / "gauntlet_client" / "answers.py"
LIMITS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "pattern"}
UNSAID = LIMITS | {"title", "examples", "additionalProperties", "contentEncoding", "contentMediaType"}
COUNTS = {"minItems", "maxItems"}  # these belong to a tuple
OPTIONS = (
    *(
        "--input-file-type",
        "openapi",
        "--output-model-type",
        "pydantic_v2.BaseModel",
        "--target-python-version",
        "3.11",
    ),
    *("--collapse-root-models", "--enum-field-as-literal", "all", "--disable-timestamp", "--use-schema-description"),
    *("--use-field-description", "--use-standard-collections", "--use-union-operator", "--formatters", "ruff-format"),
    *("--custom-file-header", '"""What the service answers. Written by client/generate.py."""'),
)


def references(part: Any) -> Iterator[str]:
    """The names of the schemas that a part of the document speaks of."""
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"].rpartition("/")[2]
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def lenient(part: Any, *, named: bool = False) -> Any:
    """Without what only whoever writes has to know. ``named``: the keys are names that the service chose."""
    if isinstance(part, list):
        return [lenient(value) for value in part]
    if not isinstance(part, dict):
        return part
    unsaid = set() if named else UNSAID if "prefixItems" in part else UNSAID | COUNTS
    if isinstance(part.get("additionalProperties"), dict):
        unsaid = unsaid - {"additionalProperties"}  # of a mapping, the type of its values
    return {
        key: lenient(value, named=key in ("properties", "schemas") and not named)
        for key, value in part.items()
        if key not in unsaid
    }


def answers() -> dict[str, Any]:
    """The document with the schemas of answers alone, all of their fields present."""
    whole = document(ENDPOINTS, keyed=False)
    schemas = whole["components"]["schemas"]
    found: set[str] = set()
    paths = [ways for path, ways in whole["paths"].items() if not path.startswith("/v2")]  # that has other clients
    left = {name for ways in paths for way in ways.values() for name in references(way["responses"])}
    while left:
        found |= left
        left = {name for known in found for name in references(schemas[known])} - found
    kept = {name: lenient(schema) for name, schema in schemas.items() if name in found}
    kept["Code"] = {"type": "string"}  # a newer service may have more of them
    return {**whole, "paths": {}, "components": {"schemas": kept}}


def generated() -> str:
    """The module."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "openapi.json"), Path(folder, "answers.py")
        source.write_text(json.dumps(answers()))
        files = ("--input", str(source), "--output", str(target))
        command = [sys.executable, "-m", "datamodel_code_generator", *files, *OPTIONS]
        subprocess.run(command, check=True)  # noqa: S603  no word in it but ours
        return target.read_text()


if __name__ == "__main__":
    WRITTEN.write_text(generated())

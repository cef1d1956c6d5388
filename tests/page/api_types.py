"""Writes the types of the API for the web page's scripts: `python -m tests.page.api_types` makes app/page/api.d.ts from
the OpenAPI document. tests/page/test_api_types.py compares the two."""

import json
import re
from pathlib import Path
from typing import Any

from app.main import create_app

OUTPUT = Path("app/page/api.d.ts")
HEADER = "// Made from the OpenAPI document by `python -m tests.page.api_types`.\n"


def format_types(document: dict[str, Any]) -> str:
    schemas = document["components"]["schemas"]
    return HEADER + "".join(f"\n{format_schema(name, schema)}" for name, schema in sorted(schemas.items()))


def format_schema(name: str, schema: dict[str, Any]) -> str:
    if "properties" not in schema:
        return f"export type {name} = {format_type(schema)};\n"
    required = schema.get("required", [])
    is_answer = not name.endswith(("Spec", "In"))
    fields = [
        f"  {format_key(key)}{'' if key in required or is_answer else '?'}: {format_type(value)};\n"
        for key, value in schema["properties"].items()
    ]
    return f"export interface {name} {{\n{''.join(fields)}}}\n"


def format_type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " | ".join(dict.fromkeys(format_type(each) for each in schema[union]))
    if "enum" in schema:
        return " | ".join(json.dumps(each) for each in schema["enum"])
    if "const" in schema:
        return json.dumps(schema["const"])
    match schema.get("type"):
        case "array":
            inner = format_type(schema.get("items", {}))
            return f"({inner})[]" if "|" in inner else f"{inner}[]"
        case "integer" | "number":
            return "number"
        case "string" | "boolean" | "null" as kind:
            return kind
        case "object":
            values = schema.get("additionalProperties", True)
            return f"Record<string, {'any' if isinstance(values, bool) else format_type(values)}>"
        case _:
            return "any"


def format_key(key: str) -> str:
    return key if re.fullmatch(r"\w+", key) else json.dumps(key)


def main() -> None:
    OUTPUT.write_text(format_types(create_app().openapi()))


if __name__ == "__main__":
    main()

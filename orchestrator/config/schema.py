"""The JSON schema of coe.yaml, for editors, and the reference in docs/config.md.

python -m orchestrator.config.schema writes both anew.
"""

import json
import re
from pathlib import Path
from typing import Any

from orchestrator.config.file import PATTERNS, describe, schema_at
from orchestrator.config.model import Config
from orchestrator.settings import SETTINGS

_NOTES = {
    "name": "What callers write as `model`.",
    "kind": "checkpoint: weights that vLLM loads; adapter: a LoRA on a checkpoint; remote: a LangChain chat model.",
    "modalities": "What its messages may hold.",
    "tools": "Can it call tools?",
    "price": "US dollars per million tokens.",
    "tags": "For your own grouping.",
    "description": "What it is good at, for people.",
    "sampling": "Generation defaults, where the caller sets none.",
}


def json_schema() -> dict[str, Any]:
    """The JSON schema of coe.yaml, for editors."""
    schema = Config.model_json_schema()
    fields = schema["$defs"]["ExpertSpec"]["properties"]
    for name in ("parameters", "context_length"):  # pydantic does not see what the validator of a count accepts
        fields[name]["anyOf"].insert(1, {"type": "string", "pattern": list(PATTERNS)[1]})
    for name, note in _NOTES.items():
        fields[name].setdefault("description", note)
    standard: dict[str, Any] = _standard(schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **standard, "title": "coe.yaml"}


_KEYWORDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


def _standard(part: Any) -> Any:
    """pydantic leaves the bounds of an optional number with a validator under names that JSON Schema does not know."""
    if isinstance(part, list):
        return [_standard(item) for item in part]
    if not isinstance(part, dict):
        return part
    number = part.get("type") in ("integer", "number")
    return {_KEYWORDS.get(key, key) if number else key: _standard(value) for key, value in part.items()}


def reference() -> dict[str, str]:
    """The generated parts of docs/config.md: name -> Markdown."""
    settings = ["| setting | flag | environment | `server:` of coe.yaml | default | |", "|---|---|---|---|---|---|"]
    for setting in SETTINGS:
        key = f"`{setting.name}`" if setting.in_yaml else "no"
        default = f"`{setting.default}`" if setting.default else "unset"
        row = (setting.name, f"`{setting.flag}`", f"`{setting.env}`", key, default, setting.summary)
        settings.append(f"| {' | '.join(row)} |")
    schema = json_schema()
    tables: list[str] = []
    _table(schema, schema_at(schema, ()), "", tables, {})
    return {"settings": "\n".join(settings), "keys": "\n\n".join(tables)}


def _table(schema: dict[str, Any], part: dict[str, Any], prefix: str, tables: list[str], told: dict[str, str]) -> None:
    """Adds the table of a section and those of the sections in it. told: title of a section -> the key it is under."""
    lines = ["| key | allowed | default | |", "|---|---|---|---|"]
    inner: list[tuple[str, dict[str, Any]]] = []
    for name in part["properties"]:
        value = schema_at({"$defs": schema["$defs"], **part}, (name,))
        key = prefix + name
        default = "required" if name in part.get("required", ()) else ""
        for step, suffix in (((), ""), (("*",), ".<name>"), ((0,), "[]"), (("*", 0), ".<name>[]")):
            below = schema_at({"$defs": schema["$defs"], **value}, step)
            if "properties" in below:
                if below["title"] not in told:
                    told[below["title"]] = key + suffix
                    inner.append((key + suffix, below))
                allowed = f"see `{told[below['title']]}`"
                break
        else:
            allowed = describe(schema, value)
            if value.get("default") not in (None, ""):
                default = f"`{json.dumps(value['default'])}`"
        lines.append(f"| `{key}` | {allowed} | {default} | {value.get('description', '')} |")
    tables.append((f"### `{prefix.removesuffix('.')}`\n\n" if prefix else "") + "\n".join(lines))
    for key, below in inner:
        _table(schema, below, key + ".", tables, told)


def written(docs: Path) -> dict[Path, str]:
    """The files under `docs` that are made from the models, as they should be."""
    page = docs / "config.md"
    text = page.read_text(encoding="utf-8")
    for name, markdown in reference().items():
        begin, end = f"<!-- generated: {name} -->", "<!-- end -->"
        text = re.sub(f"{begin}.*?{end}", lambda _, new=f"{begin}\n{markdown}\n{end}": new, text, flags=re.DOTALL)  # type: ignore[misc]
    return {page: text, docs / "coe.schema.json": json.dumps(json_schema(), indent=2) + "\n"}


if __name__ == "__main__":
    for made, content in written(Path(__file__).parents[2] / "docs").items():
        made.write_text(content, encoding="utf-8")
        print(made)

"""A YAML file with the lines of its keys, and pydantic's errors about it in words."""

import re
from collections.abc import Iterable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from experts.registry import close_matches, did_you_mean, one_of
from orchestrator.settings import ConfigError

MAX_FILE = 1 << 20
"""Bytes of a coe.yaml; what is larger is some other file."""

MAX_LINES = 25
"""Problems that are told at once."""

Loc = tuple[str | int, ...]
Problems = Iterator[tuple[Loc, str]]
"""The way to each key that is wrong, and why."""


class Located(ValueError):
    """Problems inside a model, each with the way to its key from there."""

    def __init__(self, problems: Iterable[tuple[Loc, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{dotted(loc)}: {message}" for loc, message in self.problems))


def under(at: Loc, found: Problems) -> Problems:
    """Problems of a part, as those of the whole."""
    return (((*at, *key), message) for key, message in found)


# YAML: the core schema of YAML 1.2 (`no` and `12:30` are text), one document, no duplicate keys, lines remembered


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # of the class, as the stubs do not say


_TAG = "tag:yaml.org,2002:"
for _kind, _form, _first in (
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(_TAG + _kind, re.compile(f"^(?:{_form})$"), [*_first, ""])


class Document:
    """A YAML file as `data`, and the line that each key stands in. Raises ConfigError unless it is one mapping.

    text: what stands in the file, if that is known; then it is not read.
    """

    def __init__(self, path: Path, text: str | None = None) -> None:
        self.path = path
        self._problems: list[tuple[int, str]] = []
        self._built: dict[int, Any] = {}
        self._open: set[int] = set()
        try:
            self._root = self._compose(self._read() if text is None else text)
            data = self._build(self._root) if self._root else None
        except RecursionError:
            raise ConfigError([f"{path}: not usable: lists or mappings are nested too deeply"]) from None
        if self._problems:
            raise ConfigError(f"{path}:{line}: {message}" for line, message in sorted(self._problems))
        if data is None:
            raise ConfigError([f"{path}: the file is empty, or holds only comments; write a key, or remove the file"])
        if not isinstance(data, dict):
            raise ConfigError(
                [f"{path}:{self.line(())}: got {_shown(data)}; the file must be a mapping of keys to values"]
            )
        self.data: dict[Any, Any] = data

    def _read(self) -> str:
        try:
            with open(self.path, "rb") as file:
                raw = file.read(MAX_FILE + 1)
        except FileNotFoundError:
            raise ConfigError([f"{self.path}: there is no such file"]) from None
        except IsADirectoryError:
            raise ConfigError([f"{self.path}: this is a folder; name the file in it"]) from None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise ConfigError([f"{self.path}: cannot be read: {reason}"]) from None
        if len(raw) > MAX_FILE:
            raise ConfigError([f"{self.path}: larger than {MAX_FILE >> 20} MiB, so not a configuration"])
        try:
            return raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = raw[: error.start].count(b"\n") + 1
            message = f"not UTF-8: byte 0x{raw[error.start]:02x}; save the file in UTF-8"
            raise ConfigError([f"{self.path}:{line}: {message}"]) from None

    def _compose(self, text: str) -> yaml.Node | None:
        try:
            node: yaml.Node | None = yaml.compose(text, Loader=_Loader)
            return node
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = f"{self.path}:{mark.line + 1}:{mark.column + 1}" if mark else str(self.path)
            told = error.problem or ""
            if error.context:
                begun = f" from line {error.context_mark.line + 1}" if error.context_mark else ""
                told = f"{error.context}{begun}: {told}"
            hint = "; indent with spaces" if "'\\t'" in told else ""
            if "mapping values are not allowed" in told:
                hint = "; is a line above it indented wrongly, or does a text with ': ' need quotes?"
            raise ConfigError([f"{where}: not YAML: {told}{hint}"]) from None
        except yaml.reader.ReaderError as error:
            line = text[: error.position].count("\n") + 1
            message = f"not YAML: the character U+{ord(text[error.position]):04X} is not allowed"
            raise ConfigError([f"{self.path}:{line}: {message}"]) from None

    def _build(self, node: yaml.Node) -> Any:
        if id(node) in self._built:
            return self._built[id(node)]
        if id(node) in self._open:
            self._problem(node, "the alias refers to what it is itself a part of")
            return None
        self._open.add(id(node))
        built: Any = None
        if isinstance(node, yaml.ScalarNode):
            built = self._scalar(node)
        elif node.tag not in (_TAG + "map", _TAG + "seq"):
            self._problem(node, f"the tag {node.tag.replace(_TAG, '!!')!r} is not supported")
        elif isinstance(node, yaml.SequenceNode):
            built = [self._build(item) for item in node.value]
        elif isinstance(node, yaml.MappingNode):
            built = self._mapping(node)
        self._open.discard(id(node))
        self._built[id(node)] = built
        return built

    def _mapping(self, node: yaml.MappingNode) -> dict[Any, Any]:
        own: dict[Any, Any] = {}
        merged: dict[Any, Any] = {}
        lines: dict[Any, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                for source in value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]:
                    if isinstance(source, yaml.MappingNode):
                        merged = {**(self._build(source) or {}), **merged}
                    else:
                        self._problem(source, "'<<' takes an alias of a mapping, or a list of such")
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self._problem(key_node, "a key must be text, not a list or a mapping")
                continue
            key = self._build(key_node)
            if key in own:
                self._problem(key_node, f"the key {key!r} stands here a second time, after line {lines[key]}")
                continue
            lines[key] = key_node.start_mark.line + 1
            own[key] = self._build(value_node)
        return merged | own

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text, kind = str(node.value), node.tag.removeprefix(_TAG)
        try:
            match kind:
                case "str":
                    return text
                case "null":
                    return None
                case "bool":
                    return {"true": True, "false": False}[text.lower()]
                case "int":
                    return int(text, 0 if text[:2] in ("0x", "0o") else 10)
                case "float":
                    return float(re.sub(r"\.(?=inf|nan)", "", text.lower()))
        except (ValueError, KeyError):
            self._problem(node, f"{_shown(text)} cannot be read as {kind!r}")
            return None
        self._problem(node, f"the tag {node.tag.replace(_TAG, '!!')!r} is not supported")
        return None

    def _problem(self, node: yaml.Node, message: str) -> None:
        self._problems.append((node.start_mark.line + 1, message))

    def line(self, loc: Loc) -> int:
        """The line of that key, or of what is nearest to it on the way."""
        node, line = self._root, self._root.start_mark.line + 1 if self._root else 1
        for part in loc:
            if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
                line = node.start_mark.line + 1
            elif isinstance(node, yaml.MappingNode) and (found := _entry(node, str(part))):
                node, line = found[1], found[0].start_mark.line + 1
            else:
                break
        return line

    def located(self, loc: Loc, message: str) -> str:
        return f"{self.path}:{self.line(loc)}: {dotted(loc)}: {message}"

    def lines_for(self, error: ValidationError, schema: dict[str, Any]) -> list[str]:
        """What pydantic found, in the order of the file, at most MAX_LINES of it."""
        found: list[tuple[Loc, Loc, str]] = []  # where its line is, the key to name, the message
        meant: set[Loc] = set()
        errors = sorted(error.errors(include_url=False), key=lambda details: details["type"] == "missing")
        for details in errors:
            loc = details["loc"]
            cause = details.get("ctx", {}).get("error")
            if isinstance(cause, Located):
                found += [((*loc, *inner), (*loc, *inner), message) for inner, message in cause.problems]
            elif details["type"] == "invalid_key" or loc[-1:] == ("[key]",):
                loc = loc[:-1] if loc[-1:] == ("[key]",) else loc
                found.append(
                    (
                        loc,
                        loc[:-1],
                        f"the key {_shown(details['input']).replace('nothing', 'null')} is not text; put it in quotes",
                    )
                )
            elif details["type"] == "extra_forbidden":
                keys = schema_at(schema, loc[:-1]).get("properties", {})
                meant.update((*loc[:-1], key) for key in close_matches(str(loc[-1]), keys)[:1])
                found.append((loc, loc[:-1], _unknown_key(loc, schema)))
            elif details["type"] != "missing" or loc not in meant:  # a misspelt key is one problem, not two
                found.append((loc, loc, _message(details, loc, schema)))
        lines = [
            f"{self.path}:{line}: {f'{dotted(named)}: ' if named else ''}{message}"
            for line, named, message in sorted(
                ((self.line(at), named, message) for at, named, message in found), key=itemgetter(0)
            )
        ]
        more = len(lines) - MAX_LINES
        return [*lines[:MAX_LINES], f"{self.path}: and {more} more problems"] if more > 0 else lines


def _entry(node: yaml.MappingNode, key: str) -> tuple[yaml.Node, yaml.Node] | None:
    """The nodes of a key and its value, merged mappings included."""
    for key_node, value_node in node.value:
        if isinstance(key_node, yaml.ScalarNode) and key_node.value == key:
            return key_node, value_node
    for key_node, value_node in node.value:
        if key_node.tag == _TAG + "merge":
            for source in value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]:
                if isinstance(source, yaml.MappingNode) and (found := _entry(source, key)):
                    return found
    return None


# Messages


def dotted(loc: Loc) -> str:
    """``('experts', 2, 'kind')`` as ``experts[2].kind``."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if re.fullmatch(r"[\w-]+", part) else f"[{part!r}]"
    return text.removeprefix(".")


def _shown(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case str() if len(value) > 80:
            return f"{value[:80]!r}..."
    return repr(value)


def _message(details: ErrorDetails, loc: Loc, schema: dict[str, Any]) -> str:
    # What may hold a secret is never repeated.
    secret = "options" in loc or "engine_args" in loc or loc[-1:] == ("redis_url",)
    got = "got a value (not shown)" if secret else f"got {_shown(details['input'])}"
    wanted = schema_at(schema, loc)
    if details["type"] == "missing":
        return f"missing; allowed: {describe(schema, wanted)}"
    if details["type"] == "value_error":
        message = str(details["ctx"]["error"])
        return message if secret or isinstance(details["input"], dict | list) else f"{got}; {message}"
    hint = ""
    if isinstance(details["input"], str):
        hint = did_you_mean(details["input"], [str(word) for word in wanted.get("enum", ())])
    elif isinstance(details["input"], int | float) and wanted.get("type") == "string" and "enum" not in wanted:
        hint = "; put it in quotes"
    return f"{got}; allowed: {describe(schema, wanted)}{hint}"


def _unknown_key(loc: Loc, schema: dict[str, Any]) -> str:
    key, keys = str(loc[-1]), list(schema_at(schema, loc[:-1]).get("properties", {}))
    if key == "api_key":
        if loc[0] == "experts":
            return "unknown key 'api_key'; for a remote expert write 'api_key: env:NAME' under 'options'"
        return "'api_key' does not belong in this file, which others may read; set COE_API_KEY in the environment"
    for at in (loc[:-1], ()):
        for section in schema_at(schema, at).get("properties", {}):
            if key in schema_at(schema, (*at, section)).get("properties", {}):
                return f"unknown key {key!r}; it belongs under {dotted((*at, section))!r}"
    allowed = f"; allowed: {', '.join(keys)}"
    return f"unknown key {_shown(key)}{did_you_mean(key, keys) or allowed}"


def schema_at(schema: dict[str, Any], loc: Loc) -> dict[str, Any]:
    """The part of a JSON schema that is for this key, without references and without null."""

    def plain(part: dict[str, Any]) -> dict[str, Any]:
        if "$ref" in part:
            return {**plain(schema["$defs"][part["$ref"].rpartition("/")[2]]), **part}
        choices = [choice for choice in part.get("anyOf", ()) if choice.get("type") != "null"]
        return {**part, **plain(choices[0])} if len(choices) == 1 else part

    part = plain(schema)
    for step in loc:
        inner = part.get("items") if isinstance(step, int) else part.get("properties", {}).get(step)
        if not isinstance(inner, dict):
            inner = part.get("additionalProperties")
        part = plain(inner if isinstance(inner, dict) else {})
    return part


PATTERNS = {
    r"^[a-z0-9][a-z0-9._-]{0,62}$": "1 to 63 characters of a-z, 0-9, '.', '_' and '-', the first a letter or digit",
    r"^\d+(\.\d+)?\s*[KMBTkmbt]$": "text such as '135M' or '7B'",
}


def describe(schema: dict[str, Any], part: dict[str, Any]) -> str:
    """What a part of the schema allows, in words."""
    if "anyOf" in part and "type" not in part:
        return " or ".join(describe(schema, choice) for choice in part["anyOf"] if choice.get("type") != "null")
    if "enum" in part or "const" in part:
        return one_of(part.get("enum") or [part["const"]])
    bounds = [
        f"{words} {part[key]:g}"
        for key, words in (
            ("minimum", "at least"),
            ("exclusiveMinimum", "above"),
            ("maximum", "at most"),
            ("exclusiveMaximum", "below"),
        )
        if key in part
    ]
    within = f" {' and '.join(bounds)}" if bounds else ""
    match part.get("type"):
        case "integer":
            return f"a whole number{within}"
        case "number":
            return f"a number{within}"
        case "boolean":
            return "true or false"
        case "string" if "pattern" in part:
            return PATTERNS.get(part["pattern"], f"text of the form {part['pattern']}")
        case "string" if part.get("format") == "path":
            return "a path"
        case "string":
            return "text that is not empty" if part.get("minLength") else "text"
        case "array":
            most = f" of at most {part['maxItems']}" if "maxItems" in part else ""
            return f"a list{most} (items: {describe(schema, schema_at({'$defs': schema['$defs'], **part}, (0,)))})"
        case "object" if "required" in part:
            return f"a mapping with at least the keys {' and '.join(map(repr, part['required']))}"
        case "object" if "properties" in part:
            return f"a mapping with keys such as {one_of(list(part['properties'])[:3])}"
    return "a mapping"

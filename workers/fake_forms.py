"""What the fake engine writes where an answer is bound to a form, or calls a tool.

It is a value that the JSON schema allows, made of what stands in the user's message as far as that fits: numbers where
numbers belong; words in quotes, then names and rows of digits where texts belong; each in the order of the message. The
rest is the least that the schema allows.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from workers.base import CallPart, ChatCall, Form, Tools

NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.]*\d)")
QUOTED = re.compile(r"(?<!\w)'([^'\n]+)'(?!\w)|\"([^\"\n]+)\"")
NAME = re.compile(r"(?<![\w'\"])[A-Z]\w*(?:,? [A-Z]\w*)*|(?<!\w)\d[\d ]*\d(?!\w)")
"""Words with capitals in a row, or digits."""
PIECE = 8
"""Characters of a call's arguments that are streamed at a time."""
MOST = 10_000
"""Characters of a text and entries of a list that are written for a schema."""


def problem(call: ChatCall) -> str | None:
    """Why nothing can be written for the schemas of this call: some are none, and some have no end."""
    try:
        if call.tools:
            list(calls(call, call.tools))
        if call.sampling.form:
            text(call.sampling.form, user_text(call))
    except (AttributeError, IndexError, KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
        return f"the schema cannot be followed: {type(error).__name__}"
    return None


class Found:
    """What a message holds to fill a form with. Each thing is taken once."""

    def __init__(self, message: str) -> None:
        self.made = 0  # values so far
        self.quoted = [one or other for one, other in QUOTED.findall(message)]
        self._numbers = [json.loads(number) for number in NUMBER.findall(message) if _is_json(number)]
        rest = QUOTED.sub(lambda match: "'" * len(match[0]), message)
        names = [match for match in NAME.finditer(rest) if not _begins(rest, match)]
        self._texts = [*self.quoted, *(match[0] for match in names)]

    def number(self, fits: Callable[[Any], bool]) -> Any:
        """None if there is none that fits."""
        return _taken(self._numbers, fits)

    def text(self, fits: Callable[[Any], bool]) -> str | None:
        """None if there is none that fits."""
        text: str | None = _taken(self._texts, fits)
        return text


def text(form: Form, message: str) -> str:
    """JSON of that form; of any form with the keys that the message has in quotes."""
    found = Found(message)
    if form.schema:
        return _written(value(json.loads(form.schema), found))
    return _written({key: "x" for key in found.quoted if key.isidentifier()})


def calls(call: ChatCall, tools: Tools) -> Iterator[tuple[CallPart, ...]]:
    """Of the function that must be called; else of those that the last message means, if a user wrote it; else of the
    first where one must be. In pieces, as they are streamed."""
    by_name = {each["name"]: each for each in tools.functions}
    said = user_text(call)
    meant = _meant(by_name, said) if call.messages[-1]["role"] == "user" else []
    if tools.choice == "required":
        meant = [tools.name] if tools.name else meant or [*by_name][:1]
    elif tools.choice == "none":
        meant = []
    for index, name in enumerate(meant[: None if tools.parallel else 1]):
        written = _written(value(by_name[name].get("parameters") or {"type": "object"}, Found(said)))
        yield (CallPart(index, "", f"call_{call.request_id}_{index}", name),)
        for at in range(0, len(written), PIECE):
            yield (CallPart(index, written[at : at + PIECE]),)


def user_text(call: ChatCall) -> str:
    """What the user said last."""
    said = [message.get("content") for message in call.messages if message["role"] == "user"]
    return str(said[-1] or "") if said else ""


def value(schema: Any, found: Found, root: Any = None) -> Any:
    """One that fits the schema, as far as it is made of the words below. Raises OverflowError for a huge one."""
    root = schema if root is None else root
    found.made = _few(found.made + 1)
    if not isinstance(schema, Mapping):
        return None
    if "$ref" in schema:
        return value(_at(root, schema["$ref"]), found, root)
    for word in ("const", "default"):
        if word in schema:
            return schema[word]
    if schema.get("enum"):
        return schema["enum"][0]
    for word in ("anyOf", "oneOf", "allOf"):
        if schema.get(word):
            return value(schema[word][0], found, root)
    kind = schema.get("type", "object" if "properties" in schema else None)
    if isinstance(kind, Sequence) and not isinstance(kind, str):
        kind = kind[0]
    match kind:
        case "object":
            properties = schema.get("properties", {})
            names = schema.get("required", properties)
            return {name: value(properties.get(name, {}), found, root) for name in names}
        case "array":
            return [value(schema.get("items", {}), found, root) for _ in range(_few(schema.get("minItems", 0)))]
        case "string":
            text = found.text(lambda text: _text_fits(text, schema))
            return text if text is not None else "x" * _few(schema.get("minLength", 1))
        case "integer" | "number":
            return _number(schema, found, whole=kind == "integer")
        case "boolean":
            return True
    return None


def _number(schema: Mapping[str, Any], found: Found, *, whole: bool) -> Any:
    least, most = _bound(schema, "minimum", -math.inf), _bound(schema, "maximum", math.inf)
    over, under = _bound(schema, "exclusiveMinimum", -math.inf), _bound(schema, "exclusiveMaximum", math.inf)

    def fits(number: Any) -> bool:
        return bool(least <= number <= most and over < number < under) and (not whole or isinstance(number, int))

    number = None if "multipleOf" in schema else found.number(fits)
    if number is not None:
        return number
    return next((number for number in (0, least, over + 1, under - 1) if math.isfinite(number) and fits(number)), 0)


def _text_fits(text: str, schema: Mapping[str, Any]) -> bool:
    if "format" in schema or "pattern" in schema:
        return False
    least, most = _bound(schema, "minLength", 0), _bound(schema, "maxLength", math.inf)
    return bool(least <= len(text) <= most)


def _bound(schema: Mapping[str, Any], word: str, otherwise: float) -> Any:
    bound = schema.get(word)
    return bound if isinstance(bound, int | float) and not isinstance(bound, bool) else otherwise


def _meant(names: Sequence[str] | Mapping[str, Any], said: str) -> list[str]:
    """The names that stand in the text; if none does, those whose last word does."""
    if named := [name for name in names if name in said]:
        return named
    words = set(re.findall(r"[^\W_]+", said.lower()))
    return [name for name in names if name.lower().rpartition("_")[2] in words]


def _begins(text: str, match: re.Match[str]) -> bool:
    """Has the word its capital from beginning a sentence?"""
    before = text[: match.start()].rstrip()
    return " " not in match[0] and match[0][0].isalpha() and (not before or before[-1] in ".?!")


def _taken(things: list[Any], fits: Callable[[Any], bool]) -> Any:
    place = next((place for place, thing in enumerate(things) if fits(thing)), None)
    return None if place is None else things.pop(place)


def _is_json(number: str) -> bool:
    return not number.lstrip("-").startswith("0") or number.lstrip("-").partition(".")[0] == "0"


def _written(made: Any) -> str:
    return json.dumps(made, ensure_ascii=False)


def _few(number: int) -> int:
    if number > MOST:
        raise OverflowError
    return number


def _at(root: Any, pointer: str) -> Any:
    found = root
    for part in pointer.removeprefix("#").strip("/").split("/"):
        found = found[part] if part else found
    return found

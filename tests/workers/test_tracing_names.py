"""Attributes of spans have the names of the semantic conventions, and the page lists them all."""

import re
from pathlib import Path

from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai
from opentelemetry.semconv.attributes import error_attributes, http_attributes, url_attributes

from workers.tracing import names

PAGE = Path(__file__).parents[2] / "docs" / "observing.md"
OWN = {value for name, value in vars(names).items() if name.isupper() and isinstance(value, str) and "." in value}


def test_names_are_those_of_the_semantic_conventions() -> None:
    standard = {
        value
        for module in (gen_ai, error_attributes, http_attributes, url_attributes)
        for value in vars(module).values()
        if isinstance(value, str)
    }
    assert len(OWN) > 20
    assert {name for name in OWN if not name.startswith("coe.")} <= standard
    operations = {operation.value for operation in gen_ai.GenAiOperationNameValues}
    assert {names.CHAT, names.COMPLETION} <= operations


def test_the_page_lists_every_attribute() -> None:
    _, _, table = PAGE.read_text().partition("| attribute |")
    assert set(re.findall(r"`((?:coe|gen_ai|http|url|error)\.[a-z_.]+)`", table)) == OWN

"""Bodies of requests, read as the API reads them."""

import json
from typing import Any

import pytest

from orchestrator.errors import ApiError
from orchestrator.http.reading import parse as parse_body
from orchestrator.http.wire import ChatRequest
from orchestrator.http.wire_coe import Names
from tests.orchestrator.parts import LIMITS, REGISTRY

USER = {"role": "user", "content": "hello"}
NAMES = Names(REGISTRY.names, ("joined", "first", "broken"))


def parse(**body: Any) -> ChatRequest:
    body = {"model": "auto", "messages": [USER], **body}
    return parse_body(json.dumps(body).encode(), ChatRequest, LIMITS, NAMES)


def refused(**body: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parse(**body)
    return caught.value

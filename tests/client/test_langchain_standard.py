"""LangChain's own tests of a chat model, against the mock service."""

import json
from typing import Any

from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from coe_client.langchain import ChatCoE
from coe_client.testing import MockService, Reply, Request, answered

ARGUMENTS: dict[str, dict[str, Any]] = {
    "magic_function": {"input": 3},
    "magic_function_no_args": {},
    "greeting_generator": {"answer_style": "Pirate"},
    "my_adder_tool": {"a": 3, "b": 4},
    "get_weather": {"location": "San Francisco, CA"},
}
"""What a model would make of the prompts that LangChain's tests ask."""


def respond(request: Request) -> Reply:
    """As a model with tools does that always calls one, once, and answers in the form that is asked for."""
    body = request.json
    last = body["messages"][-1]
    if "response_format" in body:
        return answered(request, json.dumps({"setup": "Why do cats purr?", "punchline": "Ask the cat."}))
    if body.get("tools") and last["role"] != "tool":
        chosen = body.get("tool_choice")
        name = (chosen if isinstance(chosen, dict) else body["tools"][0])["function"]["name"]
        known = ARGUMENTS.get(name, {"customer_name": last["content"], "description": "a company"})
        return answered(request, tool_calls=[(name, known)], expert=body["model"])
    return answered(request, "an answer of some words", expert=body["model"])


class TestUnit(ChatModelUnitTests):
    @property
    def chat_model_class(self) -> type[ChatCoE]:
        return ChatCoE

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "smol-general"}

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        # The URL and the key of the environment are read by the client that the model makes.
        return {"COE_API_KEY": "coe-of-the-environment"}, {"model": "auto"}, {"model": "auto", "api_key": None}


class TestIntegration(ChatModelIntegrationTests):
    @property
    def chat_model_class(self) -> type[ChatCoE]:
        return ChatCoE

    @property
    def chat_model_params(self) -> dict[str, Any]:
        service = MockService(respond)
        return {"model": "smol-general", "client": service.client(), "async_client": service.async_client()}

    @property
    def supports_image_inputs(self) -> bool:
        return False

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return "smol-sql"

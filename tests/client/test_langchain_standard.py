"""LangChain's own tests of a chat model: of the class by itself, and against the real API with fake engines."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any, ClassVar, Literal

import pytest
import pytest_asyncio
from langchain_core.messages import AIMessage
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from coe_client import AsyncCoe, Coe
from coe_client.langchain import ChatCoE
from experts.registry import Registry
from experts.spec import ExpertSpec
from orchestrator.embedded_redis import EmbeddedRedis
from tests.client.conftest import Served, serving_in_a_thread
from tests.orchestrator.parts import LIMITS

REGISTRY = Registry(
    ExpertSpec(name=name, source=f"models/{name}", family="small", tools=True) for name in ("first", "second")
)


class TestUnit(ChatModelUnitTests):
    """Skipped is test_serdes: a model that holds connections and a key is not made to be written down."""

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
    served: ClassVar[Served]
    clients: dict[str, Any]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def service(cls, redis: EmbeddedRedis) -> Iterator[None]:
        limits = replace(LIMITS, body_bytes=1_000_000, messages=100)
        with serving_in_a_thread(redis, registry=REGISTRY, limits=limits) as cls.served:
            yield

    @pytest_asyncio.fixture(autouse=True)
    async def connections(self, service: None) -> AsyncIterator[None]:
        url, key = self.served.url, self.served.service.key
        with Coe(url, key) as blocking:
            async with AsyncCoe(url, key) as awaited:
                self.clients = {"client": blocking, "async_client": awaited}
                yield

    @property
    def chat_model_class(self) -> type[ChatCoE]:
        return ChatCoE

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "auto", **self.clients}

    @property
    def model_override_value(self) -> str:
        return "second"

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supported_usage_metadata_details(self) -> dict[Literal["invoke", "stream"], list[Any]]:
        return {"invoke": ["cache_read_input"], "stream": ["cache_read_input"]}

    def invoke_with_cache_read_input(self, *, stream: bool = False) -> AIMessage:
        message = ChatCoE(**self.chat_model_params, streaming=stream).invoke("hello")
        assert isinstance(message, AIMessage)
        return message

    # What does not apply, and why

    @property
    def supports_image_inputs(self) -> bool:
        """The service takes text alone."""
        return False

    supports_image_urls = supports_image_tool_message = supports_image_inputs
    supports_pdf_inputs = supports_pdf_tool_message = supports_audio_inputs = supports_image_inputs

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True

    @property
    def enable_vcr_tests(self) -> bool:
        """Nothing is recorded: the service itself answers in every run."""
        return False

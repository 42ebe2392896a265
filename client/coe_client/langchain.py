"""`ChatCoE`: the service as a LangChain chat model. Needs `coe-client[langchain]`.

model = ChatCoE(coe=Options(k=3))
message = model.invoke("hello")
message.response_metadata["route"]["reason"]
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, Literal, cast
from weakref import WeakKeyDictionary

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.output_parsers.base import OutputParserLike
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser, PydanticToolsParser
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import Field, PrivateAttr, SecretStr

from coe_client.aio import AsyncCoe
from coe_client.calls import AUTO
from coe_client.client import Coe
from coe_client.langchain_messages import chunk_of, last_chunk_of, messages_of, result_of
from coe_client.options import ChatFields, Options

Tool = dict[str, Any] | type | Callable[..., Any] | BaseTool
Method = Literal["json_schema", "function_calling", "json_mode"]

_SENT = (
    "frequency_penalty",
    "logprobs",
    "max_tokens",
    "n",
    "presence_penalty",
    "seed",
    "stop",
    "temperature",
    "top_logprobs",
    "top_p",
)


class ChatCoE(BaseChatModel):
    """A chat model with the service's routing.

    model: `auto`, an ensemble or an expert. coe: this service's own options. model_kwargs: more fields of the body.
    base_url, api_key, timeout, max_retries: as of `coe_client.Coe`, where COE_URL and COE_API_KEY stand in as well.
    client, async_client: yours, instead of ones made from these, which `close` and `aclose` close.

    The answer's `response_metadata` has `route` (who answered, why, what each call cost), `model_name`,
    `finish_reason`, `request_id` and, if asked for, `logprobs`. Errors are those of `coe_client.errors`.
    """

    model: str = AUTO
    base_url: str | None = None
    api_key: SecretStr | None = None
    timeout: float = 600.0
    max_retries: int = 2
    streaming: bool = False
    coe: Options | None = None
    frequency_penalty: float | None = None
    logprobs: bool | None = None
    max_tokens: int | None = None
    n: int | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    stop: list[str] | str | None = None
    temperature: float | None = None
    top_logprobs: int | None = None
    top_p: float | None = None
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    client: Coe | None = Field(default=None, exclude=True, repr=False)
    async_client: AsyncCoe | None = Field(default=None, exclude=True, repr=False)

    _own: Coe | None = PrivateAttr(default=None)
    # A connection belongs to the event loop that opened it, and programs call asyncio.run more than once.
    _own_by_loop: "WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncCoe]" = PrivateAttr(
        default_factory=WeakKeyDictionary
    )

    # Asking

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return result_of(self._sync().chat(messages_of(messages), **self._fields(stop, kwargs)))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return result_of(await self._async().chat(messages_of(messages), **self._fields(stop, kwargs)))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        with self._sync().chat_stream(messages_of(messages), **self._fields(stop, kwargs)) as stream:
            for chunk in stream:
                if made := chunk_of(chunk):
                    if run_manager:
                        run_manager.on_llm_new_token(made.text, chunk=made)
                    yield made
            yield last_chunk_of(stream.answer)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        async with self._async().chat_stream(messages_of(messages), **self._fields(stop, kwargs)) as stream:
            async for chunk in stream:
                if made := chunk_of(chunk):
                    if run_manager:
                        await run_manager.on_llm_new_token(made.text, chunk=made)
                    yield made
            yield last_chunk_of(stream.answer)

    # Tools and structure

    def bind_tools(
        self,
        tools: Sequence[Tool],
        *,
        tool_choice: str | bool | dict[str, Any] | None = None,
        strict: bool | None = None,
        parallel_tool_calls: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The model with tools: functions, pydantic classes, LangChain tools or OpenAI's JSON.

        tool_choice: `auto`, `none`, `any` or True for some tool, or a tool's name.
        """
        made = [convert_to_openai_tool(tool, strict=strict) for tool in tools]
        if parallel_tool_calls is not None:
            kwargs["parallel_tool_calls"] = parallel_tool_calls
        if tool_choice:
            kwargs["tool_choice"] = _tool_choice(tool_choice, [tool["function"]["name"] for tool in made])
        return self.bind(tools=made, **kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        include_raw: bool = False,
        method: Method = "json_schema",
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """The model with answers of this schema: a pydantic class, a TypedDict or a JSON schema.

        method: `json_schema` has the service keep the answer to the schema; `function_calling` calls a tool of that
        form; `json_mode` asks for JSON only, of which the prompt must tell the form. include_raw: a dict of `raw`,
        `parsed` and `parsing_error` instead, and nothing raised for what cannot be parsed.
        """
        json_schema = convert_to_json_schema(schema, strict=strict)
        told = {"ls_structured_output_format": {"kwargs": {"method": method, "strict": strict}, "schema": schema}}
        is_class = isinstance(schema, type) and is_basemodel_subclass(schema)
        asked: Runnable[LanguageModelInput, Any]
        parser: OutputParserLike[Any]
        if method == "function_calling":
            name = convert_to_openai_tool(schema)["function"]["name"]
            asked = self.bind_tools(
                [schema], tool_choice=name, strict=strict, parallel_tool_calls=False, **told, **kwargs
            )
            parser = (
                PydanticToolsParser(tools=[cast("Any", schema)], first_tool_only=True)
                if is_class
                else JsonOutputKeyToolsParser(key_name=name, first_tool_only=True)
            )
        else:
            form: dict[str, Any] = {"type": "json_object"}
            if method == "json_schema":
                named = {"name": json_schema.get("title") or "answer", "schema": json_schema}
                form = {"type": "json_schema", "json_schema": named | ({} if strict is None else {"strict": strict})}
            elif method != "json_mode":
                raise ValueError(f"method: got {method!r}; allowed are json_schema, function_calling and json_mode")
            asked = self.bind(response_format=form, **told, **kwargs)
            parser = PydanticOutputParser(pydantic_object=cast("Any", schema)) if is_class else JsonOutputParser()
        if not include_raw:
            return asked | parser
        parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
        failed = RunnablePassthrough.assign(parsed=lambda _: None)
        return RunnableMap(raw=asked) | parsed.with_fallbacks([failed], exception_key="parsing_error")

    # What LangChain asks about the model

    @property
    def _llm_type(self) -> str:
        return "coe"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        """What makes two models the same to a cache."""
        return {"base_url": self.base_url, **self._fields(None, {})}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        fields = self._fields(stop, kwargs)
        params = LangSmithParams(ls_provider="coe", ls_model_type="chat", ls_model_name=str(fields["model"]))
        if (temperature := fields.get("temperature")) is not None:
            params["ls_temperature"] = temperature
        if (max_tokens := fields.get("max_tokens")) is not None:
            params["ls_max_tokens"] = max_tokens
        if stops := fields.get("stop"):
            params["ls_stop"] = [stops] if isinstance(stops, str) else [*stops]
        return params

    # Its clients

    def close(self) -> None:
        """Closes the connections that blocking methods opened."""
        if self._own is not None:
            self._own.close()
            self._own = None

    async def aclose(self) -> None:
        """Closes the connections that were opened in this event loop."""
        if own := self._own_by_loop.pop(asyncio.get_running_loop(), None):
            await own.close()

    def _sync(self) -> Coe:
        if self.client is not None:
            return self.client
        if self._own is None:
            self._own = Coe(self.base_url, self._key, timeout=self.timeout, max_retries=self.max_retries)
        return self._own

    def _async(self) -> AsyncCoe:
        if self.async_client is not None:
            return self.async_client
        loop = asyncio.get_running_loop()
        if loop not in self._own_by_loop:
            own = AsyncCoe(self.base_url, self._key, timeout=self.timeout, max_retries=self.max_retries)
            self._own_by_loop[loop] = own
        return self._own_by_loop[loop]

    @property
    def _key(self) -> str | None:
        return self.api_key.get_secret_value() if self.api_key else None

    def _fields(self, stop: list[str] | None, kwargs: Mapping[str, Any]) -> ChatFields:
        """The body's fields: those of this call over those of the model."""
        fields: dict[str, Any] = {"model": self.model}
        fields |= {name: value for name in _SENT if (value := getattr(self, name)) not in (None, [])}
        if self.coe is not None:
            fields["coe"] = self.coe
        fields |= self.model_kwargs
        fields |= {name: value for name, value in kwargs.items() if name != "stream"}
        if stop is not None:
            fields["stop"] = stop
        return cast("ChatFields", fields)


def _tool_choice(choice: str | bool | dict[str, Any], names: Sequence[str]) -> str | dict[str, Any]:
    if choice is True or choice == "any":
        return "required"
    if isinstance(choice, str) and choice in names:
        return {"type": "function", "function": {"name": choice}}
    if choice in ("auto", "none", "required") or isinstance(choice, dict):
        return cast("str | dict[str, Any]", choice)
    raise ValueError(f"tool_choice: got {json.dumps(choice)}; allowed are auto, none, any, required and {names}")

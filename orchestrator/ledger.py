"""The calls that one request makes to experts: each is submitted here, and what became of it is kept."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from aggregators.base import Messages
from experts.registry import Registry
from experts.spec import ExpertSpec
from orchestrator.access.quota import Use
from orchestrator.calls import Calls
from orchestrator.events import Ask, CallMade
from orchestrator.spending import Spent
from routers.policies.budget import NO_BOUND, Budget, most_usd
from routers.policies.constraints import estimated_tokens
from workers.base import ChatCall, Delta, Event, Failure, Finish, Sampling, Usage
from workers.tracing import names
from workers.tracing.content import message_out, messages_in
from workers.tracing.spans import AnySpan, Attributes

WHOLE_S = 0.5
"""How often a worker tells what it has so far, where nobody looks on: in case the call is broken off."""
NOT_BEGUN = frozenset(("prompt_too_long", "engine_starting", "overloaded"))
"""Failures of calls that an engine did not begin, which count for nothing."""


class Ledger:
    """budget: a call that it does not allow is not made and ends as a failure.

    span: of the trace, under which calls are.
    drafted: when the last draft ended that was wanted until its end, on the clock of `time.perf_counter`; None before.
    """

    def __init__(self, ask: Ask, calls: Calls, registry: Registry, budget: Budget = NO_BOUND) -> None:
        self._ask, self._calls, self._registry, self._spent = ask, calls, registry, Spent(budget)
        self.span = ask.span
        self.drafted: float | None = None
        self._began = 0
        self._made: dict[int, CallMade] = {}
        self._of_expert: dict[str, int] = {}
        self._drafting: dict[int, str] = {}  # call -> its expert, of drafts under way
        self._untold: dict[int, Usage] = {}  # of calls that said something and not what they used

    @property
    def calls(self) -> tuple[CallMade, ...]:
        """Those that have ended, in the order in which they began."""
        return tuple(self._made[number] for number in sorted(self._made))

    @property
    def used(self) -> Use:
        """What the calls have used. One that broke off without telling counts for its prompt and a token a piece."""
        tokens, usd = 0, 0.0
        for number, call in self._made.items():
            if usage := call.usage or self._untold.get(number):
                tokens += usage.prompt_tokens + usage.completion_tokens
                usd += _cost(self._registry.get(call.expert), usage) or 0.0
        return Use(tokens=tokens, usd=usd)

    async def call(
        self,
        expert: str,
        role: str,
        *,
        messages: Messages | None = None,
        sampling: Sampling | None = None,
        text: str | None = None,
        deadline: float = float("inf"),
    ) -> AsyncGenerator[Event, None]:
        """Deltas, then one Finish or Failure. Closing it aborts the call in its engine.

        messages, sampling: the request's own if not given. text: to be continued, in place of messages. deadline: Unix
        time in seconds; the request's own holds anyway.
        """
        own = messages is None
        if text is not None:
            messages = ({"role": "user", "content": text},)
        number, self._began, began = self._began, self._began + 1, time.perf_counter()
        sampling = self._ask.sampling if sampling is None else sampling
        span = self._span(expert, role, sampling, text is not None)
        call = ChatCall(
            self._id(expert),
            expert,
            self._ask.messages if messages is None else tuple(map(dict, messages)),
            sampling,
            min(deadline, self._ask.deadline),
            self._ask.priority,
            self._ask.caller,
            self._ask.tools if own else None,
            text,
            0.0 if self._ask.stream or role != "answer" else WHOLE_S,
            tuple(self._drafting.values()) if role == "draft" else (),
            span.traceparent,
        )
        if role == "draft":
            self._drafting[number] = expert
        texts: list[str] | None = None
        if span.content:
            span.set({names.INPUT_MESSAGES: messages_in(call.messages)})
            texts = []
        end: Event | None = None
        usage: Usage | None = None
        said = 0
        refusal = self._spent.begin(number, self._most_usd(call))
        try:
            submitted = _refused(refusal) if refusal else self._calls.submit(call, alone=role == "answer")
            async with aclosing(submitted) as events:
                async for event in events:
                    if isinstance(event, Delta):
                        usage = event.usage or usage
                        said += 1
                        if texts is not None:
                            texts.append(event.text)
                    else:
                        end = event
                        usage = event.usage if isinstance(event, Finish) else usage
                        self._made[number] = self._entry(number, expert, role, began, usage, end)
                    yield event
        finally:
            self._drafting.pop(number, None)
            if end is None:
                self._made[number] = self._entry(number, expert, role, began, usage, None)
            if said and self._made[number].usage is None:
                self._untold[number] = Usage(_prompt_tokens(call), said)
            if texts is not None:
                reason = end.reason if isinstance(end, Finish) else None
                span.set({names.OUTPUT_MESSAGES: message_out("".join(texts), reason)})
            _end(span, self._made[number], end)

    def _span(self, expert: str, role: str, sampling: Sampling, is_completion: bool) -> AnySpan:
        if not self.span.is_on:
            return self.span
        operation = names.COMPLETION if is_completion else names.CHAT
        return self.span.child(
            names.call(operation, expert),
            "client",
            {
                names.OPERATION: operation,
                names.PROVIDER: names.OWN_PROVIDER,
                names.REQUEST_MODEL: expert,
                names.ROLE: role,
                names.MAX_TOKENS: sampling.max_tokens,
                names.TEMPERATURE: sampling.temperature,
                names.TOP_P: sampling.top_p,
                names.SEED: sampling.seed,
            },
        )

    def _id(self, expert: str) -> str:
        """The request's id, of which an engine makes its own with the expert's name: further calls need another."""
        count = self._of_expert[expert] = self._of_expert.get(expert, 0) + 1
        return self._ask.request_id if count == 1 else f"{self._ask.request_id}.{count}"

    def _most_usd(self, call: ChatCall) -> float:
        return most_usd(self._registry.get(call.expert), _prompt_tokens(call), call.sampling.max_tokens)

    def _entry(
        self, number: int, expert: str, role: str, began: float, usage: Usage | None, end: Finish | Failure | None
    ) -> CallMade:
        seconds = time.perf_counter() - began
        cost = _cost(self._registry.get(expert), usage) if usage else None
        if role == "draft" and end is not None:
            self.drafted = time.perf_counter()
        if isinstance(end, Finish):
            self._spent.end(number, cost or 0.0)
            return CallMade(expert, role, seconds, usage, end.expert, cost, phases=end.phases)
        if isinstance(end, Failure) and end.code in NOT_BEGUN:
            self._spent.undo(number)
        return CallMade(expert, role, seconds, usage, cost=cost, error=public(end) if end else names.CANCELLED)


def _end(span: AnySpan, made: CallMade, end: Event | None) -> None:
    """Of a call as it was made."""
    if not span.is_on:
        return
    told: Attributes = {names.COST: made.cost}
    if made.usage is not None:
        told[names.INPUT_TOKENS], told[names.OUTPUT_TOKENS] = made.usage.prompt_tokens, made.usage.completion_tokens
    if isinstance(end, Finish):
        told[names.RESPONSE_MODEL], told[names.FINISH_REASONS] = end.expert, (end.reason,)
    elif isinstance(end, Failure):
        span.fail(end.code)
    else:  # it is not wanted any longer, as a draft of a vote that is decided: no fault
        told[names.ERROR_TYPE] = names.CANCELLED
    span.set(told)
    span.end()


def _prompt_tokens(call: ChatCall) -> int:
    return estimated_tokens(message["content"] for message in call.messages)


async def _refused(why: str) -> AsyncGenerator[Event, None]:
    yield Failure("invalid_request", why)


def public(failure: Failure) -> str:
    """A failure for the caller's eyes; what is behind an internal one is in the log."""
    return "internal error" if failure.code == "internal" else f"{failure.code}: {failure.message}"


def _cost(spec: ExpertSpec, usage: Usage) -> float | None:
    if "price" not in spec.model_fields_set:
        return None
    return (usage.prompt_tokens * spec.price.input + usage.completion_tokens * spec.price.output) / 1e6

"""From a checked body to what the pipeline takes, and to what writes the answer, of a request or in a batch."""

from collections.abc import Collection

from orchestrator.access.grant import Grant
from orchestrator.events import Ask
from orchestrator.http.answers import Writer
from orchestrator.http.chat import ChatWriter
from orchestrator.http.completions import CompletionWriter
from orchestrator.http.responses import ResponseWriter
from orchestrator.http.wire import Generation
from orchestrator.http.wire_coe import Names
from orchestrator.http.wire_completions import CompletionRequest
from orchestrator.http.wire_responses import ResponseRequest
from workers.tracing.spans import NO_SPAN, AnySpan


def ask_of(
    body: Generation,
    request_id: str,
    deadline: float,
    caller: str,
    caller_name: str,
    grant: Grant,
    span: AnySpan = NO_SPAN,
) -> Ask:
    """caller, caller_name: lineage and name of the key. deadline: Unix time in seconds."""
    return Ask(
        request_id=request_id,
        model=body.model,
        messages=body.plain_messages,
        prompt=body.prompt,
        deadline=deadline,
        sampling=body.sampling,
        k=body.coe.k,
        aggregator=body.coe.aggregator,
        priority=grant.band(body.priority),
        caller=caller,
        caller_name=caller_name,
        grant=grant,
        wish=body.coe.wish,
        conversation=body.conversation,
        user=body.user,
        stream=body.stream,
        n=body.n_answers,
        tools=body.called_tools,
        texts=body.texts,
        span=span,
    )


def writer_of(body: Generation, ask: Ask) -> Writer:
    if isinstance(body, ResponseRequest):
        return ResponseWriter(ask, body)
    if isinstance(body, CompletionRequest):
        return CompletionWriter(ask, include_usage=body.wants_usage, explain=body.coe.explain, echo=body.echo)
    return ChatWriter(ask, include_usage=body.wants_usage, explain=body.coe.explain)


def named_by(grant: Grant, experts: Collection[str], aggregators: Collection[str]) -> Names:
    """What a request may name: what is outside of the scopes of its key does not exist for it."""
    return Names(experts if grant.experts is None else [name for name in experts if grant.may_ask(name)], aggregators)

"""The spans of a call in its worker: the call, and its phases by what the engine tells at its end."""

from workers.base import Event, Failure, Finish, Phases
from workers.tracing import names
from workers.tracing.spans import AnySpan, Span


def end_call(span: AnySpan, last: Event | None, at: int | None = None) -> None:
    """Ends the span of a call. last: its last event; a delta or None, where it was broken off. at: when, nanoseconds of
    Unix time; None: now."""
    if not isinstance(span, Span):
        return
    if isinstance(last, Finish):
        if last.phases is not None:
            _add_phases(span, last.phases)
    elif isinstance(last, Failure):
        span.fail(last.code)
    else:
        span.set({names.ERROR_TYPE: names.CANCELLED})
    span.end(at)


def _add_phases(span: Span, phases: Phases) -> None:
    """One behind the other from the call's beginning. Swaps and pauses of an answer stand together, before its prefill
    and in its decode: what the engine tells are sums."""
    began = span.began
    for name, seconds in (
        (names.QUEUE, phases.queue),
        (names.SWAP, phases.swap),
        (names.PREFILL, phases.prefill),
        (names.DECODE, phases.decode),
    ):
        ended = began + int(seconds * 1e9)
        if seconds > 0 or name != names.SWAP:
            span.child(name, began=began).end(ended)
        began = ended

"""Who works on each line of a batch: the routes of many lines at once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestrator.batch.jobs import Caller
from orchestrator.batch.lines import Line
from orchestrator.batch.plan import NOBODY, Team
from orchestrator.errors import ApiError
from orchestrator.events import Ask, Routed
from orchestrator.http.asks import ask_of
from orchestrator.http.embeddings import EmbeddingRequest, encoder_for
from orchestrator.http.wire import Generation
from orchestrator.routing import Deciding
from routers.encoders.base import TokenEncoder


@dataclass(frozen=True, slots=True)
class Teams:
    """See `pieces.Decide`. It may be pickled, for another process.

    encoder: of lines for vectors. writer: who judges and writes where neither an ensemble nor a request says so; None =
    the best of a line's experts.
    """

    deciding: Deciding
    encoder: TokenEncoder | None
    caller: Caller
    writer: str | None = None

    def __call__(self, lines: Sequence[Line]) -> list[Team | Exception]:
        return [
            routed if isinstance(routed, Exception) else self._team(line, routed)
            for line, routed in zip(lines, self.routes(lines, [""] * len(lines), brief=True), strict=True)
        ]

    def routes(
        self, lines: Sequence[Line], ids: Sequence[str], *, brief: bool = False
    ) -> list[Routed | Exception | None]:
        """None for lines of the encoder. brief: who answers, and no more. It blocks."""
        asks, found = [], list[Routed | Exception | None]([None] * len(lines))
        where = []
        caller = of_batch(self.caller)
        for i, (line, request_id) in enumerate(zip(lines, ids, strict=True)):
            if isinstance(line.body, EmbeddingRequest):
                try:
                    encoder_for(line.body, self.encoder)
                except ApiError as error:
                    found[i] = error
            else:
                asks.append(ask_of_line(line.body, request_id, caller, float("inf")))
                where.append(i)
        for i, routed in zip(where, self.deciding.route_many(asks, brief=brief), strict=True):
            found[i] = routed
        return found

    def _team(self, line: Line, routed: Routed | None) -> Team:
        if routed is None:
            return Team((NOBODY,))
        experts = routed.route.experts
        if len(experts) == 1:
            return Team(experts)
        assert isinstance(line.body, Generation)
        ensemble = self.deciding.every_ensemble.get(line.body.model)
        aggregator = ensemble.aggregator if ensemble else self.deciding.aggregators[routed.route.aggregator]
        if not aggregator.calls(len(experts)):
            return Team(experts)
        named = ensemble.expert if ensemble and ensemble.expert else self.writer
        return Team(experts, named if named in (*routed.candidates, routed.writer) else experts[0])


def of_batch(caller: Caller) -> Caller:
    """With the priority that lines have."""
    return replace(caller, grant=replace(caller.grant, priority="batch"))


def ask_of_line(body: Generation | EmbeddingRequest, request_id: str, caller: Caller, deadline: float) -> Ask:
    """caller: see `of_batch`. deadline: Unix time in seconds."""
    lineage, name, grant = caller.lineage, caller.name, caller.grant
    if isinstance(body, EmbeddingRequest):
        return Ask(request_id, body.model, (), "", deadline, caller=lineage, caller_name=name, grant=grant)
    return ask_of(body, request_id, deadline, lineage, name, grant)

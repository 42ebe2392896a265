// Decision records: what was asked of whom of late, and why.

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { get } from "../api";
import * as format from "../format";
import { Detail, Listing, usePages } from "../parts/listing";
import type { Column } from "../parts/table";
import { Empty, Expert, Tag, type Tone, useLoaded } from "../parts/ui";
import { Why } from "../parts/why";
import type { List, RouteRecord, RouteSummary } from "../types";

const TONE: Record<string, Tone> = { ok: "ok", routed: "accent", client_gone: "warn" };

interface Filter {
  expert: string;
  category: string;
  outcome: string;
}

export function Decisions(): JSX.Element {
  const [filter, setFilter] = useState<Filter>({ expert: "", category: "", outcome: "" });
  const pages = usePages();
  const [chosen, choose] = useState<string | null>(null);
  const query = pages.query;
  for (const [name, value] of Object.entries(filter)) if (value.trim()) query.set(name, value.trim());
  const list = useLoaded(
    (signal) => get<List<RouteSummary>>(`/v1/routes?${query}`, signal),
    [query.toString()],
    pages.number > 1 ? 0 : 5000,
  );
  const none = list.value?.has_more ? "None among those looked at" : "None like that";
  const set = (name: keyof Filter) => (event: Event) => {
    pages.newest();
    choose(null);
    setFilter({ ...filter, [name]: (event.currentTarget as HTMLInputElement).value });
  };
  return (
    <div class="page">
      <div class="page-head">
        <h1 class="grow">Decisions</h1>
        <div class="row wrap">
          {/* Without `value`, which each new list would write back over what is being typed. */}
          <input class="input" style={{ width: "150px" }} placeholder="expert" aria-label="Only of this expert" onChange={set("expert")} />
          <input class="input" style={{ width: "130px" }} placeholder="category" aria-label="Only of this category" onChange={set("category")} />
          <select class="input" aria-label="Only with this outcome" value={filter.outcome} onChange={set("outcome")}>
            <option value="">any outcome</option>
            {["ok", "routed", "client_gone", "engine_died", "deadline", "expert_unavailable"].map((name) => (
              <option key={name} value={name}>
                {format.words(name)}
              </option>
            ))}
          </select>
        </div>
      </div>
      <Listing
        name="Decisions"
        list={list}
        pages={pages}
        rows={list.value?.data ?? []}
        columns={COLUMNS}
        picking={{ chosen, choose }}
        empty={
          <Empty title={Object.values(filter).some(Boolean) ? none : "No decisions yet"}>
            <p>Each routed request leaves one.</p>
          </Empty>
        }
        detail={(id) => <DecisionDetail key={id} id={id} close={() => choose(null)} />}
      />
    </div>
  );
}

const whoOf = (row: RouteSummary): string => row.expert ?? row.experts.join(", ");

const COLUMNS: Column<RouteSummary>[] = [
  {
    title: "When",
    class: "nowrap",
    cell: (row) => format.ago(row.created),
    label: (row) => `${format.ago(row.created)}, ${whoOf(row)}`,
    sub: (row) => row.model,
  },
  {
    title: "Expert",
    cell: (row) => <Expert name={whoOf(row)} />,
    sub: (row) => (row.aggregator === "single" ? null : `${row.aggregator} of ${row.experts.length}`),
  },
  { title: "Category", cell: ({ category }) => (category ? <Tag tone="accent">{category}</Tag> : <span class="muted">–</span>) },
  { title: "Outcome", class: "wide", cell: ({ outcome }) => <Tag tone={TONE[outcome] ?? "bad"}>{format.words(outcome)}</Tag> },
  { title: "Tokens", class: "num wide", cell: (row) => row.prompt_tokens + row.completion_tokens || "–" },
  { title: "Cost", class: "num wide", cell: ({ cost }) => format.usd(cost) },
  { title: "Took", class: "num", cell: ({ seconds }) => format.seconds(seconds) },
];

function DecisionDetail({ id, close }: { id: string; close: () => void }): JSX.Element {
  const loaded = useLoaded((signal) => get<RouteRecord>(`/v1/routes/${encodeURIComponent(id)}`, signal), [id]);
  return (
    <Detail label={`Decision ${id}`} title={<h2 class="grow">Why this expert</h2>} loaded={loaded} close={close} class="why-body">
      {(value) => (
        <>
          <dl class="facts">
            <dt>When</dt>
            <dd>{format.day(value.created)}</dd>
            <dt>Asked for</dt>
            <dd>{value.model}</dd>
            <dt>Outcome</dt>
            <dd>{format.words(value.outcome)}</dd>
            {value.key ? (
              <>
                <dt>Key</dt>
                <dd>{value.key.name}</dd>
              </>
            ) : null}
            <dt>First words</dt>
            <dd>{format.seconds(value.first_token_seconds)}</dd>
            {value.feedback ? (
              <>
                <dt>Feedback</dt>
                <dd>{format.percent(value.feedback.score)}</dd>
              </>
            ) : null}
            {value.trace_id ? (
              <>
                <dt>Trace</dt>
                <dd class="mono">{value.trace_id}</dd>
              </>
            ) : null}
          </dl>
          {value.prompt ? <p class="small">{value.prompt}</p> : null}
          <Why coe={value.coe} />
        </>
      )}
    </Detail>
  );
}

// Decision records: what was asked of whom of late, and why.

import type { JSX } from "preact";
import { useRef, useState } from "preact/hooks";
import { get } from "../api";
import * as format from "../format";
import { Icon } from "../parts/icons";
import { Empty, Expert, Failure, Tag, type Tone, useBorrowedFocus, useLoaded, Waiting } from "../parts/ui";
import { Why } from "../parts/why";
import type { List, RouteRecord, RouteSummary } from "../types";

const TONE: Record<string, Tone> = { ok: "ok", routed: "accent", client_gone: "warn" };
const PAGE = 50;

interface Filter {
  expert: string;
  category: string;
  outcome: string;
}

export function Decisions(): JSX.Element {
  const [filter, setFilter] = useState<Filter>({ expert: "", category: "", outcome: "" });
  const [pages, setPages] = useState<string[]>([]);
  const [chosen, choose] = useState<string | null>(null);
  const after = pages.at(-1);
  const query = new URLSearchParams({ limit: String(PAGE) });
  if (after) query.set("after", after);
  for (const [name, value] of Object.entries(filter)) if (value.trim()) query.set(name, value.trim());
  const list = useLoaded((signal) => get<List<RouteSummary>>(`/v1/routes?${query}`, signal), [query.toString()], after ? 0 : 5000);
  const rows = list.value?.data ?? [];
  const set = (name: keyof Filter) => (event: Event) => {
    setPages([]);
    setFilter({ ...filter, [name]: (event.currentTarget as HTMLInputElement).value });
  };
  return (
    <div class="page">
      <div class="page-head">
        <h1 class="grow">Decisions</h1>
        <div class="row wrap">
          <input class="input" style={{ width: "150px" }} placeholder="expert" aria-label="Only of this expert" value={filter.expert} onChange={set("expert")} />
          <input class="input" style={{ width: "130px" }} placeholder="category" aria-label="Only of this category" value={filter.category} onChange={set("category")} />
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
      {list.error ? <Failure error={list.error} again={list.again} /> : null}
      {!list.value && list.loading ? <Waiting what="Loading decisions" /> : null}
      {list.value && !rows.length ? (
        <div class="card">
          <Empty title={query.size > 1 ? "None like that" : "No decisions yet"}>
            <p>Each routed request leaves one.</p>
          </Empty>
        </div>
      ) : null}
      {rows.length ? (
        <div class={chosen ? "split" : ""}>
          <section class="card" aria-label="Decisions">
            <div class="scroll" tabIndex={0} role="region" aria-label="Table of decisions">
              <table>
                <thead>
                  <tr>
                    <th scope="col">When</th>
                    <th scope="col">Expert</th>
                    <th scope="col">Category</th>
                    <th scope="col" class="wide">Outcome</th>
                    <th scope="col" class="num wide">Tokens</th>
                    <th scope="col" class="num wide">Cost</th>
                    <th scope="col" class="num">Took</th>
                  </tr>
                </thead>
                <tbody>
                  {rows.map((row) => (
                    <tr key={row.id} class="pick" aria-selected={row.id === chosen} onClick={() => choose(row.id)}>
                      <td class="nowrap">
                        <button type="button" class="plain-link" onClick={() => choose(row.id)}>
                          {format.ago(row.created)}
                        </button>
                        <span class="sub">{row.model}</span>
                      </td>
                      <td>
                        <Expert name={row.expert ?? row.experts.join(", ")} />
                        {row.aggregator !== "single" ? <span class="sub">{row.aggregator} of {row.experts.length}</span> : null}
                      </td>
                      <td>{row.category ? <Tag tone="accent">{row.category}</Tag> : <span class="muted">–</span>}</td>
                      <td class="wide">
                        <Tag tone={TONE[row.outcome] ?? "bad"}>{format.words(row.outcome)}</Tag>
                      </td>
                      <td class="num wide">{row.prompt_tokens + row.completion_tokens || "–"}</td>
                      <td class="num wide">{format.usd(row.cost)}</td>
                      <td class="num">{format.seconds(row.seconds)}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
            <div class="body row">
              <button type="button" class="button slim" disabled={!pages.length} onClick={() => setPages(pages.slice(0, -1))}>
                Newer
              </button>
              <button
                type="button"
                class="button slim"
                disabled={!list.value?.has_more}
                onClick={() => list.value?.last_id && setPages([...pages, list.value.last_id])}
              >
                Older
              </button>
              {pages.length ? <span class="muted small">page {pages.length + 1}</span> : <span class="muted small">newest first, by itself</span>}
            </div>
          </section>
          {chosen ? <Detail key={chosen} id={chosen} close={() => choose(null)} /> : null}
        </div>
      ) : null}
    </div>
  );
}

function Detail({ id, close }: { id: string; close: () => void }): JSX.Element {
  const { value, error, again } = useLoaded((signal) => get<RouteRecord>(`/v1/routes/${encodeURIComponent(id)}`, signal), [id]);
  const panel = useRef<HTMLElement>(null);
  useBorrowedFocus(panel);
  return (
    <section class="card detail" aria-label={`Decision ${id}`} tabIndex={0} ref={panel}>
      <header>
        <h2 class="grow">Why this expert</h2>
        <button type="button" class="button quiet slim square" aria-label="Close" onClick={close}>
          <Icon name="close" />
        </button>
      </header>
      <div class="body stack why-body">
        {error ? <Failure error={error} again={again} /> : null}
        {value ? (
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
        ) : error ? null : (
          <Waiting what="Loading" />
        )}
      </div>
    </section>
  );
}

// Why this expert: a router's decision and what came of it.

import type { JSX } from "preact";
import * as format from "../format";
import type { Call, Coe } from "../types";
import { type Column, Table } from "./table";
import { Bars, Expert, Tag } from "./ui";

export function Why({ coe }: { coe: Coe }): JSX.Element {
  const { explain } = coe;
  const probabilities = Object.entries(coe.probabilities).sort((a, b) => b[1] - a[1]);
  const weights = Object.entries(explain?.weights ?? {}).sort((a, b) => b[1] - a[1]);
  const rest = (explain?.candidates ?? []).filter((name) => !coe.experts.includes(name));
  const removed = Object.entries(explain?.removed ?? {});
  const skills = Object.entries(explain?.skills ?? {}).sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
  return (
    <div class="stack">
      <section>
        <p class="reason">{coe.reason}</p>
        <div class="chips">
          {coe.category ? <Tag tone="accent">{coe.category}</Tag> : null}
          <Tag>router {coe.router}</Tag>
          {coe.aggregator !== "single" ? <Tag>{coe.aggregator}</Tag> : null}
          {coe.router !== "named" ? <Tag>margin {format.percent(coe.margin)}</Tag> : null}
          {explain ? <Tag>decided in {format.seconds(explain.router_seconds)}</Tag> : null}
        </div>
        {coe.note ? <p class="small muted">{coe.note}</p> : null}
      </section>

      {probabilities.length ? (
        <section>
          <h3>Categories</h3>
          <Bars
            label="Probability of each category"
            rows={probabilities.map(([name, share]) => ({ name, share, text: format.percent(share, share < 0.1 ? 1 : 0) }))}
          />
        </section>
      ) : null}

      {skills.length ? (
        <section>
          <h3>Skills, in points for {coe.experts[0]}</h3>
          <div class="chips">
            {skills.map(([skill, points]) => (
              <Tag key={skill} tone={points >= 0 ? "ok" : "bad"}>
                {skill} {points >= 0 ? "+" : "−"}
                {Math.abs(points).toFixed(1)}
              </Tag>
            ))}
          </div>
        </section>
      ) : null}

      {weights.length ? (
        <section>
          <h3>{weights.length > 1 ? "Chosen, by weight" : "Chosen"}</h3>
          <Bars
            label="Weight of each chosen expert"
            rows={weights.map(([name, share]) => ({ name, share, text: format.percent(share), expert: true }))}
          />
        </section>
      ) : null}

      {rest.length || removed.length ? (
        <section>
          <h3>Also considered</h3>
          {rest.length ? (
            <div class="chips">
              {rest.map((name) => (
                <span class="tag" key={name}>
                  <Expert name={name} />
                </span>
              ))}
            </div>
          ) : null}
          {removed.map(([name, why]) => (
            <p class="out" key={name}>
              <strong>{name}</strong> was out: {why}
            </p>
          ))}
        </section>
      ) : null}

      <Scored title="Votes" scores={explain?.votes} />
      <Scored title="Judge's scores" scores={explain?.scores} />
      <Calls coe={coe} />
      <p class="small muted mono">{coe.request_id}</p>
    </div>
  );
}

function Scored({ title, scores }: { title: string; scores: Record<string, number> | undefined }): JSX.Element | null {
  const rows = Object.entries(scores ?? {}).sort((a, b) => b[1] - a[1]);
  if (!rows.length) return null;
  const most = Math.max(...rows.map(([, score]) => score), 1e-9);
  return (
    <section>
      <h3>{title}</h3>
      <Bars
        label={title}
        rows={rows.map(([name, score]) => ({ name: short(name), share: score / most, text: score.toFixed(2) }))}
      />
    </section>
  );
}

const short = (text: string): string => (text.length > 40 ? `${text.slice(0, 39)}…` : text);

const CALLS: Column<Call>[] = [
  { title: "Expert", cell: ({ expert }) => <Expert name={expert} />, sub: ({ role, error }) => (error ? `${role}, ${error}` : role) },
  { title: "Tokens", class: "num", cell: ({ usage }) => (usage ? `${usage.prompt_tokens} + ${usage.completion_tokens}` : "–") },
  { title: "Time", class: "num", cell: ({ seconds }) => format.seconds(seconds) },
  { title: "Cost", class: "num", cell: ({ cost }) => format.usd(cost) },
];

function Calls({ coe }: { coe: Coe }): JSX.Element | null {
  if (!coe.calls.length) return null;
  const cost = costOf(coe);
  const unpriced = coe.calls.filter((call) => call.cost === null).length;
  return (
    <section>
      <h3>Calls</h3>
      <div class="inset">
        <Table
          label="Calls"
          class="compact small"
          rows={coe.calls}
          columns={CALLS}
          idOf={(_, index) => String(index)}
          below={({ phases }) => (phases ? <Phases phases={phases} /> : null)}
        />
      </div>
      {coe.calls.length > 1 && cost !== null ? (
        <p class="small muted">
          {format.usd(cost)} in all{unpriced ? `, without ${format.counted(unpriced, "call")} of unknown cost` : ""}
        </p>
      ) : null}
    </section>
  );
}

/** Where the seconds of a call went in its engine, as a bar and in words. */
function Phases({ phases }: { phases: Record<string, number | null> }): JSX.Element {
  const known = Object.entries(phases).filter((entry): entry is [string, number] => !!entry[1]);
  const total = known.reduce((sum, [, s]) => sum + s, 0);
  return (
    <>
      <span class="phases" aria-hidden="true">
        {known.map(([name, s]) => (
          <i key={name} class={name} style={{ width: `${total ? (100 * s) / total : 0}%` }} />
        ))}
      </span>
      <span class="sub">{known.map(([name, s]) => `${name} ${format.seconds(s)}`).join(" · ")}</span>
    </>
  );
}

/** US dollars of all calls that have a price; null where none has. */
export function costOf(coe: Coe): number | null {
  const known = coe.calls.map((call) => call.cost).filter((cost): cost is number => cost !== null);
  return known.length ? known.reduce((sum, cost) => sum + cost, 0) : null;
}

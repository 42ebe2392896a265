// Every expert: where its image is, what it has to do, and how good it is at what.

import type { JSX } from "preact";
import { get } from "../api";
import * as format from "../format";
import { live, shown, status } from "../live";
import { type Column, Table } from "../parts/table";
import { Empty, Expert, Failure, Meter, Tag, type Tone, useLoaded, Waiting } from "../parts/ui";
import { useStore } from "../store";
import type { Engine, ExpertRow, List, Model, RouterShown } from "../types";

const TIER: Record<string, Tone> = { device: "ok", host: "accent", disk: "", remote: "accent" };
const REFRESH_MS = 15_000;

export function Experts(): JSX.Element {
  useStore(shown);
  const hears = useStore(status).is === "live";
  const rows = useLoaded((signal) => get<List<ExpertRow>>("/v1/experts", signal), [], REFRESH_MS);
  const models = useLoaded((signal) => get<List<Model>>("/v1/models", signal), []);
  const router = useLoaded((signal) => get<RouterShown>("/v1/router", signal), []);
  const facts = new Map(models.value?.data.map((model) => [model.id, model.coe]));
  const told = (family: string) => (hears && !live.stale.has(family) ? live.engines.get(family) : undefined);
  const experts = rows.value?.data.map((row) => withLive(row, told(row.family))) ?? [];
  const engines = [...live.engines.values()];
  return (
    <div class="page">
      <div class="page-head">
        <h1>Experts</h1>
        {experts.length ? <span class="muted">{summary(experts)}</span> : null}
      </div>
      {rows.error ? <Failure error={rows.error} again={rows.again} /> : null}
      {!rows.value && rows.loading ? <Waiting what="Asking the workers" /> : null}
      {rows.value && !experts.length ? <Empty title="This key may use no expert" /> : null}
      {experts.length ? (
        <section class="card" aria-label="Experts">
          <Table label="Table of experts" rows={experts} columns={columnsOf(facts)} idOf={({ name }) => name} />
        </section>
      ) : null}
      {engines.length ? (
        <section class="stack tight" aria-label="Engines">
          <h2>Engines</h2>
          <div class="cards">
            {engines.map((engine) => (
              <EngineCard key={engine.family} engine={engine} />
            ))}
          </div>
        </section>
      ) : null}
      {router.error ? <Failure error={router.error} again={router.again} /> : null}
      {router.value ? <Quality router={router.value} /> : null}
    </div>
  );
}

const columnsOf = (facts: ReadonlyMap<string, Model["coe"]>): Column<ExpertRow>[] => [
  {
    title: "Expert",
    cell: ({ name }) => <Expert name={name} />,
    sub: (row) => (
      <>
        {row.description || row.kind}
        <span class="narrow">{[row.family, ...figuresOf(facts.get(row.name))].join(", ")}</span>
      </>
    ),
  },
  { title: "State", cell: (row) => <State row={row} /> },
  { title: "Queue", class: "num", cell: ({ queued }) => queued || <span class="muted">0</span> },
  { title: "Family", class: "wide nowrap", cell: ({ family }) => family, sub: ({ kind }) => kind },
  { title: "Parameters", class: "num wide", cell: ({ name }) => format.short(facts.get(name)?.parameters) },
  { title: "Context", class: "num wide", cell: ({ name }) => format.short(facts.get(name)?.context_length) },
  { title: "$ per M tokens", class: "num wide", cell: ({ name }) => priceOf(facts.get(name)) },
];

function priceOf(coe: Model["coe"] | undefined): string {
  const { input, output } = coe?.price ?? { input: 0, output: 0 };
  return input + output > 0 ? `${input} / ${output}` : "–";
}

/** Size and price in words, where they are known. */
function figuresOf(coe: Model["coe"] | undefined): string[] {
  const price = priceOf(coe);
  return [coe?.parameters ? `${format.short(coe.parameters)} parameters` : "", price === "–" ? "" : `$ ${price} per M tokens`].filter(Boolean);
}

/** The row with what the stream of events has told since. */
function withLive(row: ExpertRow, engine: Engine | undefined): ExpertRow {
  if (!engine) return row;
  if (engine.why !== undefined) return { ...row, state: "starting", tier: null, why: engine.why, active: false, queued: 0 };
  const tier = engine.tiers?.[row.name] ?? "not loaded yet";
  const ready = tier in TIER;
  return {
    ...row,
    tier: ready ? tier : null,
    why: ready ? null : tier,
    state: ready ? "ready" : tier.startsWith("failed") ? "failed" : "starting",
    active: engine.active === row.name,
    queued: engine.queued?.[row.name] ?? 0,
  };
}

function summary(rows: ExpertRow[]): string {
  const ready = rows.filter((row) => row.state === "ready").length;
  const device = rows.filter((row) => row.tier === "device").length;
  return `${ready} of ${rows.length} can answer, ${device} on the device`;
}

function State({ row }: { row: ExpertRow }): JSX.Element {
  return (
    <span class="row wrap">
      {row.tier ? <Tag tone={TIER[row.tier] ?? ""}>{row.tier}</Tag> : null}
      {row.state === "failed" ? <Tag tone="bad">failed</Tag> : null}
      {row.state === "starting" ? <Tag tone="warn">starting</Tag> : null}
      {row.active && row.queued ? <Tag tone="ok">computing</Tag> : row.active ? <Tag>has the turn</Tag> : null}
      {row.circuit && row.circuit !== "closed" ? <Tag tone="warn">circuit {format.words(row.circuit)}</Tag> : null}
      {row.why ? <span class="small muted">{row.why}</span> : null}
    </span>
  );
}

function EngineCard({ engine }: { engine: Engine }): JSX.Element {
  const tiers = ["device", "host", "disk"].filter((tier) => engine.tier_bytes?.[tier] || engine.room_bytes?.[tier]);
  return (
    <article class="card" aria-label={`Engine of ${engine.family}`}>
      <header>
        <h2 class="grow">{engine.family}</h2>
        {engine.why !== undefined ? (
          <Tag tone="warn">away</Tag>
        ) : engine.running ? (
          <Tag tone="ok">{engine.running} running</Tag>
        ) : (
          <Tag>idle</Tag>
        )}
      </header>
      <div class="body stack tight">
        {engine.why !== undefined ? (
          <p class="small muted">{engine.why}</p>
        ) : (
          <>
            <dl class="facts">
              <dt>Turn</dt>
              <dd>{engine.active ? <Expert name={engine.active} /> : "nobody's"}</dd>
              <dt>Waiting</dt>
              <dd>
                {engine.waiting ?? 0}
                {engine.oldest_wait ? `, the longest for ${format.seconds(engine.oldest_wait)}` : ""}
              </dd>
              <dt>Swaps</dt>
              <dd>
                {format.count(engine.swaps)}
                {engine.swap_seconds ? `, ${format.seconds(engine.swap_seconds)} in all` : ""}
              </dd>
              {engine.restarts ? (
                <>
                  <dt>Restarts</dt>
                  <dd>{engine.restarts}</dd>
                </>
              ) : null}
            </dl>
            {tiers.length ? (
              <div class="tiers">
                {tiers.map((tier) => {
                  const used = engine.tier_bytes?.[tier] ?? 0;
                  const room = engine.room_bytes?.[tier];
                  return (
                    <div class="line" key={tier}>
                      <span class="muted">{tier}</span>
                      <Meter share={room ? used / room : used ? 1 : 0} label={`${tier}: ${format.bytes(used)}`} />
                      <span class="num">
                        {format.bytes(used)}
                        {room ? ` of ${format.bytes(room)}` : ""}
                      </span>
                    </div>
                  );
                })}
              </div>
            ) : null}
          </>
        )}
      </div>
    </article>
  );
}

function Quality({ router }: { router: RouterShown }): JSX.Element {
  const categories = Object.keys(router.quality);
  return (
    <section class="card" aria-label="Quality by category">
      <header>
        <h2>Quality by category</h2>
        <span class="muted">by the {router.name} router's own measure; the best of each category is framed</span>
      </header>
      {categories.length ? (
        <Table
          label="Table of quality by category"
          class="heat"
          head
          rows={router.experts}
          idOf={(expert) => expert}
          columns={[
            { title: "Expert", cell: (expert) => <Expert name={expert} /> },
            ...categories.map((category) => ({
              title: category,
              class: "num",
              cell: (expert: string) => <Score of={router.quality[category] ?? {}} expert={expert} />,
            })),
          ]}
        />
      ) : (
        <Empty title="The router has measured nothing">
          <p>
            A router of the kind <code>{router.name}</code> goes by no quality. Fit one on labelled prompts:{" "}
            <code>coe router fit labels.csv --out routers/mine</code>
          </p>
        </Empty>
      )}
    </section>
  );
}

function Score({ of, expert }: { of: RouterShown["quality"][string]; expert: string }): JSX.Element {
  const own = of[expert];
  if (!own) return <span class="muted">–</span>;
  const best = Math.max(...Object.values(of).map(({ score }) => score));
  const step = Math.min(4, Math.floor(own.score * 5));
  return (
    <span class={`q${step} ${own.score === best ? "best" : ""}`} title={own.prompts ? format.counted(own.prompts, "prompt") : undefined}>
      {(100 * own.score).toFixed(0)} %
    </span>
  );
}

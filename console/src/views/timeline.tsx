// Whose turn it is in each engine, swap by swap, and who waits.

import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { colourOf, HUES } from "../colour";
import * as format from "../format";
import { isWhole, live, type Sample, shown, status, swapsOf } from "../live";
import { type Column, Table } from "../parts/table";
import { Empty, Expert, Segments, Tag, type Tone, Waiting } from "../parts/ui";
import { useStore } from "../store";
import { lanes, type Lanes, queuedAt, samplesSince, turnAt } from "../timeline";
import type { Engine, Swap } from "../types";

const ROW = 30;
const BAR = 8;
const AXIS = 22;
const WINDOWS = [
  [30, "30 s"],
  [120, "2 min"],
  [600, "10 min"],
  [3600, "1 h"],
] as const;
const LOG = 100;
const KIND: Record<string, Tone> = { swap: "accent", loaded: "ok", evicted: "", failed: "bad", cancelled: "warn", woke: "ok", slept: "" };

export function Timeline(): JSX.Element {
  useStore(shown);
  const link = useStore(status);
  const [span, setSpan] = useState<number>(120);
  const [chosen, setFamily] = useState("");
  const family = live.engines.has(chosen) ? chosen : "";
  const engines = [...live.engines.values()].filter((engine) => !family || engine.family === family);
  const logs = family ? [swapsOf(live, family)] : [...live.logs.values()].map((log) => log.swaps);
  return (
    <div class="page">
      <div class="page-head">
        <h1>Timeline</h1>
        <span class="grow muted">
          {format.counted(live.seen, "event")}{live.lost ? `, ${format.count(live.lost)} lost` : ""}
          {live.gaps ? ", with a gap" : ""}
        </span>
        {live.engines.size > 1 ? (
          <select class="input" aria-label="Family" value={family} onChange={(event) => setFamily(event.currentTarget.value)}>
            <option value="">all families</option>
            {[...live.engines.keys()].map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        ) : null}
        <Segments label="Time shown" options={WINDOWS} value={span as 30} choose={setSpan} />
      </div>
      {engines.length ? (
        engines.map((engine) => <FamilyLanes key={engine.family} engine={engine} span={span} />)
      ) : link.is === "away" || link.is === "refused" ? (
        <Empty title="Nothing is known of the engines">
          <p>The stream of events is not connected.</p>
        </Empty>
      ) : (
        <Waiting what="Waiting for the first word of the engines" />
      )}
      {engines.length ? <Legend /> : null}
      <Log logs={logs} />
    </div>
  );
}

function toldOf(family: string, from: number, to: number): Lanes {
  return lanes({ swaps: swapsOf(live, family), samples: live.samples.get(family) ?? [], whole: isWhole(live, family) }, from, to);
}

function FamilyLanes({ engine, span }: { engine: Engine; span: number }): JSX.Element {
  const canvas = useRef<HTMLCanvasElement>(null);
  const experts = Object.keys(engine.tiers ?? {}).sort();
  const [hint, setHint] = useState<{ left: number; top: number; text: string } | null>(null);
  const point = (event: PointerEvent) => {
    const box = canvas.current;
    const { left, top, width } = box?.getBoundingClientRect() ?? { left: 0, top: 0, width: 1 };
    const [x, y] = [event.clientX - left, event.clientY - top];
    const name = experts[Math.floor(y / ROW)];
    if (!box || name === undefined) return setHint(null);
    const to = Date.now() / 1000 + live.ahead;
    const at = to - span * (1 - x / width);
    const turn = turnAt(toldOf(engine.family, to - span, to), name, at);
    const queued = queuedAt(live.samples.get(engine.family) ?? [], name, at);
    const held = turn ? `has the turn for ${format.seconds(turn.until - turn.since)}` : "has not the turn";
    const text = `${format.clock(at)}  ${name} ${!turn && queued ? "waits for its turn" : held}, ${queued} in its queue`;
    setHint({ left: box.offsetLeft + Math.min(x + 12, width - 240), top: Math.floor(y / ROW) * ROW + ROW + 2, text });
  };
  const frame = useRef({ engine, span, experts });
  frame.current = { engine, span, experts };
  useEffect(() => {
    let last = 0;
    let again = 0;
    let drawn = "";
    const draw = (now: number) => {
      again = requestAnimationFrame(draw);
      const { engine: own, span: seconds, experts: names } = frame.current;
      const box = canvas.current;
      if (!box) return;
      const look = `${document.documentElement.dataset.theme} ${box.clientWidth} ${seconds} ${live.version}`;
      // The picture moves by less than a pixel between most frames.
      const pixelMs = (1000 * seconds) / Math.max(1, box.clientWidth);
      if (now - last < Math.max(33, pixelMs) && drawn === look) return;
      if (now - last < 33) return;
      const { top, bottom } = box.getBoundingClientRect();
      if (bottom < 0 || top > window.innerHeight) return; // nobody sees it
      last = now;
      drawn = look;
      const to = Date.now() / 1000 + live.ahead;
      const told = toldOf(own.family, to - seconds, to);
      paint(box, told, names, samplesSince(live.samples.get(own.family) ?? [], to - seconds), to - seconds, to);
    };
    again = requestAnimationFrame(draw);
    return () => cancelAnimationFrame(again);
  }, []);
  if (engine.why !== undefined) {
    return (
      <section class="card" aria-label={`Engine of ${engine.family}`}>
        <header>
          <h2>{engine.family}</h2>
          <Tag tone="warn">away</Tag>
        </header>
        <div class="body muted">{engine.why}</div>
      </section>
    );
  }
  const total = Object.values(engine.queued ?? {}).reduce((sum, n) => sum + n, 0);
  return (
    <section class="card" aria-label={`Engine of ${engine.family}`}>
      <header>
        <h2>{engine.family}</h2>
        {engine.active ? <Expert name={engine.active} /> : <span class="muted">nobody's turn</span>}
        <span class="grow" />
        <span class="muted">
          {format.count(engine.running ?? 0)} running, {format.count(engine.waiting ?? 0)} waiting, {format.counted(engine.swaps ?? 0, "swap")}
          {engine.swap_seconds ? ` in ${format.seconds(engine.swap_seconds)}` : ""}
          {engine.oldest_wait ? `, longest wait ${format.seconds(engine.oldest_wait)}` : ""}
        </span>
      </header>
      <div class="lanes">
        <div class="names">
          {experts.map((name) => (
            <span key={name}>
              <Expert name={name} />
            </span>
          ))}
          <span class="axis" />
        </div>
        <canvas
          ref={canvas}
          onPointerMove={point}
          onPointerLeave={() => setHint(null)}
          height={ROW * experts.length + AXIS}
          style={{ height: `${ROW * experts.length + AXIS}px` }}
          role="img"
          aria-label={`Turns of the experts of ${engine.family} in the last ${format.seconds(span)}; the log below says the same in words`}
        />
        {hint ? (
          <div class="lane-hint" style={{ left: `${Math.max(0, hint.left)}px`, top: `${hint.top}px` }}>
            {hint.text}
          </div>
        ) : null}
        <div class="queues" role="group" aria-label="Requests in the queue of each expert">
          {experts.map((name) => {
            const queued = engine.queued?.[name] ?? 0;
            return (
              <span key={name} class={engine.active === name && queued ? "now" : queued ? "" : "muted"} title={`${name}: ${queued} in the queue`}>
                {queued}
              </span>
            );
          })}
          <span class="axis">{total}</span>
        </div>
      </div>
    </section>
  );
}

const Legend = (): JSX.Element => (
  <div class="legend">
    <span>
      <i />
      has the turn
    </span>
    <span>
      <i class="area" />
      requests in its queue, as a number on the right
    </span>
    <span>
      <i class="thin" />
      loading
    </span>
    <span>
      <i class="tick" />
      swap
    </span>
  </div>
);

/** samples: those since `from`. */
function paint(
  canvas: HTMLCanvasElement,
  told: Lanes,
  experts: readonly string[],
  samples: readonly Sample[],
  from: number,
  to: number,
): void {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, ROW * experts.length + AXIS];
  if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
  if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  if (!pen || !width) return;
  const style = getComputedStyle(document.documentElement);
  const token = (name: string) => style.getPropertyValue(name).trim();
  const [light, chroma, line, muted] = [token("--light"), token("--chroma"), token("--line"), token("--muted")];
  const colours = new Map(experts.map((name) => [name, `oklch(${light} ${chroma} ${HUES[colourOf(name)]})`]));
  const colour = (name: string) => colours.get(name) ?? "";
  const x = (at: number) => ((at - from) / (to - from)) * width;
  const row = new Map(experts.map((name, index) => [name, index]));
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = `11px ${getComputedStyle(document.body).fontFamily}`;
  pen.textBaseline = "middle";
  const step = stepOf((to - from) / Math.max(2, Math.floor(width / 110)));
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) {
    const left = Math.round(x(at)) + 0.5;
    pen.strokeStyle = line;
    pen.beginPath();
    pen.moveTo(left, 0);
    pen.lineTo(left, height - AXIS);
    pen.stroke();
    const text = format.clock(at);
    const half = pen.measureText(text).width / 2;
    if (left - half > 0 && left + half < width) {
      pen.fillStyle = muted;
      pen.fillText(text, left - half, height - AXIS / 2);
    }
  }
  pen.strokeStyle = line;
  for (let index = 0; index <= experts.length; index += 1) {
    pen.beginPath();
    pen.moveTo(0, index * ROW + 0.5);
    pen.lineTo(width, index * ROW + 0.5);
    pen.stroke();
  }
  let most = 4;
  for (const { queued } of samples) most = Math.max(most, ...Object.values(queued));
  pen.globalAlpha = 0.35;
  for (const [at, sample] of samples.entries()) {
    const [left, right] = [Math.max(0, x(sample.at)), x(samples[at + 1]?.at ?? to)];
    for (const [name, queued] of Object.entries(sample.queued)) {
      const index = row.get(name);
      if (index === undefined || !queued) continue;
      const tall = Math.max(2, (queued / most) * (ROW - BAR - 8));
      pen.fillStyle = colour(name);
      pen.fillRect(left, (index + 1) * ROW - 4 - BAR - tall, Math.max(1.5, right - left), tall);
    }
  }
  pen.globalAlpha = 1;
  for (const { expert, since, until } of told.turns) {
    const index = row.get(expert);
    if (index === undefined) continue;
    pen.fillStyle = colour(expert);
    pen.fillRect(x(since), (index + 1) * ROW - 4 - BAR, Math.max(1.5, x(until) - x(since)), BAR);
  }
  for (const { expert, since, until } of told.loads) {
    const index = row.get(expert);
    if (index === undefined) continue;
    pen.fillStyle = colour(expert);
    pen.fillRect(x(since), (index + 1) * ROW - 3, Math.max(1.5, x(until) - x(since)), 2);
  }
  pen.fillStyle = muted;
  // Where there are as many swaps as pixels, ticks would hide the turns.
  for (const mark of told.marks.length < width / 4 ? told.marks : []) {
    const index = row.get(mark.image);
    if (index !== undefined && mark.kind === "swap") pen.fillRect(Math.round(x(mark.at)), index * ROW + 3, 1, ROW - 6);
  }
}

/** A round number of seconds, at least `least`. */
function stepOf(least: number): number {
  return [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800].find((step) => step >= least) ?? 3600;
}

const COLUMNS: Column<Swap>[] = [
  { title: "Time", class: "nowrap", cell: ({ at }) => <span class="mono">{format.clock(at)}</span> },
  { title: "What", cell: ({ kind }) => <Tag tone={KIND[kind] ?? ""}>{kind}</Tag> },
  { title: "Expert", cell: ({ image }) => <Expert name={image} /> },
  { title: "From → to", class: "wide muted", cell: ({ source, target }) => (source === target ? target : `${source} → ${target}`) },
  { title: "Bytes", class: "num", cell: ({ bytes }) => (bytes ? format.bytes(bytes) : "–") },
  { title: "Took", class: "num", cell: ({ seconds }) => (seconds ? format.seconds(seconds) : "–") },
  { title: "Why", class: "wide muted", cell: ({ why }) => (why === "after None" ? "the first one" : why) },
];

/** logs: of each family, oldest first. */
function Log({ logs }: { logs: (readonly Swap[])[] }): JSX.Element {
  const newest = logs.flatMap((log) => log.slice(-LOG)).sort((a, b) => a.at - b.at).slice(-LOG).reverse();
  const all = logs.reduce((sum, log) => sum + log.length, 0);
  return (
    <section class="card" aria-label="Event log">
      <header>
        <h2>Event log</h2>
        <span class="muted">{all > LOG ? `the newest ${LOG} of ${format.count(all)}` : "newest first"}</span>
      </header>
      {newest.length ? (
        <Table
          label="Table of events"
          class="compact"
          rows={newest}
          columns={COLUMNS}
          idOf={(swap) => `${swap.family} ${swap.number} ${swap.at} ${swap.kind}`}
        />
      ) : !live.past ? (
        <Empty title="The log is not there yet" />
      ) : (
        <Empty title="Nothing has happened yet">
          <p>The first request to another expert makes a swap, which shows here.</p>
        </Empty>
      )}
    </section>
  );
}

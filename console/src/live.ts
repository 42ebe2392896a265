// What is known of the service, as /v1/events tells it (stream.ts). Events wait in bounded room until a frame shows them.

import { AWAY } from "./api";
import type { ServerEvent } from "./sse";
import { store } from "./store";
import type { Engine, Progress, Swap } from "./types";

export const MOST_SWAPS = 2000;
export const MOST_PENDING = 4000;
const MOST_SAMPLES = 4000;

/** An event when it came, Unix seconds of this machine. A page in the background shows it much later. */
export interface Told {
  kind: string;
  data: any;
  at: number;
}

export const told = ({ kind, data }: ServerEvent, at: number): Told => ({ kind, data: JSON.parse(data), at });

/**
 * What an engine said of itself. at: when, by the service's clock. after: time of the newest line of its log that it knew of
 * then; later ones came after it, whatever the clocks say. active: who had the turn; undefined where swaps are missing, so
 * that nobody knows. queued: how many waited at each expert.
 */
export interface Sample {
  at: number;
  after: number;
  active: string | null | undefined;
  queued: Record<string, number>;
}

/** The event log of a family, oldest first, each line once. heard: time of the newest line that the stream has told. */
export interface Log {
  swaps: Swap[];
  known: Set<string>;
  heard: number;
}

/** What is known. It is changed in place; `version` counts the changes. */
export interface Live {
  version: number;
  epoch: string | null;
  engines: Map<string, Engine>;
  /** Families that were there before the connection was new, and of which nothing is told since. */
  stale: Set<string>;
  logs: Map<string, Log>;
  /** Those that the service tells of: the newest. */
  batches: Map<string, Progress>;
  /** Family -> what its engine said as it changed, oldest first. */
  samples: Map<string, Sample[]>;
  /** Swaps that nobody here has seen, and gaps of which nobody knows how many they hide. */
  lost: number;
  gaps: number;
  seen: number;
  /** Is it known what the logs held before the stream began? */
  past: boolean;
  /** Seconds by which the service's clock is before this machine's. */
  ahead: number;
  /** When the service last said how something is, by its clock. */
  heard: number;
}

export const emptyLive = (): Live => ({
  version: 0,
  epoch: null,
  engines: new Map(),
  stale: new Set(),
  logs: new Map(),
  batches: new Map(),
  samples: new Map(),
  lost: 0,
  gaps: 0,
  seen: 0,
  past: false,
  ahead: 0,
  heard: 0,
});

export const swapsOf = (live: Live, family: string): readonly Swap[] => live.logs.get(family)?.swaps ?? [];

/** Is nothing missing at the beginning of a family's log? Its first line has the number 1. */
export function isWhole(live: Live, family: string): boolean {
  const first = live.logs.get(family)?.swaps[0];
  return first ? first.number === 1 : live.past;
}

export function learn(live: Live, events: readonly Told[]): void {
  const engines = new Set<string>();
  let missedAt: number | null = null;
  for (const { kind, data, at } of events) {
    live.seen += 1;
    if (kind === "hello") {
      greet(live, data, at);
      engines.clear();
      continue;
    }
    if (kind === "swap") note(live, data);
    else if (kind === "lost") {
      miss(live, data.swaps, at);
      engines.clear();
      missedAt = at;
    } else if (kind === "engine") {
      engines.add(data.family);
      live.stale.delete(data.family);
      live.engines.set(data.family, data);
      sample(live, data, at);
    } else if (kind === "batches") {
      for (const id of live.batches.keys()) if (!data.ids.includes(id)) live.batches.delete(id);
    } else if (kind === "batch") live.batches.set(data.id, data);
    live.heard = at + live.ahead;
  }
  // Of an engine in which nothing has changed nothing more is told.
  if (missedAt !== null) {
    for (const engine of live.engines.values()) {
      if (!engines.has(engine.family) && !live.stale.has(engine.family)) sample(live, { ...engine, last_event: null }, missedAt);
    }
  }
  // On a new connection the first look tells of all there are.
  if (engines.size) {
    for (const family of live.stale) live.engines.delete(family);
    live.stale.clear();
  }
  live.version += 1;
}

function greet(live: Live, hello: { at: number; epoch: string }, at: number): void {
  live.ahead = hello.at - at;
  if (live.epoch !== null && live.epoch !== hello.epoch) {
    live.engines.clear();
    live.batches.clear();
  }
  live.epoch = hello.epoch;
  live.stale = new Set(live.engines.keys());
}

const keyOf = (swap: Swap): string => `${swap.number} ${swap.at} ${swap.kind}`;

function logOf(live: Live, family: string): Log {
  let log = live.logs.get(family);
  if (!log) live.logs.set(family, (log = { swaps: [], known: new Set(), heard: -Infinity }));
  return log;
}

function note(live: Live, swap: Swap): void {
  const log = logOf(live, swap.family);
  log.heard = Math.max(log.heard, swap.at);
  if (log.known.has(keyOf(swap))) return;
  const isLast = !log.swaps.length || (log.swaps.at(-1) as Swap).at <= swap.at;
  log.known.add(keyOf(swap));
  log.swaps.push(swap);
  if (!isLast) log.swaps.sort((a, b) => a.at - b.at);
  bound(log);
}

function bound(log: Log): void {
  const over = log.swaps.length - MOST_SWAPS;
  if (over > 0) for (const gone of log.swaps.splice(0, over)) log.known.delete(keyOf(gone));
}

function sample(live: Live, engine: Engine, at: number): void {
  const after = Math.max(engine.last_event ?? -Infinity, live.logs.get(engine.family)?.heard ?? -Infinity);
  push(live, engine.family, { at: at + live.ahead, after, active: engine.active ?? null, queued: engine.queued ?? {} });
}

function push(live: Live, family: string, next: Sample): void {
  const samples = live.samples.get(family) ?? [];
  samples.push({ ...next, after: Math.max(next.after, samples.at(-1)?.after ?? -Infinity) });
  if (samples.length > MOST_SAMPLES) samples.splice(0, samples.length - MOST_SAMPLES);
  live.samples.set(family, samples);
}

/** Swaps are missing here, between what was heard last and what comes next. swaps: how many, null if nobody knows. */
function miss(live: Live, swaps: number | null, at: number): void {
  if (swaps === null) live.gaps += 1;
  else live.lost += swaps;
  for (const family of new Set([...live.samples.keys(), ...live.logs.keys()])) {
    const after = live.logs.get(family)?.heard ?? -Infinity;
    push(live, family, { at: live.heard || at + live.ahead, after, active: undefined, queued: {} });
  }
}

/** The logs as the engines have them, without what is known of them. Where they reach back over a gap there is none. */
export function learnHistory(live: Live, past: readonly Swap[]): void {
  const oldest = new Map<string, number>();
  for (const swap of past) {
    const log = logOf(live, swap.family);
    oldest.set(swap.family, Math.min(swap.at, oldest.get(swap.family) ?? Infinity));
    if (log.known.has(keyOf(swap))) continue;
    log.known.add(keyOf(swap));
    log.swaps.push(swap);
  }
  for (const log of live.logs.values()) {
    log.swaps.sort((a, b) => a.at - b.at);
    bound(log);
  }
  for (const [family, at] of oldest) {
    const samples = live.samples.get(family);
    if (samples) live.samples.set(family, samples.filter((one) => one.active !== undefined || one.after < at));
  }
  live.past = true;
  live.version += 1;
}

/** Events until the next frame. A page in the background has no frames, so the oldest swaps go; of a state the latest stays. */
export class Pending {
  #events = new Map<string, Told>();
  #number = 0;
  #swaps = 0;
  #lost = 0;
  #gaps = 0;

  add(events: readonly Told[]): void {
    for (const event of events) {
      const { kind, data } = event;
      if (kind === "swap" || kind === "lost") {
        this.#events.set(`${kind} ${(this.#number += 1)}`, event);
        this.#swaps += 1;
      } else {
        const key = `${kind} ${data.family ?? data.id ?? ""}`;
        this.#events.delete(key); // it takes its place behind the swaps that came before it
        this.#events.set(key, event);
      }
    }
    if (this.#swaps <= MOST_PENDING) return;
    for (const [key, { kind, data }] of this.#events) {
      if (kind !== "swap" && kind !== "lost") continue;
      this.#events.delete(key);
      if (kind === "swap") this.#lost += 1;
      else if (data.swaps === null) this.#gaps = 1;
      else this.#lost += data.swaps;
      if ((this.#swaps -= 1) <= MOST_PENDING) break;
    }
  }

  take(): Told[] {
    const events = [...this.#events.values()];
    const at = events[0]?.at ?? 0;
    const missing: Told[] = [];
    if (this.#gaps) missing.push({ kind: "lost", data: { swaps: null }, at });
    if (this.#lost) missing.push({ kind: "lost", data: { swaps: this.#lost }, at });
    this.#events = new Map();
    this.#swaps = this.#lost = this.#gaps = 0;
    return [...missing, ...events];
  }

  get size(): number {
    return this.#events.size;
  }
}

export type Status = { is: "off" } | { is: "connecting" } | { is: "live" } | { is: "away" | "refused"; why: string };

/** What is wrong with the connection, in words. */
export function troubleOf(link: Status): string | null {
  if (link.is === "refused") {
    return `The service tells nothing live: ${link.why.replace(/\.$/, "")}. Trying again. What is shown may be old.`;
  }
  if (link.is !== "away") return null;
  const why = link.why === AWAY ? "" : ` ${link.why}`;
  return `The connection to the service is lost; trying again. What is shown may be old.${why}`;
}

export const isUnderWay = ({ status: at }: Pick<Progress, "status">): boolean =>
  ["validating", "in_progress", "finalizing", "cancelling"].includes(at);

export const status = store<Status>({ is: "off" });
export const live = emptyLive();
/** Counts the frames in which something new is shown. */
export const shown = store(0);
/** Counts how often the connection came back: what was loaded before may be old, or have failed. */
export const returned = store(0);

/** Views are drawn anew no more often than this, however many events come: nobody reads faster. */
const REST_MS = 100;
const pending = new Pending();
let framed = false;
let drawn = -REST_MS;

function commit(now: number): void {
  framed = false;
  drawn = now;
  learn(live, pending.take());
  shown.set(live.version);
}

export function collect(events: readonly ServerEvent[]): void {
  const now = Date.now() / 1000;
  pending.add(events.map((event) => told(event, now)));
  if (framed) return;
  framed = true;
  const rest = drawn + REST_MS - performance.now();
  if (rest > 0) setTimeout(() => requestAnimationFrame(commit), rest);
  else requestAnimationFrame(commit);
}

export function collectHistory(past: readonly Swap[]): void {
  learnHistory(live, past);
  shown.set(live.version);
}

export function reset(): void {
  const { version } = live;
  pending.take();
  Object.assign(live, emptyLive(), { version: version + 1 });
  shown.set(live.version);
}

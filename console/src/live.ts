// What happens in the service, as /v1/events tells it. Events are collected and shown once a frame, in bounded room.

import { apiKey, call, messageOf, Problem } from "./api";
import { eventsOf, type ServerEvent } from "./sse";
import { store } from "./store";
import type { Engine, List, Progress, Swap } from "./types";

export const MOST_SWAPS = 2000;
export const MOST_PENDING = 4000;
export const MOST_BATCHES = 200;
const SILENCE_MS = 45_000;
const LONGEST_WAIT_MS = 5000;

/** How many waited at an expert, and since when. */
export interface Sample {
  at: number;
  queued: Record<string, number>;
}

export const MOST_SAMPLES = 4000;

/** What is known. It is changed in place; `version` counts the changes. `lost`: swaps that nobody here has seen. */
export interface Live {
  version: number;
  engines: Map<string, Engine>;
  swaps: Swap[];
  batches: Map<string, Progress>;
  /** Family -> its queues as they changed, oldest first. */
  samples: Map<string, Sample[]>;
  lost: number;
  gaps: number;
  seen: number;
  /** Are these all swaps since the first one? Else the oldest had to go. */
  whole: boolean;
  /** Seconds by which the service's clock is before this machine's. */
  ahead: number;
}

export const emptyLive = (): Live => ({
  version: 0,
  engines: new Map(),
  swaps: [],
  batches: new Map(),
  samples: new Map(),
  lost: 0,
  gaps: 0,
  seen: 0,
  whole: true,
  ahead: 0,
});

export function learn(live: Live, events: readonly ServerEvent[]): void {
  for (const event of events) {
    live.seen += 1;
    const data = JSON.parse(event.data);
    if (event.kind === "swap") live.swaps.push(data as Swap);
    else if (event.kind === "engine") rememberEngine(live, data as Engine);
    else if (event.kind === "batch") rememberBatch(live, data as Progress);
    else if (event.kind === "hello") live.ahead = data.at - Date.now() / 1000;
    else if (event.kind === "lost") {
      if (data.swaps === null) live.gaps += 1;
      else live.lost += data.swaps;
    }
  }
  if (live.swaps.length > MOST_SWAPS) {
    live.swaps.splice(0, live.swaps.length - MOST_SWAPS);
    live.whole = false;
  }
  live.version += 1;
}

function rememberEngine(live: Live, engine: Engine): void {
  live.engines.set(engine.family, engine);
  const samples = live.samples.get(engine.family) ?? [];
  samples.push({ at: Date.now() / 1000 + live.ahead, queued: engine.queued ?? {} });
  if (samples.length > MOST_SAMPLES) samples.splice(0, samples.length - MOST_SAMPLES);
  live.samples.set(engine.family, samples);
}

function rememberBatch(live: Live, batch: Progress): void {
  live.batches.set(batch.id, batch);
  if (live.batches.size > MOST_BATCHES) {
    const oldest = live.batches.keys().next().value;
    if (oldest !== undefined) live.batches.delete(oldest);
  }
}

/** The log of the engines from before the stream began, without what the stream has told since. */
export function learnHistory(live: Live, past: readonly Swap[]): void {
  const key = (swap: Swap) => `${swap.family} ${swap.number} ${swap.at} ${swap.kind}`;
  const known = new Set(live.swaps.map(key));
  const merged = [...past.filter((swap) => !known.has(key(swap))), ...live.swaps];
  merged.sort((a, b) => a.at - b.at);
  live.swaps = merged.slice(-MOST_SWAPS);
  live.version += 1;
}

/** Events until the next frame. A page in the background has no frames, so the oldest swaps go. */
export class Pending {
  #events: ServerEvent[] = [];
  lost = 0;

  add(events: readonly ServerEvent[]): void {
    for (const event of events) this.#events.push(event);
    const over = this.#events.length - MOST_PENDING;
    if (over <= 0) return;
    let dropped = 0;
    this.#events = this.#events.filter((event) => dropped >= over || event.kind !== "swap" || !++dropped);
    this.lost += dropped;
    // Of what is left only the latest of each kind matters, and there are few kinds.
    if (this.#events.length > 2 * MOST_PENDING) this.#events = this.#events.slice(-MOST_PENDING);
  }

  take(): ServerEvent[] {
    const taken = this.#events;
    this.#events = [];
    return taken;
  }

  get size(): number {
    return this.#events.length;
  }
}

export type Status = { is: "off" } | { is: "connecting" } | { is: "live" } | { is: "away"; why: string };

export const status = store<Status>({ is: "off" });
export const live = emptyLive();
/** Counts the frames in which something new is shown. */
export const shown = store(0);

/** Views are drawn anew no more often than this, however many events come: nobody reads faster. */
const REST_MS = 100;
const pending = new Pending();
let framed = false;
let drawn = -REST_MS;

function commit(now: number): void {
  framed = false;
  drawn = now;
  const events = pending.take();
  if (pending.lost) {
    live.lost += pending.lost;
    pending.lost = 0;
  }
  learn(live, events);
  shown.set(live.version);
}

function collect(events: readonly ServerEvent[]): void {
  pending.add(events);
  if (framed) return;
  framed = true;
  const rest = drawn + REST_MS - performance.now();
  if (rest > 0) setTimeout(() => requestAnimationFrame(commit), rest);
  else requestAnimationFrame(commit);
}

function reset(): void {
  const { version } = live;
  Object.assign(live, emptyLive(), { version: version + 1 });
  shown.set(live.version);
}

let stopLast: (() => void) | null = null;

/** Looks on until another key, or none, is used. */
export function follow(): void {
  stopLast?.();
  reset();
  const key = apiKey.get();
  if (key === null) {
    status.set({ is: "off" });
    return;
  }
  const stopped = new AbortController();
  stopLast = () => stopped.abort();
  void run(key, stopped.signal);
}

async function run(key: string, stopped: AbortSignal): Promise<void> {
  let last: string | null = null;
  let waitMs = 500;
  status.set({ is: "connecting" });
  while (!stopped.aborted) {
    const silent = new AbortController();
    const stop = () => silent.abort();
    stopped.addEventListener("abort", stop);
    let timer = 0;
    const heard = () => {
      clearTimeout(timer);
      timer = window.setTimeout(stop, SILENCE_MS);
    };
    let why = "The stream of events ended.";
    try {
      heard();
      const headers = last ? { "last-event-id": last } : undefined;
      const response = await call("/v1/events", { headers, signal: silent.signal }, key);
      status.set({ is: "live" });
      waitMs = 500;
      if (last === null) void past(key, stopped);
      for await (const events of eventsOf(response, heard)) {
        if (stopped.aborted) return;
        for (const event of events) last = event.id ?? last;
        collect(events);
      }
    } catch (error) {
      if (error instanceof Problem && error.status === 401) return;
      why = messageOf(error);
    } finally {
      clearTimeout(timer);
      stopped.removeEventListener("abort", stop);
    }
    if (stopped.aborted) return;
    status.set({ is: "away", why });
    await new Promise((resolve) => setTimeout(resolve, waitMs));
    waitMs = Math.min(2 * waitMs, LONGEST_WAIT_MS);
  }
}

async function past(key: string, stopped: AbortSignal): Promise<void> {
  try {
    const response = await call("/v1/swaps", { signal: stopped }, key);
    const { data } = (await response.json()) as List<Swap>;
    if (stopped.aborted) return;
    learnHistory(live, data);
    shown.set(live.version);
  } catch {
    // The stream goes on without what was before it.
  }
}

// The connection to /v1/events: it is tried again, goes on where it was, and rests while nobody sees the page.

import { apiKey, AWAY, call, messageOf, Problem, read } from "./api";
import { collect, collectHistory, reset, returned, status } from "./live";
import type { ServerEvent } from "./sse";
import type { List, Swap } from "./types";

const SILENCE_MS = 45_000;
const LONGEST_WAIT_MS = 5000;
/** A hidden page gives its connection back after this: a browser has but six to one service, a key but eight streams. */
export const HIDDEN_MS = 30_000;
/** The logs are read no more often than this, however many gaps there are. */
const HISTORY_MS = 5000;

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
  const past = history(key, stopped);
  let last: string | null = null;
  let [waitMs, isFirst] = [500, true];
  status.set({ is: "connecting" });
  while (!stopped.aborted) {
    await seen(stopped);
    if (stopped.aborted) return;
    const broken = new AbortController();
    const stop = () => broken.abort();
    stopped.addEventListener("abort", stop);
    let isResting = false;
    const look = whenLongHidden(() => {
      isResting = true;
      stop();
    });
    let timer: ReturnType<typeof setTimeout> | undefined;
    const heard = () => {
      clearTimeout(timer);
      timer = setTimeout(stop, SILENCE_MS);
    };
    let [why, isRefused] = ["The stream of events ended.", false];
    try {
      heard();
      const headers = last ? { "last-event-id": last } : undefined;
      const response = await call("/v1/events", { headers, signal: broken.signal }, key);
      status.set({ is: "live" });
      waitMs = 500;
      if (isFirst) past();
      else returned.update((n) => n + 1);
      isFirst = false;
      for await (const events of read(response, heard)) {
        if (stopped.aborted) return;
        for (const event of events) {
          last = event.id ?? last;
          if (event.kind === "end") why = JSON.parse(event.data).why;
        }
        collect(events);
        if (events.some(isGap)) past();
      }
    } catch (error) {
      if (error instanceof Problem && error.status === 401) return;
      isRefused = error instanceof Problem && error.status > 0;
      why = broken.signal.aborted ? AWAY : messageOf(error); // a silence, which the browser calls an abort
    } finally {
      clearTimeout(timer);
      look();
      stopped.removeEventListener("abort", stop);
    }
    if (stopped.aborted) return;
    if (isResting) {
      status.set({ is: "connecting" });
      continue;
    }
    status.set({ is: isRefused ? "refused" : "away", why });
    await new Promise((resolve) => setTimeout(resolve, waitMs));
    waitMs = Math.min(2 * waitMs, LONGEST_WAIT_MS);
  }
}

/** Swaps are missing, and nobody knows how many: what the engines' own logs have of them is worth a look. */
const isGap = ({ kind, data }: ServerEvent): boolean => kind === "lost" && JSON.parse(data).swaps === null;

/** Until somebody sees the page. */
function seen(stopped: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const look = () => {
      if (document.hidden && !stopped.aborted) return;
      document.removeEventListener("visibilitychange", look);
      stopped.removeEventListener("abort", look);
      resolve();
    };
    document.addEventListener("visibilitychange", look);
    stopped.addEventListener("abort", look);
    look();
  });
}

/** Calls `rest` when nobody has seen the page for long. What it gives ends that. */
function whenLongHidden(rest: () => void): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const look = () => {
    clearTimeout(timer);
    if (document.hidden) timer = setTimeout(rest, HIDDEN_MS);
  };
  document.addEventListener("visibilitychange", look);
  look();
  return () => {
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", look);
  };
}

/** Reads the engines' logs when called: at once, or as soon as the last time is long enough ago. What fails is tried again. */
function history(key: string, stopped: AbortSignal): () => void {
  let [isDue, readAt] = [false, -Infinity];
  const read = async () => {
    isDue = false;
    readAt = performance.now();
    try {
      const response = await call("/v1/swaps", { signal: stopped }, key);
      const { data } = (await response.json()) as List<Swap>;
      if (!stopped.aborted) collectHistory(data);
    } catch {
      past(); // meanwhile the stream goes on without what was before it
    }
  };
  const past = () => {
    if (isDue) return;
    isDue = true;
    setTimeout(() => void (stopped.aborted || read()), Math.max(0, readAt + HISTORY_MS - performance.now()));
  };
  return past;
}

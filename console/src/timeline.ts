// The event log of a family as spans: whose turn it was, what was loading. The rules are those of workers/timeline.py; what
// the engine said of itself meanwhile corrects them, where the log that is known here has holes.

import type { Sample } from "./live";
import type { Swap } from "./types";

export interface Span {
  expert: string;
  since: number;
  until: number;
}

/** Spans in the order in which they ended. marks: the events between. */
export interface Lanes {
  turns: Span[];
  loads: Span[];
  marks: Swap[];
}

/** swaps: of one family, oldest first. samples: as they came. whole: is nothing missing before the first swap? */
export interface Known {
  swaps: readonly Swap[];
  samples: readonly Sample[];
  whole: boolean;
}

/** What happened between `from` and `to`, Unix seconds. */
export function lanes({ swaps, samples, whole }: Known, from: number, to: number): Lanes {
  const told: Lanes = { turns: [], loads: [], marks: [] };
  const there = new Map<string, number>(); // image on the device -> since when
  let [holder, since, isKnown] = [null as string | null, from, false];
  let [woke, isAwake] = [-Infinity, true];
  let complete: number | null = whole ? -Infinity : null; // since when no event is missing, null = since the next one
  let last = -Infinity;

  const add = (spans: Span[], expert: string | null, start: number, end: number) => {
    const [a, b] = [Math.max(start, from), Math.min(end, to)];
    if (expert !== null && a < b) spans.push({ expert, since: a, until: b });
  };
  /** Since when an expert has the turn of whom no swap tells. */
  const sinceOf = (expert: string) => Math.max(complete ?? Infinity, there.get(expert) ?? woke);

  const happened = (swap: Swap) => {
    const { kind, image, at } = swap;
    complete ??= at;
    last = at;
    if (kind === "swap") {
      if (!isKnown && (holder = former(swap)) !== null) since = sinceOf(holder);
      add(told.turns, holder, since, at);
      [holder, since, isKnown] = [image, at, true];
    } else if (kind === "loaded") {
      add(told.loads, image, at - swap.seconds, at);
      if (!there.has(image)) there.set(image, at);
    } else if ((kind === "evicted" || kind === "failed") && swap.source === "device") {
      there.delete(image);
      if (holder === image) {
        add(told.turns, holder, since, at);
        holder = null;
      }
    } else if (kind === "slept") {
      add(told.turns, holder, since, at);
      isAwake = false;
    } else if (kind === "woke") {
      for (const name of there.keys()) there.set(name, at);
      [woke, since, isAwake] = [at, at, true];
    }
    if (at >= from && at <= to) told.marks.push(swap);
  };

  const said = ({ active }: Sample, at: number) => {
    last = at;
    if (active === undefined) {
      if (isAwake) add(told.turns, holder, since, at);
      there.clear();
      [holder, isKnown, woke, isAwake, complete] = [null, false, -Infinity, true, null];
    } else if (!isKnown) {
      holder = active;
      since = active === null ? at : Math.min(at, sinceOf(active));
      isKnown = true;
    } else if (active !== holder && (isAwake || active !== null)) {
      if (isAwake) add(told.turns, holder, since, at);
      [holder, since, isAwake] = [active, at, true];
    }
  };

  let next = 0;
  for (const sample of samples) {
    for (; next < swaps.length && (swaps[next] as Swap).at <= sample.after; next += 1) happened(swaps[next] as Swap);
    said(sample, Math.max(last, Math.min(sample.at, swaps[next]?.at ?? Infinity)));
  }
  for (; next < swaps.length; next += 1) happened(swaps[next] as Swap);
  if (isAwake) add(told.turns, holder, since, to);
  return told;
}

/** Who had the turn before, as the log notes it. A key with scopes is not told. */
function former(swap: Swap): string | null {
  const name = swap.why.startsWith("after ") ? swap.why.slice(6) : "";
  return name === "" || name === "None" ? null : name;
}

/** The turn of an expert at a time, null where it has none. */
export function turnAt(told: Lanes, expert: string, at: number): Span | null {
  return told.turns.find((turn) => turn.expert === expert && turn.since <= at && at <= turn.until) ?? null;
}

/** The samples, oldest first, that tell how it was at `from` and later. */
export function samplesSince(samples: readonly Sample[], from: number): readonly Sample[] {
  return samples.slice(Math.max(0, samples.findLastIndex((sample) => sample.at <= from)));
}

/** How many were in an expert's queue at a time, by the samples, oldest first. */
export function queuedAt(samples: readonly Sample[], expert: string, at: number): number {
  return samples.findLast((sample) => sample.at <= at)?.queued[expert] ?? 0;
}

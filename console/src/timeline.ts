// The event log of a family as spans: whose turn it was, what was loading, whose image was on the device.

import type { Swap } from "./types";

export interface Span {
  expert: string;
  since: number;
  until: number;
}

export interface Lanes {
  experts: string[];
  turns: Span[];
  loads: Span[];
  marks: Swap[];
}

/**
 * What happened between `from` and `to`, Unix seconds. swaps: of one family, oldest first. active: who has the turn now,
 * which nothing in the log need tell. experts: in the order of the lanes; others of the log come behind them.
 * whole: is nothing missing of the log? Else nobody knows whose turn it was before its first swap.
 */
export function lanes(
  swaps: readonly Swap[],
  from: number,
  to: number,
  active: string | null,
  experts: readonly string[],
  whole = true,
): Lanes {
  const turns: Span[] = [];
  const loads: Span[] = [];
  const marks: Swap[] = [];
  let holder: string | null = null;
  let since = from;
  let known = false;
  const add = (spans: Span[], expert: string | null, start: number, end: number) => {
    const [a, b] = [Math.max(start, from), Math.min(end, to)];
    if (expert !== null && a < b) spans.push({ expert, since: a, until: b });
  };
  for (const swap of swaps) {
    if (swap.kind === "swap") {
      if (!known) holder = whole ? former(swap) : null;
      add(turns, holder, since, swap.at);
      [holder, since, known] = [swap.image, swap.at, true];
    } else if (swap.kind === "loaded") add(loads, swap.image, swap.at - swap.seconds, swap.at);
    else if (swap.kind === "slept") {
      add(turns, holder, since, swap.at);
      [holder, known] = [null, true];
    }
    if (swap.at >= from && swap.at <= to) marks.push(swap);
  }
  if (!known) holder = active;
  add(turns, holder, since, to);
  const named = [...experts];
  for (const span of [...turns, ...loads]) if (!named.includes(span.expert)) named.push(span.expert);
  return { experts: named, turns, loads, marks };
}

function former(swap: Swap): string | null {
  const name = swap.why.startsWith("after ") ? swap.why.slice(6) : "";
  return name === "" || name === "None" ? null : name;
}

/** The turn of an expert at a time, null where it has none. */
export function turnAt(told: Lanes, expert: string, at: number): Span | null {
  return told.turns.find((turn) => turn.expert === expert && turn.since <= at && at <= turn.until) ?? null;
}

/** How many were in an expert's queue at a time, by the samples, oldest first. */
export function queuedAt(samples: readonly { at: number; queued: Record<string, number> }[], expert: string, at: number): number {
  return samples.findLast((sample) => sample.at <= at)?.queued[expert] ?? 0;
}

import { describe, expect, it } from "vitest";
import type { Sample } from "../src/live";
import { lanes, queuedAt, samplesSince, turnAt } from "../src/timeline";
import type { Swap } from "../src/types";

let number = 0;
const event = (kind: string, image: string, at: number, more: Partial<Swap> = {}): Swap => ({
  family: "f",
  number: (number += 1),
  at,
  kind,
  image,
  source: "device",
  target: "device",
  bytes: 0,
  seconds: 0,
  why: "",
  ...more,
});

const sample = (at: number, active: string | null | undefined, after = at): Sample => ({ at, after, active, queued: {} });
const told = (swaps: Swap[], samples: Sample[] = [], whole = true) => lanes({ swaps, samples, whole }, 100, 200);
const turns = (swaps: Swap[], samples: Sample[] = [], whole = true) =>
  told(swaps, samples, whole).turns.map(({ expert, since, until }) => `${expert} ${since}-${until}`);

describe("lanes by the log alone", () => {
  it("go from turn to turn, and know who was before the first", () => {
    const swaps = [event("swap", "math", 130, { why: "after sql" }), event("swap", "sql", 170, { why: "after math" })];
    expect(turns(swaps)).toEqual(["sql 100-130", "math 130-170", "sql 170-200"]);
  });

  it("say nothing of the time before a log whose beginning is gone", () => {
    expect(turns([event("swap", "a", 150, { why: "after b" })], [], false)).toEqual(["a 150-200"]);
    const swaps = [event("loaded", "c", 120), event("swap", "a", 150, { why: "after b" })];
    expect(turns(swaps, [], false)).toEqual(["b 120-150", "a 150-200"]);
  });

  it("cut what is older than the window", () => {
    const swaps = [event("swap", "a", 10), event("swap", "b", 20, { why: "after a" })];
    expect(turns(swaps)).toEqual(["b 100-200"]);
    expect(told(swaps).marks).toEqual([]);
  });

  it("show a load from its begin to its end", () => {
    expect(told([event("loaded", "math", 150, { seconds: 20 })]).loads).toEqual([{ expert: "math", since: 130, until: 150 }]);
  });

  it("begin a turn that no swap tells of with the load of its image", () => {
    expect(turns([event("loaded", "a", 120), event("swap", "b", 150, { why: "after a" })])).toEqual(["a 120-150", "b 150-200"]);
  });

  it("give nobody the turn while the family sleeps, and to its holder again when it wakes", () => {
    const swaps = [event("swap", "a", 110), event("slept", "f", 150)];
    expect(turns(swaps)).toEqual(["a 110-150"]);
    expect(turns([...swaps, event("woke", "f", 180)])).toEqual(["a 110-150", "a 180-200"]);
  });

  it.each(["evicted", "failed"])("end a turn when its image has %s from the device, and not that of another", (kind) => {
    expect(turns([event("swap", "a", 110), event(kind, "b", 120), event(kind, "a", 150)])).toEqual(["a 110-150"]);
    expect(turns([event("swap", "a", 110), event(kind, "a", 150, { source: "host" })])).toEqual(["a 110-200"]);
  });
});

describe("lanes with what the engine said", () => {
  it("are the holder's alone while nothing happens", () => {
    expect(turns([], [sample(150, "sql")])).toEqual(["sql 100-200"]);
    expect(turns([], [sample(150, "sql")], false)).toEqual(["sql 150-200"]);
  });

  it("end a turn that no event ends, as of an expert whose followers a key may not see, or of an engine that went down", () => {
    expect(turns([event("swap", "a", 110)], [sample(112, "a"), sample(140, null)])).toEqual(["a 110-140"]);
  });

  it("go on with who has the turn where events are missing", () => {
    expect(turns([event("swap", "a", 110)], [sample(140, "b")])).toEqual(["a 110-140", "b 140-200"]);
  });

  it("take no word for newer than the events that it knew of", () => {
    const swaps = [event("swap", "a", 110), event("swap", "b", 140, { why: "after a" })];
    expect(turns(swaps, [sample(141, "a", 110), sample(142, "b", 140)])).toEqual(["a 110-140", "b 140-200"]);
  });

  it("are broken by a gap, also for who was before the first swap behind it", () => {
    const swaps = [event("swap", "a", 110), event("swap", "c", 160, { why: "after b" })];
    expect(turns(swaps, [sample(130, undefined, 110)])).toEqual(["a 110-130", "c 160-200"]);
  });

  it("keep the holder of a family that sleeps", () => {
    const swaps = [event("swap", "a", 110), event("slept", "f", 150), event("woke", "f", 180)];
    expect(turns(swaps, [sample(151, null, 150), sample(181, "a", 180)])).toEqual(["a 110-150", "a 180-200"]);
  });
});

describe("the samples of a window", () => {
  it("are those within it, and the one that tells how it was when it began", () => {
    const samples = [110, 120, 130, 140].map((at) => sample(at, "a"));
    const since = (from: number) => samplesSince(samples, from).map(({ at }) => at);
    expect([100, 110, 125, 130, 150].map(since)).toEqual([[110, 120, 130, 140], [110, 120, 130, 140], [120, 130, 140], [130, 140], [140]]);
    expect(samplesSince([], 100)).toEqual([]);
  });
});

describe("what is under the pointer", () => {
  it("is a turn, or none", () => {
    const shown = told([event("swap", "b", 150, { why: "after a" })]);
    expect(turnAt(shown, "a", 120)).toEqual({ expert: "a", since: 100, until: 150 });
    expect(turnAt(shown, "a", 160)).toBeNull();
  });

  it("is the queue of that time", () => {
    const samples: Sample[] = [
      { ...sample(110, "a"), queued: { a: 2 } },
      { ...sample(120, "a"), queued: {} },
    ];
    expect([100, 110, 115, 120, 130].map((at) => queuedAt(samples, "a", at))).toEqual([0, 2, 2, 0, 0]);
  });
});

import { describe, expect, it } from "vitest";
import type { Sample } from "../src/live";
import { lanes, queuedAt, turnAt } from "../src/timeline";
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

describe("lanes", () => {
  it("is the holder's alone while nothing happens", () => {
    const told = lanes([], 100, 200, "sql", ["math", "sql"]);
    expect(told.turns).toEqual([{ expert: "sql", since: 100, until: 200 }]);
    expect(told.experts).toEqual(["math", "sql"]);
  });

  it("goes from turn to turn, and knows who was before the first", () => {
    const told = lanes([event("swap", "math", 130, { why: "after sql" }), event("swap", "sql", 170, { why: "after math" })], 100, 200, "sql", []);
    expect(told.turns).toEqual([
      { expert: "sql", since: 100, until: 130 },
      { expert: "math", since: 130, until: 170 },
      { expert: "sql", since: 170, until: 200 },
    ]);
  });

  it("says nothing of the time before a log whose beginning is gone", () => {
    const told = lanes([event("swap", "a", 150, { why: "after b" })], 100, 200, "a", [], false);
    expect(told.turns).toEqual([{ expert: "a", since: 150, until: 200 }]);
  });

  it("cuts what is older than the window", () => {
    const told = lanes([event("swap", "a", 10), event("swap", "b", 20, { why: "after a" })], 100, 200, "b", []);
    expect(told.turns).toEqual([{ expert: "b", since: 100, until: 200 }]);
    expect(told.marks).toEqual([]);
  });

  it("shows a load from its begin to its end", () => {
    const told = lanes([event("loaded", "math", 150, { seconds: 20 })], 100, 200, null, []);
    expect(told.loads).toEqual([{ expert: "math", since: 130, until: 150 }]);
  });

  it("gives nobody the turn while the family sleeps", () => {
    const told = lanes([event("swap", "a", 110), event("slept", "f", 150)], 100, 200, null, []);
    expect(told.turns).toEqual([{ expert: "a", since: 110, until: 150 }]);
  });
});

describe("what is under the pointer", () => {
  it("is a turn, or none", () => {
    const told = lanes([event("swap", "b", 150, { why: "after a" })], 100, 200, "b", []);
    expect(turnAt(told, "a", 120)).toEqual({ expert: "a", since: 100, until: 150 });
    expect(turnAt(told, "a", 160)).toBeNull();
  });

  it("is the queue of that time", () => {
    const samples: Sample[] = [
      { at: 110, queued: { a: 2 } },
      { at: 120, queued: {} },
    ];
    expect([100, 110, 115, 120, 130].map((at) => queuedAt(samples, "a", at))).toEqual([0, 2, 2, 0, 0]);
  });
});

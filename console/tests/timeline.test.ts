import { describe, expect, it } from "vitest";
import { lanes } from "../src/timeline";
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

import { describe, expect, it } from "vitest";
import { emptyLive, learn, learnHistory, MOST_PENDING, MOST_SWAPS, Pending } from "../src/live";
import type { ServerEvent } from "../src/sse";
import type { Swap } from "../src/types";

const swap = (number: number): Swap => ({
  family: "small",
  number,
  at: 1000 + number,
  kind: "swap",
  image: "sql",
  source: "device",
  target: "device",
  bytes: 0,
  seconds: 0,
  why: "",
});
const event = (kind: string, data: unknown): ServerEvent => ({ id: null, kind, data: JSON.stringify(data) });

describe("learn", () => {
  it("keeps the latest of each engine and batch, and all swaps in order", () => {
    const live = emptyLive();
    learn(live, [
      event("engine", { family: "small", active: "sql" }),
      event("swap", swap(1)),
      event("engine", { family: "small", active: "math" }),
      event("batch", { id: "b", status: "validating" }),
      event("batch", { id: "b", status: "completed" }),
      event("swap", swap(2)),
    ]);
    expect(live.engines.get("small")?.active).toBe("math");
    expect(live.batches.get("b")?.status).toBe("completed");
    expect(live.swaps.map((one) => one.number)).toEqual([1, 2]);
  });

  it("is bounded: the oldest swaps go", () => {
    const live = emptyLive();
    learn(live, Array.from({ length: MOST_SWAPS + 500 }, (_, number) => event("swap", swap(number))));
    expect(live.swaps.length).toBe(MOST_SWAPS);
    expect(live.swaps.at(-1)?.number).toBe(MOST_SWAPS + 499);
  });

  it("counts what the service lost, and gaps of unknown size apart", () => {
    const live = emptyLive();
    learn(live, [event("lost", { swaps: 7 }), event("lost", { swaps: null }), event("lost", { swaps: 3 })]);
    expect([live.lost, live.gaps]).toEqual([10, 1]);
  });
});

describe("learnHistory", () => {
  it("puts the past before what the stream told, each once", () => {
    const live = emptyLive();
    learn(live, [event("swap", swap(3)), event("swap", swap(4))]);
    learnHistory(live, [swap(1), swap(2), swap(3)]);
    expect(live.swaps.map((one) => one.number)).toEqual([1, 2, 3, 4]);
  });
});

describe("Pending", () => {
  it("lets the oldest swaps go while nobody draws, but no state", () => {
    const pending = new Pending();
    pending.add([event("engine", { family: "small" })]);
    for (let number = 0; number < MOST_PENDING + 100; number += 50) {
      pending.add(Array.from({ length: 50 }, (_, index) => event("swap", swap(number + index))));
    }
    expect(pending.lost).toBe(101);
    expect(pending.size).toBe(MOST_PENDING);
    const taken = pending.take();
    expect(taken[0]?.kind).toBe("engine");
    expect(JSON.parse(taken.at(-1)?.data ?? "{}").number).toBe(MOST_PENDING + 99);
    expect(pending.size).toBe(0);
  });
});

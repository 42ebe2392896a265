import { describe, expect, it } from "vitest";
import { emptyLive, isWhole, learn, learnHistory, MOST_PENDING, MOST_SWAPS, Pending, swapsOf, type Told, troubleOf } from "../src/live";
import { lanes } from "../src/timeline";
import type { Swap } from "../src/types";

const swap = (number: number, family = "small", image = "sql"): Swap => ({
  family,
  number,
  at: 1000 + number,
  kind: "swap",
  image,
  source: "device",
  target: "device",
  bytes: 0,
  seconds: 0,
  why: "",
});
const event = (kind: string, data: unknown, at = 0): Told => ({ kind, data, at });
const hello = (epoch: string, at = 0) => event("hello", { at, epoch }, at);
const numbers = (swaps: readonly Swap[]) => swaps.map((one) => one.number);
const many = (count: number, family = "small") => Array.from({ length: count }, (_, index) => event("swap", swap(index + 1, family)));

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
    expect(numbers(swapsOf(live, "small"))).toEqual([1, 2]);
  });

  it("forgets batches of which the service tells no more, whatever it said last", () => {
    const live = emptyLive();
    const batch = (id: string) => event("batch", { id, status: "in_progress" });
    learn(live, [event("batches", { ids: ["b", "a"] }), batch("a"), batch("b")]);
    learn(live, [event("batches", { ids: ["c", "b"] }), batch("c")]);
    expect([...live.batches.keys()]).toEqual(["b", "c"]);
  });

  it("is bounded by family: a busy one takes no room of a quiet one, which stays whole", () => {
    const live = emptyLive();
    learn(live, [event("swap", swap(1, "quiet")), ...many(MOST_SWAPS + 500, "busy")]);
    expect(swapsOf(live, "busy").length).toBe(MOST_SWAPS);
    expect(swapsOf(live, "busy").at(-1)?.number).toBe(MOST_SWAPS + 500);
    expect([isWhole(live, "busy"), isWhole(live, "quiet")]).toEqual([false, true]);
    expect(numbers(swapsOf(live, "quiet"))).toEqual([1]);
  });

  it("counts what the service lost, and gaps of unknown size apart", () => {
    const live = emptyLive();
    learn(live, [event("lost", { swaps: 7 }), event("lost", { swaps: null }), event("lost", { swaps: 3 })]);
    expect([live.lost, live.gaps]).toEqual([10, 1]);
  });

  it("takes the clock and the queues from when they came, however late they are shown", () => {
    const live = emptyLive();
    learn(live, [
      hello("a", 5000),
      event("engine", { family: "small", queued: { sql: 1 } }, 5001),
      event("engine", { family: "small", queued: { sql: 2 } }, 5900),
    ]);
    expect(live.ahead).toBe(0);
    expect(live.samples.get("small")?.map(({ at }) => at)).toEqual([5001, 5900]);
    learn(live, [event("hello", { at: 6010, epoch: "a" }, 6000), event("engine", { family: "small", queued: {} }, 6001)]);
    expect([live.ahead, live.samples.get("small")?.at(-1)?.at]).toEqual([10, 6011]);
  });
});

describe("a connection that came back", () => {
  const before = () => {
    const live = emptyLive();
    learn(live, [hello("a"), event("engine", { family: "small" }), event("engine", { family: "gone" }), event("batch", { id: "gone" })]);
    return live;
  };

  it("to another process begins without engines and batches", () => {
    const live = before();
    learn(live, [hello("b")]);
    expect([live.engines.size, live.batches.size]).toEqual([0, 0]);
  });

  it("to the same one keeps them until it has told of those that are left", () => {
    const live = before();
    learn(live, [hello("a")]);
    expect([...live.engines.keys()]).toEqual(["small", "gone"]);
    learn(live, [event("engine", { family: "small" }), event("batches", { ids: ["new"] }), event("batch", { id: "new" })]);
    expect([...live.engines.keys()]).toEqual(["small"]);
    expect([...live.batches.keys()]).toEqual(["new"]);
    learn(live, [event("engine", { family: "other" })]);
    expect([...live.engines.keys()]).toEqual(["small", "other"]);
  });
});

describe("learnHistory", () => {
  it("puts the past before what the stream told, each once", () => {
    const live = emptyLive();
    learn(live, [event("swap", swap(3)), event("swap", swap(4))]);
    learnHistory(live, [swap(1), swap(2), swap(3)]);
    expect(numbers(swapsOf(live, "small"))).toEqual([1, 2, 3, 4]);
  });

  it("is not repeated by a stream that comes later", () => {
    const live = emptyLive();
    learnHistory(live, [swap(1), swap(2), swap(3)]);
    learn(live, [event("swap", swap(2)), event("swap", swap(3)), event("swap", swap(4))]);
    expect(numbers(swapsOf(live, "small"))).toEqual([1, 2, 3, 4]);
  });

  it("is whole where the log has its first line, or none at all", () => {
    const live = emptyLive();
    expect(isWhole(live, "small")).toBe(false);
    learnHistory(live, [swap(1), swap(2), swap(700, "busy")]);
    expect(["small", "busy", "unused"].map((family) => isWhole(live, family))).toEqual([true, false, true]);
  });
});

describe("the turns", () => {
  const turns = (live: ReturnType<typeof emptyLive>, to: number) => {
    const known = { swaps: swapsOf(live, "small"), samples: live.samples.get("small") ?? [], whole: isWhole(live, "small") };
    return lanes(known, 1000, to).turns.map(({ expert, since, until }) => `${expert} ${since}-${until}`);
  };
  const engine = (active: string | null, at: number, last: number | null = null) =>
    event("engine", { family: "small", active, last_event: last }, at);

  it("follow from what was before the stream, though it is read after the engine's first word", () => {
    const live = emptyLive();
    learn(live, [hello("a", 1050), engine("math", 1050, 1020)]);
    learnHistory(live, [swap(1, "small", "sql"), swap(20, "small", "math")]);
    expect(turns(live, 1060)).toEqual(["sql 1001-1020", "math 1020-1060"]);
  });

  it("are unknown from what was heard last until the engine speaks again, after a gap", () => {
    const live = emptyLive();
    learnHistory(live, []);
    learn(live, [hello("a", 1000), event("swap", swap(1), 1001), engine("sql", 1010, 1001)]);
    learn(live, [hello("b", 1050), event("lost", { swaps: null }, 1050), engine("math", 1055)]);
    expect(turns(live, 1060)).toEqual(["sql 1001-1010", "math 1055-1060"]);
  });

  it("go on in a family to which nothing happened while swaps of another one were lost", () => {
    const live = emptyLive();
    learn(live, [hello("a", 1000), event("swap", swap(1), 1001), engine("sql", 1010, 1001)]);
    learn(live, [event("lost", { swaps: 4 }, 1030)]);
    expect(turns(live, 1060)).toEqual(["sql 1001-1010", "sql 1030-1060"]);
  });

  it("have no gap where the engine's own log reaches back over it", () => {
    const live = emptyLive();
    learn(live, [hello("a", 1000), event("swap", swap(1), 1001), engine("sql", 1010, 1001)]);
    learn(live, [event("lost", { swaps: null }, 1040), event("swap", swap(41, "small", "sql"), 1042), engine("sql", 1042, 1041)]);
    expect(turns(live, 1060)).toEqual(["sql 1001-1010", "sql 1041-1060"]);
    learnHistory(live, [swap(1), swap(30, "small", "math"), swap(41, "small", "sql")]);
    expect(turns(live, 1060)).toEqual(["sql 1001-1030", "math 1030-1041", "sql 1041-1060"]);
  });
});

describe("Pending", () => {
  it("lets the oldest swaps go while nobody draws, and says so before the rest; no state", () => {
    const pending = new Pending();
    pending.add([event("engine", { family: "small" }), event("lost", { swaps: 5 })]);
    for (let number = 0; number < MOST_PENDING + 100; number += 50) {
      pending.add(Array.from({ length: 50 }, (_, index) => event("swap", swap(number + index))));
    }
    expect(pending.size).toBe(MOST_PENDING + 1);
    const taken = pending.take();
    expect(taken.slice(0, 2).map(({ kind, data }) => [kind, data.swaps])).toEqual([["lost", 105], ["engine", undefined]]);
    expect(taken.at(-1)?.data.number).toBe(MOST_PENDING + 99);
    expect(pending.size).toBe(0);
    expect(pending.take()).toEqual([]);
  });

  it("keeps the only word of a quiet family and of a batch, however busy another one is", () => {
    const pending = new Pending();
    pending.add([hello("a"), event("engine", { family: "quiet" }), event("batch", { id: "b", status: "completed" })]);
    for (let n = 0; n < 3 * MOST_PENDING; n += 1) pending.add([event("engine", { family: "busy", running: n })]);
    expect(pending.take().map(({ kind, data }) => `${kind} ${data.family ?? data.id ?? ""}`)).toEqual([
      "hello ",
      "engine quiet",
      "batch b",
      "engine busy",
    ]);
  });

  it("has a state behind the swaps that it knows of", () => {
    const pending = new Pending();
    pending.add([event("engine", { family: "small", active: null }), event("swap", swap(1)), event("engine", { family: "small", active: "sql" })]);
    expect(pending.take().map(({ kind }) => kind)).toEqual(["swap", "engine"]);
  });
});

describe("troubleOf", () => {
  it("says why the service gives no stream, and nothing while it does", () => {
    const why = "8 streams of events of this API key are open, which is the limit; close one";
    expect(troubleOf({ is: "refused", why })).toContain(`${why}. Trying again`);
    expect(troubleOf({ is: "away", why: "the service stops" })).toMatch(/^The connection to the service is lost.* the service stops$/);
    expect([troubleOf({ is: "live" }), troubleOf({ is: "connecting" })]).toEqual([null, null]);
  });
});

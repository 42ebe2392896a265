import { beforeEach, describe, expect, it, onTestFinished, vi } from "vitest";
import { returned } from "../src/live";
import { spoken } from "../src/spoken";
import { forget, options, selected, START, type Turn, turns } from "../src/talk";
import type { Coe } from "../src/types";
import { Chat, TurnView } from "../src/views/chat";
import { Numeric } from "../src/views/composer";
import { type Asked, requests } from "./answers";
import { page, type Part, seen } from "./page";

const COE = {
  request_id: "req-1",
  expert: "sql",
  experts: ["sql"],
  category: null,
  probabilities: {},
  margin: 0,
  reason: "sql is the best for data",
  router: "two_level",
  aggregator: "single",
  used: ["sql"],
  failed: {},
  calls: [],
  note: "",
} satisfies Coe;

const turn = (id: number, more: Partial<Turn> = {}): Turn => ({
  id,
  asked: "hi",
  options: START,
  text: "an answer",
  state: "done",
  answerId: "chatcmpl-1",
  coe: COE,
  usage: null,
  finish: "stop",
  error: null,
  began: 0,
  first: 1,
  ended: 2,
  thumbs: null,
  ...more,
});

describe("a turn", () => {
  it("is drawn anew when it changes, and only then", async () => {
    const reads = vi.fn(() => "an answer");
    const old = Object.defineProperty(turn(1), "text", { get: reads });
    let growing = turn(2, { text: "a", state: "streaming", ended: null });
    const [root, draw] = await page(() => [old, growing].map((each) => <TurnView key={each.id} turn={each} chosen={false} narrow={false} />));
    const before = reads.mock.calls.length;
    growing = { ...growing, text: "a b" };
    await draw();
    expect(root.text).toContain("a b");
    expect(reads.mock.calls.length).toBe(before);
  });

  it("can be chosen by a button, which says why", async () => {
    const [root] = await page(() => [1, 2].map((id) => <TurnView key={id} turn={turn(id)} chosen={id === 2} narrow={false} />));
    const whys = root.all("button").filter((button) => button.text === "Why");
    expect(whys.map((button) => button.attributes.get("aria-pressed"))).toEqual(["false", "true"]);
    await whys[0]?.does("click");
    expect([selected.get(), spoken.get()]).toEqual([1, COE.reason]);
  });

  it("that failed after its route can be chosen too", async () => {
    const [root] = await page(() => <TurnView turn={turn(1, { state: "failed", error: new Error("no") })} chosen={false} narrow={false} />);
    expect(root.one("button", "Why").attributes.get("aria-pressed")).toBe("false");
  });

  it("holds its why where there is no room beside it, once it is opened", async () => {
    const [root] = await page(() => <TurnView turn={turn(1)} chosen={false} narrow />);
    expect(root.all("button").some((button) => button.text === "Why")).toBe(false);
    expect(root.text).not.toContain(COE.reason);
    await root.one("details", "Why this expert").does("toggle", { currentTarget: { open: true } });
    await seen();
    expect(root.text).toContain(COE.reason);
  });
});

describe("a conversation", () => {
  let asked: Asked[];
  let root: Part;

  beforeEach(async () => {
    vi.stubGlobal("matchMedia", () => ({ matches: false, addEventListener: () => undefined, removeEventListener: () => undefined }));
    vi.stubGlobal("window", globalThis);
    onTestFinished(forget);
    asked = requests();
    [root] = await page(() => <Chat />);
  });

  it("goes to a new question, and leaves who reads above where he is", async () => {
    const box = Object.assign(root.one("div", "Conversation"), { scrollHeight: 1000, clientHeight: 100, scrollTop: 0 });
    const show = async (...all: Turn[]) => {
      turns.set(all);
      await seen();
      return box.scrollTop;
    };
    expect(await show(turn(1))).toBe(1000);
    box.scrollTop = 200;
    await box.does("scroll");
    expect(await show(turn(1, { text: "more words" }))).toBe(200);
    expect(await show(turn(1), turn(2))).toBe(1000);
  });

  it("lets the router choose once the expert that was chosen is no more", async () => {
    onTestFinished(() => options.set(START));
    const models = (...names: string[]) => ({ data: ["auto", ...names].map((id) => ({ id, coe: { kind: id === "auto" ? "router" : "weights" } })) });
    options.set({ ...START, model: "sql" });
    await seen();
    asked.at(-1)?.answer(models("sql", "poet"));
    await seen();
    expect(options.get().model).toBe("sql");
    returned.update((n) => n + 1);
    await seen();
    asked.at(-1)?.answer(models("poet"));
    await seen();
    expect([options.get().model, root.one("select", "Number of experts").localName]).toEqual(["auto", "select"]);
  });
});

describe("a field for a number", () => {
  it("leaves what is being written as it is", async () => {
    let value: number | null = null;
    const [root, draw] = await page(() => <Numeric min="0" step="any" value={value} set={(own) => (value = own)} />);
    const write = async (text: string) => {
      await root.all("input")[0]?.does("input", { currentTarget: { value: text } });
      await draw();
      return [root.all("input")[0]?.value, value];
    };
    expect(await write("0.0")).toEqual(["0.0", 0]);
    expect(await write("0.05")).toEqual(["0.05", 0.05]);
    expect(await write("")).toEqual(["", null]);
  });
});

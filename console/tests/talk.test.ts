import { beforeEach, describe, expect, it } from "vitest";
import { apiKey, signedOut, signIn, signOut } from "../src/api";
import { spoken } from "../src/spoken";
import { ask, bodyOf, decide, draftPrompt, forget, heard, options, selected, spokenOf, START, stop, type Turn, turns, underWay } from "../src/talk";
import type { Coe } from "../src/types";
import { requests } from "./answers";

const turn = (more: Partial<Turn> = {}): Turn => ({
  id: 1,
  asked: "hi",
  options: START,
  text: "",
  state: "waiting",
  answerId: null,
  coe: null,
  usage: null,
  finish: null,
  error: null,
  began: 0,
  first: null,
  ended: null,
  thumbs: null,
  ...more,
});

describe("bodyOf", () => {
  it("has what was said before, but no routes without answers", () => {
    const before = [turn({ asked: "a", text: "b", state: "done" }), turn({ asked: "c", state: "route" })];
    expect(bodyOf("d", START, before)).toEqual({
      model: "auto",
      messages: [
        { role: "user", content: "a" },
        { role: "assistant", content: "b" },
        { role: "user", content: "d" },
      ],
      coe: { explain: true },
    });
  });

  it("asks for several experts with auto alone", () => {
    const own = { ...START, k: 3, aggregator: "vote", maxTokens: 20, temperature: 0 };
    expect(bodyOf("d", own, [])).toMatchObject({ coe: { explain: true, k: 3, aggregator: "vote" }, max_tokens: 20, temperature: 0 });
    expect(bodyOf("d", { ...own, model: "sql" }, []).coe).toEqual({ explain: true });
  });
});

describe("heard", () => {
  it("grows by the words and ends with a reason", () => {
    const own = turn();
    heard(own, { id: "chatcmpl-1", choices: [{ delta: { content: "" } }] });
    expect([own.state, own.first]).toEqual(["waiting", null]);
    heard(own, { choices: [{ delta: { content: "a " } }] });
    heard(own, { choices: [{ delta: { content: "b" }, finish_reason: "stop" }] });
    expect([own.text, own.state, own.finish, own.answerId]).toEqual(["a b", "streaming", "stop", "chatcmpl-1"]);
  });

  it("fails with what the service says", () => {
    const own = turn({ text: "half", state: "streaming" });
    heard(own, { error: { message: "the engine went down" } });
    expect([own.state, (own.error as Error).message, own.text]).toEqual(["failed", "the engine went down", "half"]);
  });
});

describe("with another key", () => {
  const nothing = [[], null, START, ""];
  const kept = () => [turns.get(), selected.get(), options.get(), draftPrompt.get()];

  beforeEach(() => {
    signIn("coe-first");
    turns.set([turn({ text: "an answer", state: "done" })]);
    selected.set(1);
    options.set({ ...START, system: "be brief" });
    draftPrompt.set("not yet sent");
  });

  it("nothing is left of what was said with the last one", () => {
    signOut();
    expect(kept()).toEqual(nothing);
  });

  it("nothing is left where the service refused the last one", async () => {
    const asked = requests();
    const asking = ask("one more");
    expect(asked[0]?.body).toMatchObject({ messages: [{ content: "be brief" }, {}, {}, { content: "one more" }] });
    asked[0]?.answer({ error: { code: "invalid_api_key", message: "The key was revoked." } }, 401);
    await asking;
    expect([apiKey.get(), signedOut.get()]).toEqual([null, "The key was revoked."]);
    expect(kept()).toEqual(nothing);
  });

  it("what is still being asked is called off", async () => {
    const asked = requests();
    const asking = ask("one more");
    signOut();
    await asking;
    expect(asked[0]?.signal?.aborted).toBe(true);
    signIn("coe-second");
    expect(kept()).toEqual(nothing);
  });
});

describe("a route alone", () => {
  const COE = { expert: null, experts: ["sql"], reason: "sql is the best for data" } as Coe;
  const states = () => turns.get().map((each) => [each.state, underWay(each)]);

  beforeEach(forget);

  it("is under way until it is there", async () => {
    const asked = requests();
    const deciding = decide("a join");
    expect(states()).toEqual([["deciding", true]]);
    expect(spoken.get()).toBe("Choosing an expert");
    asked[0]?.answer(COE);
    await deciding;
    expect(states()).toEqual([["route", false]]);
    expect(spoken.get()).toBe("Routed: sql is the best for data");
  });

  it("can be stopped", async () => {
    requests();
    const deciding = decide("a join");
    stop(turns.get()[0]?.id ?? -1);
    await deciding;
    expect(states()).toEqual([["stopped", false]]);
  });

  it("says what went wrong", async () => {
    const asked = requests();
    const deciding = decide("a join");
    asked[0]?.answer({ error: { code: "no_expert", message: "No expert may be used." } }, 403);
    await deciding;
    expect(turns.get()[0]).toMatchObject({ state: "failed", error: { message: "No expert may be used." }, coe: null });
  });

  it("of a conversation that was ended comes to nothing", async () => {
    requests();
    const deciding = decide("a join");
    forget();
    await deciding;
    expect([turns.get(), spoken.get()]).toEqual([[], ""]);
  });
});

describe("what is said of a turn", () => {
  const coe = { expert: "sql", experts: ["sql"] } as Coe;

  it("is who answers, once, while the words come", () => {
    const heardOf = (text: string) => spokenOf(turn({ text, coe, state: "streaming" }));
    expect([heardOf("SELECT"), heardOf("SELECT name")]).toEqual(["sql answers", "sql answers"]);
  });

  it("is the answer in the end, and of a long one where it begins", () => {
    expect(spokenOf(turn({ text: "SELECT 1", coe, state: "done" }))).toBe("sql has answered: SELECT 1");
    expect(spokenOf(turn({ text: "x".repeat(5000), coe, state: "done" })).length).toBeLessThan(400);
  });

  it("is nothing of an error, which is an alert of its own", () => {
    expect(spokenOf(turn({ state: "failed", error: new Error("no") }))).toBe("");
  });
});

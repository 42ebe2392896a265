import { describe, expect, it } from "vitest";
import { bodyOf, heard, START, type Turn } from "../src/talk";

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

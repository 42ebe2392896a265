import { afterEach, describe, expect, it, vi } from "vitest";
import { AWAY, Problem, read } from "../src/api";

describe("the key of the tab", () => {
  afterEach(() => vi.unstubAllGlobals());

  it("is used, and forgotten with the page, where a browser keeps nothing", async () => {
    const blocked = () => {
      throw new DOMException("storage is blocked", "SecurityError");
    };
    vi.stubGlobal("sessionStorage", { getItem: blocked, setItem: blocked, removeItem: blocked });
    vi.resetModules();
    const { apiKey, signIn, signOut } = await import("../src/api");
    expect(apiKey.get()).toBe(null);
    signIn("coe-one");
    expect(apiKey.get()).toBe("coe-one");
    signOut();
    expect(apiKey.get()).toBe(null);
  });
});

describe("an answer that breaks off", () => {
  it("is told as a service that is away, not in the browser's own words", async () => {
    const body = new ReadableStream({
      start(stream) {
        stream.enqueue(new TextEncoder().encode("data: one\n\n"));
        setTimeout(() => stream.error(new TypeError("network error")));
      },
    });
    const heard: string[] = [];
    const all = async () => {
      for await (const events of read(new Response(body))) heard.push(...events.map(({ data }) => data));
    };
    const problem = await all().catch((error: unknown) => error);
    expect(heard).toEqual(["one"]);
    expect(problem).toBeInstanceOf(Problem);
    expect((problem as Problem).message).toBe(AWAY);
  });
});

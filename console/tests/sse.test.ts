import { describe, expect, it } from "vitest";
import { eventsOf, SseParser } from "../src/sse";

describe("SseParser", () => {
  it("gives an event once its empty line is there, however it is cut", () => {
    const whole = "id: a.1\nevent: swap\ndata: {\"x\":1}\n\n: keep-alive\n\ndata: two\ndata: lines\n\n";
    for (let cut = 1; cut < whole.length; cut += 1) {
      const parser = new SseParser();
      expect([...parser.push(whole.slice(0, cut)), ...parser.push(whole.slice(cut))]).toEqual([
        { id: "a.1", kind: "swap", data: '{"x":1}' },
        { id: "a.1", kind: "message", data: "two\nlines" },
      ]);
    }
  });

  it("takes comments and retry lines for no events", () => {
    expect(new SseParser().push("retry: 1000\n\n: hello\n\n")).toEqual([]);
  });

  it("leaves what is not complete", () => {
    expect(new SseParser().push("data: half")).toEqual([]);
  });

  it("keeps one space only away from the data", () => {
    expect(new SseParser().push("data:  a\n\n")[0]?.data).toBe(" a");
  });
});

describe("eventsOf", () => {
  it("reads characters that are cut between chunks", async () => {
    const bytes = new TextEncoder().encode("data: naïve 🌍\n\n");
    const body = new ReadableStream({
      start(controller) {
        for (const byte of bytes) controller.enqueue(new Uint8Array([byte]));
        controller.close();
      },
    });
    let heard = 0;
    const found = [];
    for await (const events of eventsOf(new Response(body), () => (heard += 1))) found.push(...events);
    expect(found.map((event) => event.data)).toEqual(["naïve 🌍"]);
    expect(heard).toBeGreaterThan(1);
  });
});

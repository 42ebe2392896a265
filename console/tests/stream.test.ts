import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { apiKey, AWAY } from "../src/api";
import { live, returned, status, swapsOf } from "../src/live";
import { follow, HIDDEN_MS } from "../src/stream";

/** A page that can be hidden, which has no frames then; and a service whose streams the test writes. */
class Page extends EventTarget {
  hidden = false;
  frames: ((now: number) => void)[] = [];

  show(visible: boolean): void {
    this.hidden = !visible;
    this.dispatchEvent(new Event("visibilitychange"));
    if (visible) this.draw();
  }

  draw(): void {
    for (const frame of this.frames.splice(0)) frame(performance.now());
  }
}

interface Asked {
  path: string;
  last: string | null;
  signal: AbortSignal;
  write: (kind: string, data: unknown, id?: string) => void;
  end: () => void;
}

let page: Page;
let asked: Asked[];
let refusal: Response | null;
let isLogAway: boolean;
const streams = () => asked.filter(({ path }) => path === "/v1/events");
const settle = () => vi.advanceTimersByTimeAsync(200);

// One clock for all: the page's never goes back either.
beforeAll(() => void vi.useFakeTimers({ now: 1_000_000_000, toFake: ["setTimeout", "clearTimeout", "Date", "performance"] }));
afterAll(() => void vi.useRealTimers());

beforeEach(() => {
  [page, asked, refusal, isLogAway] = [new Page(), [], null, false];
  vi.stubGlobal("document", page);
  vi.stubGlobal("requestAnimationFrame", (frame: (now: number) => void) => page.frames.push(frame));
  vi.stubGlobal("fetch", async (path: string, options: RequestInit) => {
    const signal = options.signal as AbortSignal;
    const last = new Headers(options.headers).get("last-event-id");
    let to!: ReadableStreamDefaultController<Uint8Array>;
    const body = new ReadableStream<Uint8Array>({ start: (controller) => void (to = controller) });
    const write = (kind: string, data: unknown, id?: string) =>
      to.enqueue(new TextEncoder().encode(`${id ? `id: ${id}\n` : ""}event: ${kind}\ndata: ${JSON.stringify(data)}\n\n`));
    signal.addEventListener("abort", () => to.error(new DOMException("stopped", "AbortError")));
    asked.push({ path, last, signal, write, end: () => to.close() });
    if (path === "/v1/swaps" && isLogAway) return Response.json({ error: { code: "overloaded", message: "no" } }, { status: 503 });
    if (path === "/v1/swaps") return Response.json({ data: [{ family: "small", number: asked.length, at: asked.length, kind: "swap" }] });
    return refusal ?? new Response(body);
  });
  apiKey.set("coe-key");
});

afterEach(async () => {
  apiKey.set(null);
  follow();
  await settle();
  page.draw();
  vi.unstubAllGlobals();
});

describe("follow", () => {
  it("gives the connection back when the page is long hidden, and goes on where it was when it is shown", async () => {
    follow();
    await settle();
    const [first] = streams();
    first?.write("hello", { at: 1_000_000, epoch: "a" }, "a.7");
    await settle();
    page.show(false);
    await vi.advanceTimersByTimeAsync(HIDDEN_MS - 1000);
    expect(first?.signal.aborted).toBe(false);
    await vi.advanceTimersByTimeAsync(2000);
    expect(first?.signal.aborted).toBe(true);
    await vi.advanceTimersByTimeAsync(100 * HIDDEN_MS);
    expect(streams().length).toBe(1);
    const before = returned.get();
    page.show(true);
    await settle();
    expect(streams().map(({ last }) => last)).toEqual([null, "a.7"]);
    expect([status.get(), returned.get()]).toEqual([{ is: "live" }, before + 1]);
  });

  it("keeps the connection of a page that is hidden but for a moment", async () => {
    follow();
    await settle();
    page.show(false);
    await vi.advanceTimersByTimeAsync(1000);
    page.show(true);
    for (let n = 0; n < 4; n += 1) {
      await vi.advanceTimersByTimeAsync(HIDDEN_MS / 2);
      streams()[0]?.write("engine", { family: "small", running: n });
    }
    expect(streams().length).toBe(1);
    expect(status.get()).toEqual({ is: "live" });
  });

  it("stamps what comes to a hidden page when it comes", async () => {
    follow();
    await settle();
    page.show(false);
    const came = Date.now() / 1000;
    streams()[0]?.write("hello", { at: came, epoch: "a" }, "a.0");
    streams()[0]?.write("engine", { family: "small", queued: { sql: 1 } });
    await vi.advanceTimersByTimeAsync(1_800_000);
    expect(live.engines.size).toBe(0);
    page.show(true);
    expect(live.ahead).toBeCloseTo(0);
    expect(live.samples.get("small")?.[0]?.at).toBeCloseTo(came);
  });

  it("says why the service refuses", async () => {
    refusal = Response.json({ error: { code: "overloaded", message: "8 streams are open" } }, { status: 429 });
    follow();
    await settle();
    expect(status.get()).toEqual({ is: "refused", why: "8 streams are open" });
  });

  it("says why the service ended it", async () => {
    follow();
    await settle();
    streams()[0]?.write("end", { why: "the service stops" });
    streams()[0]?.end();
    await settle();
    expect(status.get()).toEqual({ is: "away", why: "the service stops" });
  });

  it("reads the engines' logs at first, and again after a gap, however many gaps there are", async () => {
    follow();
    await settle();
    const read = () => asked.filter(({ path }) => path === "/v1/swaps").length;
    expect(read()).toBe(1);
    for (let n = 0; n < 20; n += 1) {
      streams()[0]?.write("lost", { swaps: null });
      await settle();
    }
    await vi.advanceTimersByTimeAsync(10_000);
    expect(read()).toBe(2);
    expect(swapsOf(live, "small").length).toBe(2);
  });

  it("reads the engines' logs until it has them: till then nobody knows whether something has happened", async () => {
    isLogAway = true;
    follow();
    await settle();
    expect(live.past).toBe(false);
    isLogAway = false;
    await vi.advanceTimersByTimeAsync(6000);
    expect([live.past, swapsOf(live, "small").length]).toEqual([true, 1]);
  });

  it("explains a connection on which nothing comes any more in its own words", async () => {
    follow();
    await settle();
    await vi.advanceTimersByTimeAsync(45_000);
    expect(status.get()).toEqual({ is: "away", why: AWAY });
  });
});

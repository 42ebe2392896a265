import { describe, expect, it } from "vitest";
import { emptyLive, learn } from "../src/live";
import type { Batch, Progress } from "../src/types";
import { rowsOf, startBatch } from "../src/views/batches";
import { requests, settled } from "./answers";

const FILE = new File(["{}"], "requests.jsonl");

describe("startBatch", () => {
  it("uploads the file and starts a batch of it", async () => {
    const asked = requests();
    const started = startBatch(FILE, "/v1/embeddings", true, new AbortController().signal);
    expect((asked[0]?.body as FormData).get("purpose")).toBe("batch");
    asked[0]?.answer({ id: "file-1" });
    await settled();
    expect(asked[1]).toMatchObject({
      path: "/v1/batches",
      body: { input_file_id: "file-1", endpoint: "/v1/embeddings", coe: { dry_run: true } },
    });
    asked[1]?.answer({ id: "batch-1" });
    expect(await started).toBe("batch-1");
  });

  it("starts none once it was called off, however far the upload was", async () => {
    for (const uploaded of [false, true]) {
      const asked = requests();
      const left = new AbortController();
      const started = startBatch(FILE, "/v1/embeddings", false, left.signal);
      if (uploaded) asked[0]?.answer({ id: "file-1" });
      left.abort();
      await expect(started).rejects.toThrow();
      expect(asked.map(({ path }) => path)).toEqual(["/v1/files"]);
    }
  });
});

describe("rowsOf", () => {
  const one = (id: string, created_at: number, status: string) => ({
    id,
    endpoint: "/v1/chat/completions",
    status,
    created_at,
    request_counts: { total: 4, completed: 0, failed: 0 },
  });
  const listed = (...own: Parameters<typeof one>) => ({ ...one(...own), coe: { dry_run: false, plan: null } }) as unknown as Batch;
  const told = (...all: Parameters<typeof one>[]) =>
    new Map<string, Progress>(all.map((own) => [own[0], { ...one(...own), steps: { total: 0, done: 0 } }]));
  const heard = { newest: true, hears: true };
  const shown = (...from: Parameters<typeof rowsOf>) => rowsOf(...from).map(({ id, status }) => `${id} ${status}`);

  it("is the list, as the stream has told of it since", () => {
    const list = { data: [listed("b", 2, "in_progress"), listed("a", 1, "in_progress")] };
    expect(shown(list, told(["a", 1, "completed"]), heard)).toEqual(["b in_progress", "a completed"]);
  });

  it("is the list alone while no stream is heard, which may have ended before", () => {
    const list = { data: [listed("a", 1, "finalizing")] };
    expect(shown(list, told(["a", 1, "in_progress"]), { newest: true, hears: false })).toEqual(["a finalizing"]);
  });

  it("lets nothing that has ended begin again", () => {
    expect(shown({ data: [listed("a", 1, "completed")] }, told(["a", 1, "in_progress"]), heard)).toEqual(["a completed"]);
  });

  it("is the list where newer ones have pushed a batch out of the stream, which said last how it was long ago", () => {
    const live = emptyLive();
    const batch = { ...one("a", 1, "validating"), steps: { total: 0, done: 0 } };
    learn(live, [{ kind: "batches", data: { ids: ["a"] }, at: 1 }, { kind: "batch", data: batch, at: 1 }]);
    const list = { data: [listed("b", 2, "in_progress"), listed("a", 1, "in_progress")] };
    expect(shown(list, live.batches, heard)).toEqual(["b in_progress", "a validating"]);
    learn(live, [{ kind: "batches", data: { ids: ["b"] }, at: 2 }]);
    expect(shown(list, live.batches, heard)).toEqual(["b in_progress", "a in_progress"]);
  });

  it("has what began since on the newest page, and what is older on its own", () => {
    const list = { data: [listed("b", 2, "completed")], has_more: true };
    const stream = told(["c", 3, "validating"], ["a", 1, "completed"]);
    expect(shown(list, stream, heard)).toEqual(["c validating", "b completed"]);
    expect(shown(list, stream, { newest: false, hears: true })).toEqual(["b completed"]);
  });
});

import { describe, expect, it } from "vitest";
import { startBatch } from "../src/views/batches";
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

import { beforeEach, describe, expect, it, onTestFinished, vi } from "vitest";
import { learn, learnHistory, live, reset, status } from "../src/live";
import { Table } from "../src/parts/table";
import { Dialog } from "../src/parts/ui";
import { Batches } from "../src/views/batches";
import { Decisions } from "../src/views/decisions";
import { Experts } from "../src/views/experts";
import { Keys } from "../src/views/keys";
import { Timeline } from "../src/views/timeline";
import { type Asked, requests } from "./answers";
import { focused, page, type Part, seen } from "./page";

const batch = (id: string, status: string) => ({
  id,
  endpoint: "/v1/chat/completions",
  status,
  created_at: 1000,
  request_counts: { total: 4, completed: 1, failed: 0 },
  usage: { input_tokens: 1, output_tokens: 1, total_tokens: 2 },
  coe: { dry_run: false, plan: null },
});

describe("a batch beside the list", () => {
  let asked: Asked[];
  let root: Part;

  async function answered(path: string, body: unknown, status = 200): Promise<void> {
    asked.filter((each) => each.path === path).at(-1)?.answer(body, status);
    await seen();
  }
  const choose = async (id: string) => {
    root.one("button", id).focus();
    await root.one("button", id).does("click");
    await seen();
  };
  const detail = (id: string) => root.one("section", `Batch ${id}`);

  beforeEach(async () => {
    asked = requests();
    [root] = await page(() => <Batches />);
    await answered("/v1/batches?limit=50", { data: [batch("batch_a", "in_progress"), batch("batch_b", "completed")] });
    await choose("batch_a");
    await answered("/v1/batches/batch_a", batch("batch_a", "in_progress"));
  });

  it("has nothing of another one that was shown before, nor its actions", async () => {
    expect(detail("batch_a").text).toContain("Cancel batch");
    await choose("batch_b");
    expect(detail("batch_b").text).not.toContain("Cancel batch");
    await answered("/v1/batches/batch_b", { error: { code: "not_found", message: "It is gone." } }, 404);
    expect(detail("batch_b").text).toContain("It is gone.");
    expect(detail("batch_b").text).not.toContain("Cancel batch");
  });

  it("is asked for again while it is under way, though of others alone the stream tells, and no more once it has ended", async () => {
    onTestFinished(() => status.set({ is: "off" }));
    const timers = vi.spyOn(globalThis, "setTimeout");
    const due = () => timers.mock.calls.filter(([, ms]) => ms === 5000).map(([run]) => run as () => void);
    status.set({ is: "live" });
    await choose("batch_b");
    await choose("batch_a");
    await answered("/v1/batches/batch_a", batch("batch_a", "in_progress"));
    expect(due().length).toBe(1);
    due()[0]?.();
    await answered("/v1/batches/batch_a", batch("batch_a", "completed"));
    expect(detail("batch_a").text).toContain("completed");
    expect(due().length).toBe(1);
    timers.mockRestore();
  });

  it("fetches answers once, however often that is pressed meanwhile", async () => {
    await choose("batch_b");
    await answered("/v1/batches/batch_b", { ...batch("batch_b", "completed"), output_file_id: "file-1" });
    const button = () => detail("batch_b").all("button").find(({ text }) => /answers|Loading/.test(text)) as Part;
    const fetched = () => asked.filter(({ path }) => path === "/v1/files/file-1/content").length;
    for (let n = 0; n < 2; n += 1) {
      await button().does("click");
      await seen();
    }
    expect([button().text.trim(), fetched()]).toEqual(["Loading", 1]);
    await answered("/v1/files/file-1/content", { error: { code: "not_found", message: "It is gone." } }, 404);
    expect([button().text.trim(), detail("batch_b").text.includes("It is gone.")]).toEqual(["answers", true]);
  });

  it("takes the focus, which goes back to its row in the end", async () => {
    expect(focused()?.attributes.get("aria-label")).toBe("Batch batch_a");
    const close = detail("batch_a").one("button", "Close");
    close.focus();
    await close.does("click");
    await seen();
    expect([focused()?.localName, focused()?.text]).toEqual(["button", "batch_a"]);
  });
});

describe("a table", () => {
  it("leaves the focus where it is when a row comes before", async () => {
    let rows = ["b", "c"];
    const columns = [{ title: "Name", cell: (row: string) => row }];
    const picking = { chosen: "b", choose: vi.fn() };
    const [root, draw] = await page(() => <Table label="Names" rows={rows} columns={columns} idOf={(row) => row} picking={picking} />);
    const own = root.one("button", "b");
    own.focus();
    rows = ["a", "b", "c"];
    await draw();
    expect(root.one("button", "b")).toBe(own);
    expect(focused()).toBe(own);
  });
});

describe("a list by pages", () => {
  it("goes to older ones and back, also from a page that has nothing any more", async () => {
    const asked = requests();
    const [root] = await page(() => <Batches />);
    const answered = async (path: string, body: unknown) => {
      asked.filter((each) => each.path === path).at(-1)?.answer(body);
      await seen();
    };
    const press = async (name: string) => {
      await root.one("button", name).does("click");
      await seen();
    };
    const newest = { data: [batch("batch_b", "completed")], has_more: true, last_id: "batch_b" };
    await answered("/v1/batches?limit=50", newest);
    expect(root.one("section", "Batches").text).toContain("the newest");
    await root.one("button", "Older").does("click");
    await press("Older"); // once more before the answer is there
    await answered("/v1/batches?limit=50&after=batch_b", { data: [], has_more: false });
    expect(root.text).not.toContain("batch_b");
    await press("Newer");
    await answered("/v1/batches?limit=50", newest);
    expect(root.one("section", "Batches").text).toContain("batch_b");
  });
});

describe("the filters of decisions", () => {
  it("keep what is being typed while newer decisions come", async () => {
    const asked = requests();
    const [root, draw] = await page(() => <Decisions />);
    const written = root.one("input", "Only of this expert");
    written.value = "sq";
    asked[0]?.answer({ data: [] });
    await seen();
    await draw();
    expect(written.value).toBe("sq");
    await written.does("change");
    await seen();
    expect(asked.at(-1)?.path).toBe("/v1/routes?limit=50&expert=sq");
  });
});

describe("decisions", () => {
  const row = { id: "req-1", created: 1000, model: "auto", outcome: "ok", expert: "sql", experts: ["sql"], category: null, aggregator: "single" };

  it("are named by their expert too, not by a time that many share", async () => {
    const asked = requests();
    const [root] = await page(() => <Decisions />);
    asked[0]?.answer({ data: [row] });
    await seen();
    const button = root.all("button").find(({ text }) => text.endsWith("ago"));
    expect(button?.attributes.get("aria-label")).toBe(`${button?.text}, sql`);
  });

  it("of which older ones were not looked at are not said to be none", async () => {
    const asked = requests();
    const [root] = await page(() => <Decisions />);
    await root.one("input", "Only of this expert").does("change", { currentTarget: { value: "poet" } });
    await seen();
    asked.at(-1)?.answer({ data: [], has_more: true, last_id: "req-9" });
    await seen();
    expect(root.text).toContain("None among those looked at");
  });
});

describe("the experts", () => {
  const expert = { name: "sql", kind: "weights", family: "small", tier: null, circuit: null, active: false, queued: 0, description: "Queries" };

  it("are as the stream tells, and as they were asked for while it is not heard", async () => {
    onTestFinished(() => {
      status.set({ is: "off" });
      reset();
    });
    status.set({ is: "live" });
    learn(live, [
      { kind: "hello", data: { at: 0, epoch: "a" }, at: 0 },
      { kind: "engine", data: { family: "small", tiers: { sql: "device" }, active: "sql" }, at: 0 },
    ]);
    const asked = requests();
    const [root, draw] = await page(() => <Experts />);
    const table = () => root.one("section", "Experts").text;
    asked.find(({ path }) => path === "/v1/experts")?.answer({ data: [{ ...expert, state: "starting", why: "its worker does not run" }] });
    await seen();
    asked.find(({ path }) => path === "/v1/models")?.answer({ data: [{ id: "sql", coe: { kind: "weights", parameters: 7e9, price: { input: 0.4, output: 1.2 } } }] });
    await seen();
    expect(root.one("section", "Experts").one("span", "parameters").text).toContain("small, 7B parameters, $ 0.4 / 1.2 per M tokens");
    expect(table()).toContain("has the turn");
    status.set({ is: "away", why: "" });
    await draw();
    expect(table()).toContain("its worker does not run");
    status.set({ is: "live" });
    learn(live, [{ kind: "hello", data: { at: 0, epoch: "a" }, at: 0 }]); // of the engine nothing is told yet
    await draw();
    expect(table()).toContain("its worker does not run");
  });
});

describe("a key among all", () => {
  const key = (id: string, more: object = {}) => ({
    ...{ id, name: `${id}'s`, prefix: "coe-1", created: 1000, expires: null, enabled: true, state: "active", priority: "normal" },
    ...{ experts: "all", ensembles: "all", admin: false, limits: {}, usage: {}, ...more },
  });

  it("opens into all that it may do and has used, until it is gone", async () => {
    const asked = requests();
    const [root] = await page(() => <Keys />);
    asked[0]?.answer(key("own", { admin: true }));
    await seen();
    asked[1]?.answer({ data: [key("other", { experts: ["sql", "poet"] })] });
    await seen();
    await root.one("button", "other's").does("click");
    await seen();
    const opened = () => root.one("dl", "Experts").parentNode?.text;
    expect(opened()).toMatch(/Expertssql, poet.*Endsnever.*Loading usage/);
    asked.at(-1)?.answer({ error: { code: "key_not_found", message: "there is no such key" } }, 404);
    await seen();
    expect(opened()).toContain("there is no such key");
    expect(opened()).not.toContain("Loading usage");
  });
});

describe("a form that was sent", () => {
  it("is not sent again before the answer, and its button keeps the focus", async () => {
    const asked = requests();
    const [root] = await page(() => <Keys />);
    asked[0]?.answer({ id: "own", name: "own", prefix: "coe-1", created: 1, experts: "all", admin: true, priority: "normal", usage: {} });
    await seen();
    await root.one("button", "New key").does("click");
    await seen();
    const form = root.one("dialog", "New key").one("form", "New key");
    const button = form.one("button", "Make key");
    const sent = () => asked.filter(({ body }) => body !== undefined);
    for (let n = 0; n < 2; n += 1) {
      await form.does("submit");
      await seen();
    }
    expect(sent().length).toBe(1);
    expect([button.attributes.has("disabled"), button.attributes.get("aria-disabled")]).toEqual([false, "true"]);
    sent()[0]?.answer({ error: { code: "invalid_value", message: "That is no name." } }, 400);
    await seen();
    expect([form.text.includes("That is no name."), button.attributes.get("aria-disabled")]).toEqual([true, "false"]);
  });
});

describe("the event log", () => {
  it("says that nothing has happened only when that is known", async () => {
    onTestFinished(reset);
    reset();
    const [root, draw] = await page(() => <Timeline />);
    expect(root.one("section", "Event log").text).toContain("The log is not there yet");
    learnHistory(live, []);
    await draw();
    expect(root.one("section", "Event log").text).toContain("Nothing has happened yet");
  });
});

describe("a dialog", () => {
  it("gives the focus back however it goes, and closes no other one that comes after it", async () => {
    let shown = "";
    const close = vi.fn();
    const [root, draw] = await page(() => [
      <button type="button">opens it</button>,
      shown === "first" ? <Dialog key="first" close={close} label="The first" children="" /> : null,
      shown === "second" ? <Dialog key="second" close={close} label="The second" children="" /> : null,
    ]);
    const opener = root.one("button", "opens it");
    opener.focus();
    shown = "first";
    await draw();
    expect(focused()?.attributes.get("aria-label")).toBe("The first");
    shown = "second";
    await draw();
    expect(focused()?.attributes.get("aria-label")).toBe("The second");
    shown = "";
    await draw();
    expect([focused()?.localName, focused()?.text]).toEqual(["button", "opens it"]);
    expect(close).not.toHaveBeenCalled();
  });
});

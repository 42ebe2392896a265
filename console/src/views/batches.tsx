// Batches: how far they are, what they take, and what came of them.

import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { call, get, send } from "../api";
import * as format from "../format";
import { isUnderWay, live, shown, status } from "../live";
import { Icon } from "../parts/icons";
import { Detail, Listing, usePages } from "../parts/listing";
import type { Column } from "../parts/table";
import { Dialog, Empty, Expert, Failure, Meter, Passing, Tag, type Tone, useLoaded } from "../parts/ui";
import { useStore } from "../store";
import type { Batch, List, Plan, Progress } from "../types";

const TONE: Record<string, Tone> = { completed: "ok", failed: "bad", expired: "bad", cancelled: "warn", cancelling: "warn" };
/** The stream tells of the newest batches alone, and of none while it is away: the list is asked for again. */
const AGAIN_MS = { heard: 20_000, unheard: 5000 };

export function Batches(): JSX.Element {
  useStore(shown);
  const hears = useStore(status).is === "live";
  const pages = usePages();
  const list = useLoaded(
    (signal) => get<List<Batch>>(`/v1/batches?${pages.query}`, signal),
    [pages.number],
    hears ? AGAIN_MS.heard : AGAIN_MS.unheard,
  );
  const [chosen, choose] = useState<string | null>(null);
  const [making, make] = useState(false);
  const off = list.error && (list.error as { status?: number }).status === 404;
  return (
    <div class="page">
      <div class="page-head">
        <h1 class="grow">Batches</h1>
        {off ? null : (
          <button type="button" class="button primary" onClick={() => make(true)}>
            <Icon name="plus" /> New batch
          </button>
        )}
      </div>
      {off ? (
        <Empty title="This service runs no batches">
          <p>
            They are switched off in its configuration, by <code>batch.enabled</code>.
          </p>
        </Empty>
      ) : (
        <Listing
          name="Batches"
          list={list}
          pages={pages}
          rows={rowsOf(list.value, live.batches, { newest: pages.number === 1, hears })}
          columns={COLUMNS}
          picking={{ chosen, choose }}
          empty={
            <Empty title="No batches yet">
              <p>
                A batch is a file of many requests, a JSON object a line, that run when there is room. Lines for one expert run
                together, so each expert is loaded as seldom as can be.
              </p>
            </Empty>
          }
          detail={(id) => <BatchDetail key={id} id={id} close={() => choose(null)} />}
        />
      )}
      {making ? (
        <NewBatch
          close={() => make(false)}
          made={(id) => {
            make(false);
            choose(id);
            pages.newest();
            list.again();
          }}
        />
      ) : null}
    </div>
  );
}

const COLUMNS: Column<Progress>[] = [
  { title: "Batch", cell: ({ id }) => <span class="mono">{id.slice(0, 18)}</span>, sub: ({ endpoint }) => endpoint },
  { title: "Status", cell: (batch) => <Status batch={batch} /> },
  {
    title: "Progress",
    class: "progress",
    cell: (batch) => <Meter share={shareOf(batch)} label={`Progress of ${batch.id}`} />,
    sub: (batch) => format.percent(shareOf(batch)),
  },
  {
    title: "Lines",
    class: "num wide",
    cell: ({ request_counts: { completed, total } }) => `${completed} of ${total}`,
    sub: ({ request_counts: { failed } }) => (failed ? `${failed} failed` : null),
  },
  { title: "Made", class: "num wide muted", cell: (batch) => format.ago(batch.created_at) },
];

/**
 * What a page shows: batches as they were listed, or, while the stream is heard, as it has told since. What has ended stays
 * so. The newest page has also those that the stream knows and the list does not yet.
 */
export function rowsOf(
  list: List<Batch> | null,
  told: ReadonlyMap<string, Progress>,
  { newest, hears }: { newest: boolean; hears: boolean },
): Progress[] {
  const listed = list?.data ?? [];
  const rows = listed.map((batch) => (hears && isUnderWay(batch) ? told.get(batch.id) : undefined) ?? withSteps(batch));
  if (newest) {
    const ids = new Set(listed.map(({ id }) => id));
    const oldest = list?.has_more ? Math.min(...listed.map((batch) => batch.created_at)) : -Infinity;
    rows.push(...[...told.values()].filter((batch) => !ids.has(batch.id) && batch.created_at >= oldest));
  }
  return rows.sort((a, b) => b.created_at - a.created_at);
}

function withSteps(batch: Progress | Batch): Progress {
  if ("steps" in batch) return batch;
  const groups = batch.coe.plan?.groups ?? [];
  const sum = (of: "steps" | "done") => groups.reduce((all, group) => all + group[of], 0);
  return { ...batch, steps: { total: sum("steps"), done: sum("done") } };
}

/** Of the lines; of the plan's steps while no line has ended. */
function shareOf(batch: Progress): number {
  if (batch.status === "completed") return 1;
  const { total, completed, failed } = batch.request_counts;
  const lines = total ? (completed + failed) / total : 0;
  return lines || (batch.steps.total ? batch.steps.done / batch.steps.total : 0);
}

const Status = ({ batch }: { batch: Pick<Progress, "status"> }): JSX.Element => (
  <Tag tone={TONE[batch.status] ?? "accent"}>
    {isUnderWay(batch) ? <span class="spin" style={{ width: "10px", height: "10px" }} /> : null}
    {format.words(batch.status)}
  </Tag>
);

function BatchDetail({ id, close }: { id: string; close: () => void }): JSX.Element {
  const hears = useStore(status).is === "live";
  const told = live.batches.get(id);
  const loaded = useLoaded(
    (signal) => get<Batch>(`/v1/batches/${encodeURIComponent(id)}`, signal),
    [id, told?.status, told?.steps.done],
    hears && told ? 0 : AGAIN_MS.unheard,
    (batch) => !isUnderWay(batch),
  );
  const [problem, setProblem] = useState<unknown>(null);
  const cancel = () => {
    send("POST", `/v1/batches/${encodeURIComponent(id)}/cancel`).then(loaded.again, setProblem);
  };
  const title = (
    <>
      <h2 class="grow mono">{id.slice(0, 18)}</h2>
      {loaded.value ? <Status batch={loaded.value} /> : null}
    </>
  );
  return (
    <Detail label={`Batch ${id}`} title={title} loaded={loaded} close={close}>
      {(value) => (
        <>
          {problem ? <Failure error={problem} /> : null}
          <Facts batch={value} />
          {value.errors?.data.map((one, index) => (
            <p key={index} class="small">
              {one.line ? `Line ${one.line}: ` : ""}
              {one.message}
            </p>
          ))}
          {value.coe.plan ? <Groups groups={value.coe.plan.groups} /> : null}
          <div class="row wrap">
            {value.output_file_id ? <Download id={value.output_file_id} name="answers" /> : null}
            {value.error_file_id ? <Download id={value.error_file_id} name="errors" /> : null}
            {value.status === "validating" || value.status === "in_progress" ? (
              <Passing class="danger" press={cancel}>
                Cancel batch
              </Passing>
            ) : null}
          </div>
        </>
      )}
    </Detail>
  );
}

function Facts({ batch }: { batch: Batch }): JSX.Element {
  const plan = batch.coe.plan;
  return (
    <dl class="facts">
      <dt>Path</dt>
      <dd>{batch.endpoint}</dd>
      <dt>Made</dt>
      <dd>{format.day(batch.created_at)}</dd>
      <dt>Lines</dt>
      <dd>
        {batch.request_counts.completed} of {batch.request_counts.total} done, {batch.request_counts.failed} failed
      </dd>
      <dt>Tokens</dt>
      <dd>
        {format.count(batch.usage.input_tokens)} + {format.count(batch.usage.output_tokens)}
      </dd>
      {plan ? (
        <>
          <dt>Plan</dt>
          <dd>
            {format.counted(plan.distinct_experts, "expert")}, {format.counted(plan.loads, "load")}
            {plan.seconds_left ? `, ${format.seconds(plan.seconds_left)} left` : ""}
          </dd>
        </>
      ) : null}
    </dl>
  );
}

const Groups = ({ groups }: { groups: Plan["groups"] }): JSX.Element => (
  <div class="stack tight">
    <h3>By expert</h3>
    {groups.map((group, index) => (
      <div key={index}>
        <div class="row small">
          <span class="grow">{group.expert ? <Expert name={group.expert} /> : <span class="muted">nobody</span>}</span>
          <span class="num">
            {group.done} of {group.steps}
          </span>
        </div>
        <Meter share={group.steps ? group.done / group.steps : 0} label={`${group.expert ?? "nobody"}: ${group.done} of ${group.steps}`} />
      </div>
    ))}
  </div>
);

function Download({ id, name }: { id: string; name: string }): JSX.Element {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<unknown>(null);
  const fetchIt = async () => {
    if (busy) return;
    setBusy(true);
    setProblem(null);
    try {
      const content = await (await call(`/v1/files/${encodeURIComponent(id)}/content`)).blob();
      const link = document.createElement("a");
      link.href = URL.createObjectURL(content);
      link.download = `${id}.jsonl`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    } catch (error) {
      setProblem(error);
    }
    setBusy(false);
  };
  return (
    <>
      <button type="button" class="button" aria-disabled={busy} onClick={fetchIt}>
        <Icon name="download" /> {busy ? "Loading" : name}
      </button>
      {problem ? <Failure error={problem} /> : null}
    </>
  );
}

/** Uploads the file and starts a batch of it: its id. Called off during the upload, no batch starts. */
export async function startBatch(file: File, endpoint: string, dry: boolean, signal: AbortSignal): Promise<string> {
  const form = new FormData();
  form.set("purpose", "batch");
  form.set("file", file);
  const { id } = (await (await call("/v1/files", { method: "POST", body: form, signal })).json()) as { id: string };
  const body = { input_file_id: id, endpoint, completion_window: "24h", coe: { dry_run: dry } };
  signal.throwIfAborted();
  return (await send<Batch>("POST", "/v1/batches", body, signal)).id;
}

function NewBatch({ close, made }: { close: () => void; made: (id: string) => void }): JSX.Element {
  const file = useRef<HTMLInputElement>(null);
  const left = useRef(new AbortController());
  useEffect(() => () => left.current.abort(), []);
  const [endpoint, setEndpoint] = useState("/v1/chat/completions");
  const [dry, setDry] = useState(false);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<unknown>(null);
  const submit = async (event: Event) => {
    event.preventDefault();
    if (busy) return;
    const chosen = file.current?.files?.[0];
    if (!chosen) {
      setProblem(new Error("Choose a file of requests first."));
      return;
    }
    setBusy(true);
    setProblem(null);
    try {
      made(await startBatch(chosen, endpoint, dry, left.current.signal));
    } catch (error) {
      if (left.current.signal.aborted) return;
      setProblem(error);
      setBusy(false);
    }
  };
  return (
    <Dialog close={close} label="New batch">
      <form onSubmit={submit}>
        <h2>New batch</h2>
        {problem ? <Failure error={problem} /> : null}
        <label class="field">
          <span>File of requests, JSON lines</span>
          <input class="input" type="file" accept=".jsonl,.json,.txt,application/jsonl" ref={file} style={{ height: "auto", padding: "6px" }} />
        </label>
        <label class="field">
          <span>Path that each line is for</span>
          <select class="input" value={endpoint} onChange={(event) => setEndpoint(event.currentTarget.value)}>
            {["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"].map((path) => (
              <option key={path}>{path}</option>
            ))}
          </select>
        </label>
        <label class="row">
          <input type="checkbox" checked={dry} onChange={(event) => setDry(event.currentTarget.checked)} />
          Plan only: say what it would take and run nothing
        </label>
        <div class="ends">
          <button type="button" class="button" onClick={close}>
            Cancel
          </button>
          <button type="submit" class="button primary" aria-disabled={busy}>
            {busy ? "Uploading" : "Start"}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

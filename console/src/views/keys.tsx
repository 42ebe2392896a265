// API keys and what they have used. With the scope `admin` all of them, else the one that is used here.

import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { get, send } from "../api";
import * as format from "../format";
import { Icon } from "../parts/icons";
import { type Column, Table } from "../parts/table";
import { Copy, Dialog, Failure, Meter, Note, Tag, type Tone, useLoaded, Waiting } from "../parts/ui";
import type { Key, List, Used } from "../types";

const TONE: Record<string, Tone> = { active: "ok", disabled: "warn", expired: "bad" };
const LIMITS = [
  "requests_per_minute",
  "requests_per_day",
  "tokens_per_minute",
  "tokens_per_day",
  "usd_per_minute",
  "usd_per_day",
  "concurrent",
] as const;

export function Keys(): JSX.Element {
  const own = useLoaded((signal) => get<Key>("/v1/key", signal), [], 10_000);
  return (
    <div class="page">
      <div class="page-head">
        <h1>Keys and usage</h1>
      </div>
      {own.error ? <Failure error={own.error} again={own.again} /> : null}
      {!own.value && own.loading ? <Waiting what="Loading" /> : null}
      {own.value ? (
        <section class="card" aria-label="The key of this session">
          <header>
            <h2>This key</h2>
            <span class="mono muted">{own.value.prefix}…</span>
            <span class="grow">{own.value.name}</span>
            <Scopes info={own.value} />
          </header>
          <div class="body">
            <UsageView usage={own.value.usage ?? {}} />
          </div>
        </section>
      ) : null}
      {own.value?.admin ? <AllKeys ownId={own.value.id} /> : null}
      {own.value && !own.value.admin ? (
        <Note>
          Other keys are shown to keys with the scope <strong>admin</strong>. Whoever runs the service makes one by{" "}
          <span class="mono">coe keys create NAME --admin</span>.
        </Note>
      ) : null}
    </div>
  );
}

function Scopes({ info }: { info: Key }): JSX.Element {
  return (
    <span class="row wrap">
      {info.admin ? <Tag tone="accent">admin</Tag> : null}
      <Tag>{info.experts === "all" ? "all experts" : format.counted(info.experts.length, "expert")}</Tag>
      {info.priority !== "normal" ? <Tag>{info.priority}</Tag> : null}
    </span>
  );
}

function shown(limit: string, value: number | null): string {
  if (value === null) return "no limit";
  return limit.startsWith("usd") ? format.usd(value) : format.count(value);
}

function UsageView({ usage }: { usage: Record<string, Used> }): JSX.Element {
  const rows = LIMITS.filter((limit) => usage[limit]);
  return (
    <div class="figures">
      {rows.map((limit) => {
        const { used, limit: most } = usage[limit] as Used;
        return (
          <div class="figure" key={limit}>
            <div class="value">{shown(limit, used)}</div>
            <div class="label">{format.words(limit)}</div>
            {most !== null ? <Meter share={used / most} label={`${format.words(limit)}: ${used} of ${most}`} /> : null}
            <div class="label">{most === null ? "no limit" : `of ${shown(limit, most)}`}</div>
          </div>
        );
      })}
    </div>
  );
}

type Ask = { is: "new" } | { is: "rotate" | "revoke"; key: Key } | { is: "made"; secret: string; name: string };

function AllKeys({ ownId }: { ownId: string }): JSX.Element {
  const list = useLoaded((signal) => get<List<Key>>("/admin/v1/keys", signal), []);
  const [chosen, choose] = useState<string | null>(null);
  const [ask, setAsk] = useState<Ask | null>(null);
  const [problem, setProblem] = useState<unknown>(null);
  const keys = [...(list.value?.data ?? [])].reverse();
  const toggle = (key: Key) => {
    setProblem(null);
    send("PATCH", `/admin/v1/keys/${key.id}`, { enabled: !key.enabled }).then(list.again, setProblem);
  };
  const heading = useRef<HTMLHeadingElement>(null);
  const [revoked, setRevoked] = useState(0);
  useEffect(() => {
    if (revoked) heading.current?.focus(); // the button that had it goes with its key
  }, [revoked]);
  const done = () => {
    setAsk(null);
    setRevoked(revoked + 1);
    list.again();
  };
  const columns: Column<Key>[] = [
    {
      title: "Name",
      cell: ({ id, name }) => (
        <button type="button" class="plain-link" aria-expanded={chosen === id} onClick={() => choose(chosen === id ? null : id)}>
          {name}
        </button>
      ),
      sub: ({ prefix }) => <span class="mono">{prefix}…</span>,
    },
    { title: "State", cell: ({ state }) => <Tag tone={TONE[state] ?? ""}>{state}</Tag> },
    { title: "May use", class: "wide", cell: (key) => <Scopes info={key} /> },
    { title: "Made", class: "wide muted nowrap", cell: ({ created }) => format.day(created) },
    { title: "Ends", class: "wide muted nowrap", cell: ({ expires }) => (expires ? format.day(expires) : "never") },
    {
      title: <span class="sr">Actions</span>,
      cell: (key) => (
        <div class="row" style={{ justifyContent: "flex-end", gap: "4px", flexWrap: "wrap" }}>
          <button type="button" class="button quiet slim" disabled={key.id === ownId} onClick={() => toggle(key)}>
            {key.enabled ? "Disable" : "Enable"}
          </button>
          <button type="button" class="button quiet slim" onClick={() => setAsk({ is: "rotate", key })}>
            Rotate
          </button>
          <button type="button" class="button quiet slim danger" disabled={key.id === ownId} onClick={() => setAsk({ is: "revoke", key })}>
            Revoke
          </button>
        </div>
      ),
    },
  ];
  return (
    <>
      {problem ? <Failure error={problem} /> : null}
      {list.error ? <Failure error={list.error} again={list.again} /> : null}
      <section class="card" aria-label="All keys">
        <header>
          <h2 class="grow" tabIndex={-1} ref={heading}>
            All keys
          </h2>
          <button type="button" class="button slim primary" onClick={() => setAsk({ is: "new" })}>
            <Icon name="plus" /> New key
          </button>
        </header>
        {!list.value && list.loading ? <Waiting what="Loading keys" /> : null}
        <Table
          label="Table of keys"
          rows={keys}
          columns={columns}
          idOf={({ id }) => id}
          below={(key) => (chosen === key.id ? <Opened info={key} /> : null)}
        />
      </section>
      {ask?.is === "new" ? <NewKey close={() => setAsk(null)} made={(secret, name) => (setAsk({ is: "made", secret, name }), list.again())} /> : null}
      {ask?.is === "made" ? <Made secret={ask.secret} name={ask.name} close={() => setAsk(null)} /> : null}
      {ask?.is === "revoke" ? <Revoke info={ask.key} close={() => setAsk(null)} done={done} /> : null}
      {ask?.is === "rotate" ? (
        <Rotate info={ask.key} close={() => setAsk(null)} made={(secret, name) => (setAsk({ is: "made", secret, name }), list.again())} />
      ) : null}
    </>
  );
}

const named = (scope: string[] | "all"): string => (scope === "all" ? "all" : scope.join(", ") || "none");

/** All of a key, also what a narrow table has no room for. */
function Opened({ info }: { info: Key }): JSX.Element {
  const { value, error, again } = useLoaded(
    (signal) => get<{ usage: Record<string, Used> }>(`/admin/v1/keys/${info.id}/usage`, signal),
    [info.id],
    5000,
  );
  return (
    <div class="stack">
      <dl class="facts">
        <dt>Experts</dt>
        <dd>{named(info.experts)}</dd>
        <dt>Ensembles</dt>
        <dd>{named(info.ensembles)}</dd>
        <dt>Manages keys</dt>
        <dd>{info.admin ? "yes" : "no"}</dd>
        <dt>Priority</dt>
        <dd>{info.priority}</dd>
        <dt>Made</dt>
        <dd>{format.day(info.created)}</dd>
        <dt>Ends</dt>
        <dd>{info.expires ? format.day(info.expires) : "never"}</dd>
      </dl>
      {error ? <Failure error={error} again={again} /> : value ? <UsageView usage={value.usage} /> : <Waiting what="Loading usage" />}
    </div>
  );
}

function useAction(action: () => Promise<void>): { busy: boolean; problem: unknown; run: (event: Event) => void } {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<unknown>(null);
  const run = (event: Event) => {
    event.preventDefault();
    if (busy) return;
    setBusy(true);
    setProblem(null);
    action().catch((error: unknown) => {
      setProblem(error);
      setBusy(false);
    });
  };
  return { busy, problem, run };
}

function NewKey({ close, made }: { close: () => void; made: (secret: string, name: string) => void }): JSX.Element {
  const [name, setName] = useState("");
  const [experts, setExperts] = useState("");
  const [expires, setExpires] = useState("");
  const [admin, setAdmin] = useState(false);
  const { busy, problem, run } = useAction(async () => {
    const body: Record<string, unknown> = { name, admin };
    const named = experts.split(/[\s,]+/).filter(Boolean);
    if (named.length) body.experts = named;
    if (expires) body.expires = expires;
    made((await send<{ key: string }>("POST", "/admin/v1/keys", body)).key, name);
  });
  return (
    <Dialog close={close} label="New key">
      <form onSubmit={run}>
        <h2>New key</h2>
        {problem ? <Failure error={problem} /> : null}
        <label class="field">
          <span>Name</span>
          <input class="input" required maxLength={100} value={name} onInput={(event) => setName(event.currentTarget.value)} />
        </label>
        <label class="field">
          <span>Experts that it may use, with commas; all if empty</span>
          <input class="input" value={experts} onInput={(event) => setExperts(event.currentTarget.value)} />
        </label>
        <label class="field">
          <span>Ends in (30d, 12h) or at a date; never if empty</span>
          <input class="input" value={expires} onInput={(event) => setExpires(event.currentTarget.value)} />
        </label>
        <label class="row">
          <input type="checkbox" checked={admin} onChange={(event) => setAdmin(event.currentTarget.checked)} />
          May manage keys (scope admin)
        </label>
        <Ends close={close} busy={busy} text="Make key" />
      </form>
    </Dialog>
  );
}

const Ends = ({ close, busy, text, danger }: { close: () => void; busy: boolean; text: string; danger?: boolean }): JSX.Element => (
  <div class="ends">
    <button type="button" class="button" onClick={close}>
      Cancel
    </button>
    <button type="submit" class={danger ? "button danger" : "button primary"} aria-disabled={busy}>
      {text}
    </button>
  </div>
);

const Made = ({ secret, name, close }: { secret: string; name: string; close: () => void }): JSX.Element => (
  <Dialog close={close} label="The new key">
    <form
      onSubmit={(event) => {
        event.preventDefault();
        close();
      }}
    >
      <h2>The key of {name}</h2>
      <p>It is shown this once. The service keeps only its hash.</p>
      <p class="mono" style={{ overflowWrap: "anywhere", userSelect: "all" }}>
        {secret}
      </p>
      <div class="ends">
        <Copy text={secret} />
        <button type="submit" class="button primary">
          Done
        </button>
      </div>
    </form>
  </Dialog>
);

function Revoke({ info, close, done }: { info: Key; close: () => void; done: () => void }): JSX.Element {
  const { busy, problem, run } = useAction(async () => {
    await send("DELETE", `/admin/v1/keys/${info.id}`);
    done();
  });
  return (
    <Dialog close={close} label="Revoke a key">
      <form onSubmit={run}>
        <h2>Revoke {info.name}?</h2>
        {problem ? <Failure error={problem} /> : null}
        <p>Requests with the key {info.prefix}… are refused from now on. This cannot be taken back.</p>
        <Ends close={close} busy={busy} text="Revoke" danger />
      </form>
    </Dialog>
  );
}

function Rotate({ info, close, made }: { info: Key; close: () => void; made: (secret: string, name: string) => void }): JSX.Element {
  const { busy, problem, run } = useAction(async () => {
    made((await send<{ key: string }>("POST", `/admin/v1/keys/${info.id}/rotate`, {})).key, info.name);
  });
  return (
    <Dialog close={close} label="Rotate a key">
      <form onSubmit={run}>
        <h2>Rotate {info.name}?</h2>
        {problem ? <Failure error={problem} /> : null}
        <p>It gets a successor with the same scopes and limits. The old key works for another day.</p>
        <Ends close={close} busy={busy} text="Make the successor" />
      </form>
    </Dialog>
  );
}

// A list that the service gives by pages, the newest first, and beside it the one that was chosen.

import type { ComponentChildren, JSX } from "preact";
import { useRef, useState } from "preact/hooks";
import type { List } from "../types";
import { Icon } from "./icons";
import { type Column, type Picking, Table } from "./table";
import { Failure, type Loaded, useBorrowedFocus, Waiting } from "./ui";

const PAGE = 50;

export interface Pages {
  number: number;
  /** What asks for the page. */
  query: URLSearchParams;
  newest: () => void;
  newer: () => void;
  older: (last: string) => void;
}

export function usePages(): Pages {
  const [lasts, setLasts] = useState<string[]>([]);
  const query = new URLSearchParams({ limit: String(PAGE) });
  const after = lasts.at(-1);
  if (after) query.set("after", after);
  return {
    number: lasts.length + 1,
    query,
    newest: () => setLasts([]),
    newer: () => setLasts(lasts.slice(0, -1)),
    older: (last) => setLasts((all) => (all.at(-1) === last ? all : [...all, last])), // pressed twice, it is one page
  };
}

/** `rows`: what the page shows of what was loaded. `empty`: in place of no rows. */
export function Listing<T extends { id: string }>(props: {
  name: string;
  list: Loaded<List<unknown>>;
  pages: Pages;
  rows: readonly T[];
  columns: readonly Column<T>[];
  picking: Picking;
  empty: ComponentChildren;
  detail: (id: string) => JSX.Element;
}): JSX.Element {
  const { name, list, pages, rows, picking } = props;
  const noun = name.toLowerCase();
  return (
    <>
      {list.error ? <Failure error={list.error} again={list.again} /> : null}
      {!list.value && list.loading ? <Waiting what={`Loading ${noun}`} /> : null}
      {list.value && !rows.length ? (
        <div class="card">
          {props.empty}
          <Pager pages={pages} list={list.value} />
        </div>
      ) : null}
      {rows.length ? (
        <div class={picking.chosen ? "split" : ""}>
          <section class="card" aria-label={name}>
            <Table label={`Table of ${noun}`} rows={rows} columns={props.columns} idOf={({ id }) => id} picking={picking} />
            <Pager pages={pages} list={list.value} />
          </section>
          {picking.chosen ? props.detail(picking.chosen) : null}
        </div>
      ) : null}
    </>
  );
}

function Pager({ pages, list }: { pages: Pages; list: List<unknown> | null }): JSX.Element | null {
  const last = list?.has_more ? list.last_id : null;
  if (pages.number === 1 && !last) return null;
  return (
    <div class="body row">
      {/* Not `disabled`, which takes the focus from who has pressed one. */}
      <button type="button" class="button slim" aria-disabled={pages.number === 1} onClick={pages.newer}>
        Newer
      </button>
      <button type="button" class="button slim" aria-disabled={!last} onClick={() => last && pages.older(last)}>
        Older
      </button>
      <span class="muted small">{pages.number > 1 ? `page ${pages.number}` : "the newest"}</span>
    </div>
  );
}

/** The one that was chosen, as it was loaded. It has the focus while it is new. */
export function Detail<T>(props: {
  label: string;
  title: ComponentChildren;
  loaded: Loaded<T>;
  close: () => void;
  class?: string;
  children: (value: T) => ComponentChildren;
}): JSX.Element {
  const { value, error, again } = props.loaded;
  const panel = useRef<HTMLElement>(null);
  useBorrowedFocus(panel);
  return (
    <section class="card detail" aria-label={props.label} tabIndex={0} ref={panel}>
      <header>
        {props.title}
        <button type="button" class="button quiet slim square" aria-label="Close" onClick={props.close}>
          <Icon name="close" />
        </button>
      </header>
      <div class={`body stack ${props.class ?? ""}`}>
        {error ? <Failure error={error} again={again} /> : null}
        {value ? props.children(value) : error ? null : <Waiting what="Loading" />}
      </div>
    </section>
  );
}

// Tables, by their columns.

import { type ComponentChild, type ComponentChildren, Fragment, type JSX } from "preact";

export interface Column<T> {
  title: ComponentChildren;
  /** Of the heading and of each cell. */
  class?: string;
  cell: (row: T) => ComponentChildren;
  /** Of the button that the cell is where a row can be chosen: its name, where what is seen of it is none. */
  label?: (row: T) => string;
  /** A smaller line below. */
  sub?: (row: T) => ComponentChildren;
}

export interface Picking {
  chosen: string | null;
  choose: (id: string) => void;
}

/** `head`: of the columns, the first names the row. `picking`: a row can be chosen, by a button in its first cell. */
export function Table<T>(props: {
  label: string;
  rows: readonly T[];
  columns: readonly Column<T>[];
  idOf: (row: T, index: number) => string;
  class?: string;
  head?: boolean;
  picking?: Picking;
  /** What a row opens into, over all columns. */
  below?: (row: T) => ComponentChild;
}): JSX.Element {
  const { label, rows, columns, idOf, head, picking, below } = props;
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={label}>
      <table class={props.class}>
        <thead>
          <tr>
            {columns.map((column, index) => (
              <th scope="col" class={column.class} key={index}>
                {column.title}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row, at) => {
            const id = idOf(row, at);
            const pick = picking && (() => picking.choose(id));
            const more = below?.(row);
            const isChosen = picking !== undefined && id === picking.chosen;
            return (
              <Fragment key={id}>
                <tr class={`${pick ? "pick" : ""} ${isChosen ? "chosen" : ""} ${more ? "open" : ""}`} onClick={pick}>
                  {columns.map((column, index) => {
                    const Cell = head && index === 0 ? "th" : "td";
                    const sub = column.sub?.(row);
                    return (
                      <Cell key={index} class={column.class} scope={Cell === "th" ? "row" : undefined}>
                        {pick && index === 0 ? (
                          <button
                            type="button"
                            class="plain-link"
                            aria-label={column.label?.(row)}
                            aria-current={isChosen || undefined}
                            onClick={pick}
                          >
                            {column.cell(row)}
                          </button>
                        ) : (
                          column.cell(row)
                        )}
                        {sub ? <span class="sub">{sub}</span> : null}
                      </Cell>
                    );
                  })}
                </tr>
                {more ? (
                  <tr>
                    <td colSpan={columns.length}>{more}</td>
                  </tr>
                ) : null}
              </Fragment>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}

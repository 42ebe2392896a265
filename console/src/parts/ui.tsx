// Small parts that every view is made of.

import { Component, type ComponentChildren, type ComponentType, type JSX, type RefObject } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { AWAY, messageOf, Problem } from "../api";
import { colourOf } from "../colour";
import { returned } from "../live";
import { spoken } from "../spoken";
import { useStore } from "../store";
import { Icon } from "./icons";

export type Tone = "ok" | "warn" | "bad" | "accent" | "";

export const Tag = ({ tone = "", children }: { tone?: Tone; children: ComponentChildren }): JSX.Element => (
  <span class={`tag ${tone}`}>{children}</span>
);

export const Expert = ({ name }: { name: string }): JSX.Element => (
  <span class={`expert c${colourOf(name)}`} title={name}>
    <i />
    <span>{name}</span>
  </span>
);

export const Meter = ({ share, colour, label }: { share: number; colour?: number; label: string }): JSX.Element => {
  const within = Math.min(1, Math.max(0, share));
  return (
    <span
      class={`meter ${colour === undefined ? "" : `c${colour}`}`}
      role="meter"
      aria-label={label}
      aria-valuenow={Math.round(100 * within)}
      aria-valuemin={0}
      aria-valuemax={100}
    >
      <i style={{ width: `${(100 * within).toFixed(1)}%` }} />
    </span>
  );
};

export interface BarRow {
  name: string;
  share: number;
  text: string;
  expert?: boolean;
}

/** Shares of a whole, as a list of bars. */
export const Bars = ({ rows, label }: { rows: BarRow[]; label: string }): JSX.Element => (
  <div class="bars" role="group" aria-label={label}>
    {rows.map(({ name, share, text, expert }) => [
      <span class="name" key={`${name}-n`}>
        {expert ? <Expert name={name} /> : name}
      </span>,
      <Meter key={`${name}-m`} share={share} colour={expert ? colourOf(name) : undefined} label={`${name}: ${text}`} />,
      <span class="num" key={`${name}-t`}>
        {text}
      </span>,
    ])}
  </div>
);

export function Note({ tone = "", children }: { tone?: "bad" | "warn" | ""; children: ComponentChildren }): JSX.Element {
  return (
    <div class={`note ${tone}`} role={tone ? "alert" : undefined}>
      <Icon name={tone ? "warn" : "info"} />
      <div class="grow">{children}</div>
    </div>
  );
}

export function Failure({ error, again }: { error: unknown; again?: () => void }): JSX.Element {
  const away = error instanceof Problem && error.status === 0;
  const id = error instanceof Problem && error.status >= 500 ? error.requestId : null;
  return (
    <Note tone={away ? "warn" : "bad"}>
      <div class="row wrap">
        <span class="grow">
          {away ? AWAY : messageOf(error)}
          {id && !messageOf(error).includes(id) ? <span class="mono"> {id}</span> : null}
        </span>
        {again ? (
          <Passing class="slim" press={again}>
            Try again
          </Passing>
        ) : null}
      </div>
    </Note>
  );
}

export const Empty = ({ title, children }: { title: string; children?: ComponentChildren }): JSX.Element => (
  <div class="empty">
    <h2>{title}</h2>
    {children}
  </div>
);

export const Waiting = ({ what }: { what: string }): JSX.Element => (
  <div class="empty" role="status">
    <span class="spin" />
    <p>{what}</p>
  </div>
);

export const Figure = ({ value, label }: { value: ComponentChildren; label: string }): JSX.Element => (
  <div class="figure">
    <div class="value">{value}</div>
    <div class="label">{label}</div>
  </div>
);

export function Segments<T extends string | number>(props: {
  label: string;
  options: readonly (readonly [T, string])[];
  value: T;
  choose: (value: T) => void;
}): JSX.Element {
  return (
    <div class="segments" role="group" aria-label={props.label}>
      {props.options.map(([value, text]) => (
        <button type="button" key={value} aria-pressed={value === props.value} onClick={() => props.choose(value)}>
          {text}
        </button>
      ))}
    </div>
  );
}

/** Draws `View` anew only when one of its props is another. */
export function kept<P extends object>(View: (props: P) => JSX.Element | null): ComponentType<P> {
  return class extends Component<P> {
    override shouldComponentUpdate(next: Readonly<P>): boolean {
      return [...Object.keys(next), ...Object.keys(this.props)].some((name) => next[name as keyof P] !== this.props[name as keyof P]);
    }

    override render(props: P): JSX.Element {
      return <View {...props} />;
    }
  };
}

/** The one place where the page says what happens to who does not see it. A screen reader hears changes of its text. */
export const Spoken = (): JSX.Element => (
  <p class="sr" role="status">
    {useStore(spoken)}
  </p>
);

/** Is the media query true? */
export function useMedia(query: string): boolean {
  const [list] = useState(() => window.matchMedia(query));
  const [is, set] = useState(list.matches);
  useEffect(() => {
    const changed = () => set(list.matches);
    changed();
    list.addEventListener("change", changed);
    return () => list.removeEventListener("change", changed);
  }, [list]);
  return is;
}

/** When the part goes while it has the focus, `heir` gets it: else it would fall to the top of the page. */
export function useHeir(part: RefObject<HTMLElement | null>, heir: () => HTMLElement | null): void {
  // A layout effect's end comes while the part is still in the page; that of other effects when it is gone.
  useLayoutEffect(() => {
    const own = part.current;
    return () => {
      if (own?.contains(document.activeElement)) heir()?.focus();
    };
  }, []);
}

/** A button that goes with what it was pressed for: the panel that it is in, or else the page, has the focus then. */
export function Passing(props: { class: string; press: () => void; children: ComponentChildren }): JSX.Element {
  const own = useRef<HTMLButtonElement>(null);
  useHeir(own, () => own.current?.closest<HTMLElement>("[tabindex]") ?? null);
  return (
    <button type="button" class={`button ${props.class}`} ref={own} onClick={props.press}>
      {props.children}
    </button>
  );
}

/** The part takes the focus as it opens. When it closes with it, who had it before gets it back. */
export function useBorrowedFocus(part: RefObject<HTMLElement | null>): void {
  const before = useRef<Element | null>(null);
  useHeir(part, () => {
    const had = before.current;
    return had instanceof HTMLElement && had.isConnected && had !== document.body ? had : document.getElementById("main");
  });
  useLayoutEffect(() => {
    before.current = document.activeElement;
    part.current?.focus();
  }, []);
}

/** A dialog of the browser's own, with its focus and its Escape key. However it goes, who opened it has the focus again. */
export function Dialog({ close, label, children }: { close: () => void; label: string; children: ComponentChildren }): JSX.Element {
  const dialog = useRef<HTMLDialogElement>(null);
  const here = useRef(true);
  useLayoutEffect(() => {
    const own = dialog.current;
    own?.showModal();
    return () => {
      here.current = false;
      own?.close();
    };
  }, []);
  const left = () => {
    if (here.current) close(); // a dialog that is gone closes no other that came in its place
  };
  return (
    <dialog ref={dialog} aria-label={label} onClose={left} onCancel={left}>
      {children}
    </dialog>
  );
}

export function Copy({ text, label = "Copy" }: { text: string; label?: string }): JSX.Element {
  const [said, say] = useState("");
  useEffect(() => {
    if (!said) return;
    const timer = setTimeout(() => say(""), 1500);
    return () => clearTimeout(timer);
  }, [said]);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      say("Copied");
      spoken.set("Copied");
    } catch {
      say("Not allowed by the browser");
      spoken.set("The browser does not allow to copy");
    }
  };
  return (
    <button type="button" class="button quiet slim" onClick={copy}>
      <Icon name="copy" />
      <span>{said || label}</span>
    </button>
  );
}

export interface Loaded<T> {
  value: T | null;
  error: unknown;
  loading: boolean;
  again: () => void;
}

/**
 * What `load` gives: anew when one of `inputs` changes, when the connection is back, and every `everyMs` while the page is
 * seen, until it is `final`. An old answer stays while a new one comes.
 */
export function useLoaded<T>(
  load: (signal: AbortSignal) => Promise<T>,
  inputs: readonly unknown[],
  everyMs = 0,
  final: (value: T) => boolean = () => false,
): Loaded<T> {
  const [state, setState] = useState<Omit<Loaded<T>, "again">>({ value: null, error: null, loading: true });
  const [turn, setTurn] = useState(0);
  const back = useStore(returned);
  useEffect(() => {
    const stopped = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const run = async () => {
      try {
        const value = await load(stopped.signal);
        if (!stopped.signal.aborted) setState({ value, error: null, loading: false });
        if (final(value)) return;
      } catch (error) {
        if (!stopped.signal.aborted) setState((old) => ({ ...old, error, loading: false }));
      }
      if (everyMs && !stopped.signal.aborted) timer = setTimeout(again, everyMs);
    };
    const again = () => {
      if (document.hidden) timer = setTimeout(again, everyMs);
      else void run();
    };
    setState((old) => ({ ...old, loading: true }));
    void run();
    return () => {
      stopped.abort();
      clearTimeout(timer);
    };
  }, [...inputs, everyMs, turn, back]);
  return { ...state, again: () => setTurn((n) => n + 1) };
}

// The frame around the views, and the door before it.

import type { JSX } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import * as api from "./api";
import { short } from "./format";
import { isUnderWay, live, shown, status, troubleOf } from "./live";
import { Icon, type IconName, Logo } from "./parts/icons";
import { Failure, Spoken, Tag } from "./parts/ui";
import { spoken } from "./spoken";
import { useStore } from "./store";
import { choose, theme, type Theme } from "./theme";
import { Batches } from "./views/batches";
import { Chat } from "./views/chat";
import { Decisions } from "./views/decisions";
import { Experts } from "./views/experts";
import { Keys } from "./views/keys";
import { RouterView } from "./views/router";
import { Timeline } from "./views/timeline";

interface View {
  at: string;
  name: string;
  icon: IconName;
  show: () => JSX.Element;
}

const VIEWS: readonly View[] = [
  { at: "chat", name: "Chat", icon: "chat", show: Chat },
  { at: "decisions", name: "Decisions", icon: "decisions", show: Decisions },
  { at: "experts", name: "Experts", icon: "experts", show: Experts },
  { at: "timeline", name: "Timeline", icon: "timeline", show: Timeline },
  { at: "batches", name: "Batches", icon: "batches", show: Batches },
  { at: "router", name: "Router", icon: "router", show: RouterView },
  { at: "keys", name: "Keys", icon: "keys", show: Keys },
];
const FIRST = VIEWS[0] as View;

const here = (): View => VIEWS.find((view) => view.at === location.hash.replace(/^#\/?/, "")) ?? FIRST;

export function App(): JSX.Element {
  const key = useStore(api.apiKey);
  return (
    <>
      <Spoken />
      {key === null ? <Door /> : <Frame />}
    </>
  );
}

function Door(): JSX.Element {
  const why = useStore(api.signedOut);
  const [text, setText] = useState("");
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<unknown>(null);
  const box = useRef<HTMLInputElement>(null);
  useLayoutEffect(() => {
    box.current?.focus();
    performance.mark("usable"); // for the test that looks how soon that is
  }, []);
  const enter = async (event: Event) => {
    event.preventDefault();
    if (busy) return;
    const key = text.trim();
    if (!key) {
      setProblem(new Error("Enter an API key first."));
      return;
    }
    if (!/^[\x21-\x7e]+$/.test(key)) {
      setProblem(new Error("That is no API key: a key has letters, digits and signs of ASCII, and no spaces. Copy all of it."));
      return;
    }
    setBusy(true);
    setProblem(null);
    try {
      await api.call("/v1/models", {}, key);
      api.signIn(key);
      spoken.set("Signed in");
    } catch (error) {
      setProblem(error);
      setBusy(false);
    }
  };
  return (
    <main class="door">
      <form onSubmit={enter}>
        <div class="brand">
          <Logo />
          <h1>Composition of Experts</h1>
        </div>
        <p class="muted">Sign in with an API key. It stays in this tab and goes when the tab is closed.</p>
        {problem ? <Failure error={problem} /> : why ? <Failure error={new Error(why)} /> : null}
        <label class="field">
          <span>API key</span>
          <input
            class="input mono"
            type="password"
            autocomplete="off"
            spellcheck={false}
            ref={box}
            placeholder="coe-…"
            value={text}
            onInput={(event) => setText(event.currentTarget.value)}
          />
        </label>
        {/* Not `disabled`, which takes the focus from who has pressed it. */}
        <button type="submit" class="button primary" aria-disabled={busy}>
          {busy ? <span class="spin" /> : null}
          Sign in
        </button>
        <p class="small muted hint">
          The first start of the service shows a key. Another one: <code>coe keys create NAME</code>
        </p>
      </form>
    </main>
  );
}

function Frame(): JSX.Element {
  const [view, setView] = useState(here);
  const trouble = troubleOf(useStore(status));
  useEffect(() => {
    const moved = () => setView(here());
    window.addEventListener("hashchange", moved);
    return () => window.removeEventListener("hashchange", moved);
  }, []);
  const frame = useRef<HTMLDivElement>(null);
  // Before it is seen: later it would take the focus from what a quick hand has come to by the keyboard.
  useLayoutEffect(() => frame.current?.focus(), []);
  const main = useRef<HTMLElement>(null);
  useEffect(() => {
    if (main.current) main.current.scrollTop = 0;
    document.title = `${view.name} · Composition of Experts`;
  }, [view]);
  const Shown = view.show;
  return (
    <div class="frame" ref={frame} tabIndex={-1}>
      <a class="skip" href="#main" onClick={(event) => (event.preventDefault(), document.getElementById("main")?.focus())}>
        To the content
      </a>
      <div class="side">
        <div class="brand">
          <Logo />
          <span>Console</span>
        </div>
        <nav class="nav" aria-label="Views">
          {VIEWS.map(({ at, name, icon }) => (
            <a key={at} href={`#/${at}`} aria-current={at === view.at ? "page" : undefined}>
              <Icon name={icon} />
              {name}
              {at === "timeline" || at === "batches" ? <Tip at={at} /> : null}
            </a>
          ))}
        </nav>
        <Foot />
      </div>
      <main class="main" id="main" tabIndex={-1} ref={main}>
        {trouble ? (
          <div class="banner">
            <Icon name="warn" />
            <span class="grow">{trouble}</span>
          </div>
        ) : null}
        <Shown key={view.at} />
      </main>
    </div>
  );
}

/** How much is under way there. */
function Tip({ at }: { at: string }): JSX.Element | null {
  useStore(shown);
  const n =
    at === "timeline"
      ? [...live.engines.values()].reduce((sum, engine) => sum + (engine.running ?? 0) + (engine.waiting ?? 0), 0)
      : [...live.batches.values()].filter(isUnderWay).length;
  return n ? (
    <span class="tip">
      <Tag tone="ok">{short(n)}</Tag>
    </span>
  ) : null;
}

const LINK = { off: "Not connected", connecting: "Connecting", live: "Live", away: "Connection lost", refused: "Not live" } as const;
const THEMES: Record<Theme, { next: Theme; icon: IconName; text: string }> = {
  auto: { next: "light", icon: "auto", text: "Theme: system" },
  light: { next: "dark", icon: "sun", text: "Theme: light" },
  dark: { next: "auto", icon: "moon", text: "Theme: dark" },
};

function Foot(): JSX.Element {
  const link = useStore(status);
  const chosen = THEMES[useStore(theme)];
  return (
    <div class="foot">
      <div class="link-state" role="status">
        <span class={`dot ${link.is === "refused" ? "away" : link.is}`} />
        <span>{LINK[link.is]}</span>
      </div>
      <button type="button" class="button quiet" aria-label={chosen.text} title={chosen.text} onClick={() => choose(chosen.next)}>
        <Icon name={chosen.icon} />
        <span class="label">{chosen.text}</span>
      </button>
      <button type="button" class="button quiet" aria-label="Sign out" title="Sign out" onClick={() => api.signOut()}>
        <Icon name="out" />
        <span class="label">Sign out</span>
      </button>
    </div>
  );
}

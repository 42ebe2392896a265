// Where a question is written, and who is to answer it chosen.

import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import * as format from "../format";
import { Icon } from "../parts/icons";
import { useHeir } from "../parts/ui";
import { useStore } from "../store";
import * as talk from "../talk";
import type { Model } from "../types";

export function Composer({ models }: { models: Model[] }): JSX.Element {
  const text = useStore(talk.draftPrompt);
  const own = useStore(talk.options);
  const turns = useStore(talk.turns);
  const [more, setMore] = useState(false);
  const area = useRef<HTMLTextAreaElement>(null);
  const busy = turns.find(talk.underWay);
  const offered = useMemo(() => <ModelOptions models={models} />, [models]);
  const ready = text.trim() !== "" && !busy;
  useEffect(() => {
    const box = area.current;
    if (!box) return;
    box.style.height = "auto";
    box.style.height = `${box.scrollHeight + 2}px`;
  }, [text]);
  const isGone = own.model !== "auto" && models.length > 0 && !models.some(({ id }) => id === own.model);
  useEffect(() => {
    if (isGone) talk.options.set({ ...own, model: "auto" }); // another configuration came meanwhile
  }, [isGone]);
  const set = (change: Partial<talk.Options>) => talk.options.set({ ...own, ...change });
  const go = (how: (asked: string) => Promise<void>) => {
    if (!ready) return;
    talk.draftPrompt.set("");
    area.current?.focus(); // the button that was pressed goes
    void how(text.trim());
  };
  const anew = () => {
    talk.forget();
    area.current?.focus();
  };
  const onKey = (event: KeyboardEvent) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      go(talk.ask);
    }
  };
  return (
    <div class="composer">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          go(talk.ask);
        }}
      >
        {more ? <MoreOptions models={models} own={own} set={set} /> : null}
        <label class="sr" for="prompt">
          Your message
        </label>
        <textarea
          id="prompt"
          class="input"
          ref={area}
          rows={2}
          placeholder="Ask something. Enter sends, Shift+Enter makes a new line."
          value={text}
          onInput={(event) => talk.draftPrompt.set(event.currentTarget.value)}
          onKeyDown={onKey}
        />
        <div class="row">
          <label class="sr" for="model">
            Who answers
          </label>
          <select id="model" class="input" value={own.model} onChange={(event) => set({ model: event.currentTarget.value })}>
            {offered}
          </select>
          {own.model === "auto" ? (
            <select
              class="input"
              aria-label="Number of experts"
              value={own.k ?? ""}
              onChange={(event) => set({ k: event.currentTarget.value ? Number(event.currentTarget.value) : null })}
            >
              <option value="">experts: default</option>
              {[1, 2, 3, 4, 5, 6, 7, 8].map((k) => (
                <option key={k} value={k}>
                  {format.counted(k, "expert")}
                </option>
              ))}
            </select>
          ) : null}
          <button type="button" class="button quiet square" aria-label="More options" aria-expanded={more} aria-pressed={more} onClick={() => setMore(!more)}>
            <Icon name="gear" />
          </button>
          <span class="ends">
          {turns.length ? (
            <button type="button" class="button quiet" onClick={anew}>
              New chat
            </button>
          ) : null}
          {busy ? (
            <Stop id={busy.id} heir={() => area.current} />
          ) : (
            <>
              <button type="button" class="button" disabled={!ready} onClick={() => go(talk.decide)}>
                Route only
              </button>
              <button type="submit" class="button primary" disabled={!ready}>
                <Icon name="send" /> Send
              </button>
            </>
          )}
          </span>
        </div>
      </form>
    </div>
  );
}

function Stop({ id, heir }: { id: number; heir: () => HTMLElement | null }): JSX.Element {
  const button = useRef<HTMLButtonElement>(null);
  useHeir(button, heir);
  return (
    <button type="button" class="button" ref={button} onClick={() => talk.stop(id)}>
      <Icon name="stop" /> Stop
    </button>
  );
}

function ModelOptions({ models }: { models: Model[] }): JSX.Element {
  const of = (kind: (kind: string) => boolean) => models.filter((model) => kind(model.coe.kind));
  const ensembles = of((kind) => kind === "ensemble");
  const experts = of((kind) => !["router", "ensemble", "encoder"].includes(kind));
  return (
    <>
      <option value="auto">auto: the router chooses</option>
      {ensembles.length ? (
        <optgroup label="Ensembles">
          {ensembles.map((model) => (
            <option key={model.id} value={model.id}>
              {model.id}
            </option>
          ))}
        </optgroup>
      ) : null}
      <optgroup label="Experts">
        {experts.map((model) => (
          <option key={model.id} value={model.id}>
            {model.id}
          </option>
        ))}
      </optgroup>
    </>
  );
}

function MoreOptions(props: { models: Model[]; own: talk.Options; set: (change: Partial<talk.Options>) => void }): JSX.Element {
  const { own, set } = props;
  const aggregators = props.models.find((model) => model.id === "auto")?.coe.aggregators ?? [];
  return (
    <div class="options">
      <label class="field">
        <span>Aggregator</span>
        <select class="input" value={own.aggregator} disabled={own.model !== "auto"} onChange={(event) => set({ aggregator: event.currentTarget.value })}>
          <option value="">the router's</option>
          {aggregators.map((name) => (
            <option key={name} value={name}>
              {name}
            </option>
          ))}
        </select>
      </label>
      <label class="field">
        <span>Tokens at most</span>
        <Numeric min="1" step="1" value={own.maxTokens} set={(maxTokens) => set({ maxTokens })} />
      </label>
      <label class="field">
        <span>Temperature</span>
        <Numeric min="0" max="2" step="any" value={own.temperature} set={(temperature) => set({ temperature })} />
      </label>
      <label class="field" style={{ gridColumn: "1 / -1" }}>
        <span>System message</span>
        <input class="input" value={own.system} placeholder="none" onInput={(event) => set({ system: event.currentTarget.value })} />
      </label>
    </div>
  );
}

/** It keeps what was written, not the number that it is: "0.0" is on the way to "0.05". */
export function Numeric(props: {
  min: string;
  max?: string;
  step: string;
  value: number | null;
  set: (value: number | null) => void;
}): JSX.Element {
  const { min, max, step, value, set } = props;
  const [text, setText] = useState(value === null ? "" : String(value));
  const write = (written: string) => {
    setText(written);
    set(written === "" ? null : Number(written));
  };
  return (
    <input class="input" type="number" min={min} max={max} step={step} value={text} placeholder="default" onInput={(event) => write(event.currentTarget.value)} />
  );
}

// Ask, see who answers, and why.

import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { get } from "../api";
import { colourOf } from "../colour";
import * as format from "../format";
import { Markdown } from "../markdown";
import { Icon } from "../parts/icons";
import { Copy, Empty, Expert, Failure, kept, Tag, useLoaded, useMedia } from "../parts/ui";
import * as why from "../parts/why";
import { spoken } from "../spoken";
import { useStore } from "../store";
import * as talk from "../talk";
import type { Turn } from "../talk";
import type { Coe, List, Model } from "../types";
import { Composer } from "./composer";

const STARTERS = [
  "Which SQL lists the names of users older than 30? Table users(id, name, age)",
  "A cron line for every weekday at 7:30",
  "Explain in two sentences why the sky is blue.",
];

/** While an answer grows the page is drawn once a frame: what has not changed is left as it is. */
const Prose = kept(Markdown);
const Why = kept(why.Why);
const NONE: Model[] = [];

export function Chat(): JSX.Element {
  const narrow = useMedia("(max-width: 1080px)");
  const turns = useStore(talk.turns);
  const selected = useStore(talk.selected);
  const models = useLoaded((signal) => get<List<Model>>("/v1/models", signal), []);
  const scroller = useRef<HTMLDivElement>(null);
  const follows = useRef(true);
  // Before the next one, which scrolls: who asks wants to see the answer, wherever he was.
  useEffect(() => void (follows.current = true), [turns.length]);
  useEffect(() => {
    const box = scroller.current;
    if (box && follows.current) box.scrollTop = box.scrollHeight;
  }, [turns]);
  const chosen = turns.find((turn) => turn.id === selected) ?? turns.at(-1);
  const onScroll = () => {
    const box = scroller.current;
    if (box) follows.current = box.scrollHeight - box.scrollTop - box.clientHeight < 60;
  };
  return (
    <div class="chat">
      <div class="talk">
        <h1 class="sr">Chat</h1>
        <div class="talk-scroll" ref={scroller} onScroll={onScroll} tabIndex={0} role="region" aria-label="Conversation">
          <div class="talk-inner">
            {models.error ? <Failure error={models.error} again={models.again} /> : null}
            {turns.length ? (
              turns.map((turn) => <TurnView key={turn.id} turn={turn} chosen={turn === chosen} narrow={narrow} />)
            ) : (
              <Empty title="Ask something">
                <p>The router chooses who answers. You see why, what it took, and what it cost.</p>
                <div class="starters">
                  {STARTERS.map((text) => (
                    <button type="button" key={text} onClick={() => talk.draftPrompt.set(text)}>
                      {text}
                    </button>
                  ))}
                </div>
              </Empty>
            )}
          </div>
        </div>
        <Composer models={models.value?.data ?? NONE} />
      </div>
      {narrow ? null : (
        <aside class="why" aria-label="Why this expert" tabIndex={0}>
          {chosen?.coe ? (
            <>
              <h2 style={{ marginBottom: "12px" }}>Why this expert</h2>
              <Why coe={chosen.coe} />
            </>
          ) : (
            <Empty title="The route">
              <p>Category, probabilities, who was considered and every call show here once something was asked.</p>
            </Empty>
          )}
        </aside>
      )}
    </div>
  );
}

/** narrow: there is no room beside the conversation, so each answer holds its own why. */
export const TurnView = kept(({ turn, chosen, narrow }: { turn: Turn; chosen: boolean; narrow: boolean }): JSX.Element => {
  return (
    <>
      <div class="asked">{turn.asked}</div>
      <article
        class={`card answer ${chosen ? "selected" : ""}`}
        aria-label={`Answer of ${turn.coe?.expert ?? turn.options.model}`}
        aria-busy={talk.underWay(turn)}
        onClick={() => talk.selected.set(turn.id)}
      >
        <Head turn={turn} />
        {turn.error ? <Failure error={turn.error} /> : null}
        {turn.text ? <Prose text={turn.text} /> : null}
        {turn.state === "route" ? <p class="muted">Routed only: nothing was generated.</p> : null}
        <Drafts turn={turn} />
        <Foot turn={turn} chosen={chosen} narrow={narrow} />
        {turn.coe && narrow ? <WhyInside coe={turn.coe} /> : null}
      </article>
    </>
  );
});

function WhyInside({ coe }: { coe: Coe }): JSX.Element {
  const [open, setOpen] = useState(false);
  return (
    <details class="why-inside" open={open} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>Why this expert</summary>
      {open ? <Why coe={coe} /> : null}
    </details>
  );
}

function Head({ turn }: { turn: Turn }): JSX.Element {
  const { coe } = turn;
  const shown = coe ? (coe.expert ? [coe.expert] : coe.experts) : [];
  return (
    <div class="row wrap">
      {shown.map((name) => (
        <Expert key={name} name={name} />
      ))}
      {!coe && (turn.state === "waiting" || turn.state === "deciding") ? <span class="muted">Choosing an expert</span> : null}
      {coe?.category ? <Tag tone="accent">{coe.category}</Tag> : null}
      {coe && coe.experts.length > 1 ? <Tag>{coe.aggregator} of {coe.experts.length}</Tag> : null}
      {coe?.router === "named" ? <Tag>named</Tag> : null}
      {talk.underWay(turn) ? <span class="spin" /> : null}
      {turn.state === "stopped" ? <Tag tone="warn">stopped</Tag> : null}
      {turn.finish === "length" ? <Tag tone="warn">cut at the limit of tokens</Tag> : null}
    </div>
  );
}

function Drafts({ turn }: { turn: Turn }): JSX.Element | null {
  const { coe } = turn;
  if (!coe || coe.experts.length < 2 || turn.state === "route") return null;
  const said = coe.explain?.drafts ?? [];
  if (!said.length && turn.state !== "done") {
    return (
      <p class="small muted">
        Drafts of {coe.experts.join(", ")} are under way.
      </p>
    );
  }
  const failed = Object.entries(coe.failed).filter(([name]) => !said.some((draft) => draft.expert === name && draft.text));
  return (
    <section class="stack tight" aria-label="Drafts">
      <h3>Drafts</h3>
      <div class="drafts">
        {said.filter((draft) => draft.text).map((draft, index) => {
          const weight = coe.explain?.weights[draft.expert];
          const score = coe.explain?.scores[draft.expert];
          return (
            <div class={`draft c${colourOf(draft.expert)}`} key={index} tabIndex={0} role="group" aria-label={`Draft of ${draft.expert}`}>
              <div class="row wrap">
                <Expert name={draft.expert} />
                {draft.expert === coe.expert ? <Tag tone="ok">chosen</Tag> : null}
              </div>
              <Prose text={draft.text} />
              <span class="foot muted small">
                {weight !== undefined ? `weight ${format.percent(weight)}` : ""}
                {score !== undefined ? ` · score ${score.toFixed(2)}` : ""}
              </span>
            </div>
          );
        })}
        {failed.map(([name, why]) => (
          <div class={`draft c${colourOf(name)}`} key={name}>
            <div class="row wrap">
              <Expert name={name} />
              <Tag tone="bad">no draft</Tag>
            </div>
            <span class="small muted">{why}</span>
          </div>
        ))}
      </div>
    </section>
  );
}

function Foot({ turn, chosen, narrow }: { turn: Turn; chosen: boolean; narrow: boolean }): JSX.Element | null {
  const [problem, setProblem] = useState<unknown>(null);
  const { coe } = turn;
  if (turn.ended === null || (turn.state === "failed" && !coe)) return null;
  const rate = (thumbs: "up" | "down") => () => {
    setProblem(null);
    talk.rate(turn, thumbs).catch(setProblem);
  };
  const spent = (turn.ended - turn.began) / 1000;
  const cost = coe ? why.costOf(coe) : null;
  const select = () => {
    talk.selected.set(turn.id);
    if (coe) spoken.set(coe.reason);
  };
  return (
    <div class="foot">
      {turn.usage ? <span>{turn.usage.prompt_tokens} + {turn.usage.completion_tokens} tokens</span> : null}
      <span>{format.seconds(spent)}</span>
      {turn.first !== null ? <span>first words after {format.seconds((turn.first - turn.began) / 1000)}</span> : null}
      {cost !== null ? <span>{format.usd(cost)}</span> : null}
      <span class="row" style={{ marginLeft: "auto", gap: "2px" }}>
        {coe && !narrow ? (
          <button type="button" class="button quiet slim" aria-pressed={chosen} onClick={select}>
            Why
          </button>
        ) : null}
        {turn.state === "done" ? (
          <>
            <Copy text={turn.text} />
            <button type="button" class="button quiet slim square" aria-label="Good answer" aria-pressed={turn.thumbs === "up"} onClick={rate("up")}>
              <Icon name="up" />
            </button>
            <button type="button" class="button quiet slim square" aria-label="Bad answer" aria-pressed={turn.thumbs === "down"} onClick={rate("down")}>
              <Icon name="down" />
            </button>
          </>
        ) : null}
      </span>
      {problem ? <Failure error={problem} /> : null}
    </div>
  );
}

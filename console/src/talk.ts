// A chat: what was asked and answered. The words of an answer are collected and shown once a frame.

import { apiKey, send, stream } from "./api";
import { spoken } from "./spoken";
import { store } from "./store";
import type { Coe, Usage } from "./types";

export interface Options {
  model: string;
  k: number | null;
  aggregator: string;
  maxTokens: number | null;
  temperature: number | null;
  system: string;
}

export interface Turn {
  id: number;
  asked: string;
  options: Options;
  text: string;
  /** `deciding`: a route alone is asked for; `route`: it is there. */
  state: "waiting" | "streaming" | "deciding" | "done" | "stopped" | "failed" | "route";
  answerId: string | null;
  coe: Coe | null;
  usage: Usage | null;
  finish: string | null;
  error: unknown;
  began: number;
  first: number | null;
  ended: number | null;
  thumbs: "up" | "down" | null;
}

export const START: Options = { model: "auto", k: null, aggregator: "", maxTokens: null, temperature: null, system: "" };

/** They live as long as the key is used: what was said with one is neither shown nor sent with the next. */
export const turns = store<Turn[]>([]);
export const options = store<Options>(START);
export const draftPrompt = store<string>("");
export const selected = store<number | null>(null);

let nextId = 1;
const running = new Map<number, AbortController>();

/** Is something of it still to come? */
export const underWay = ({ state }: Turn): boolean => state === "waiting" || state === "streaming" || state === "deciding";

/** Ends the conversation. */
export function forget(): void {
  for (const stop of running.values()) stop.abort();
  turns.set([]);
  selected.set(null);
  spoken.set("");
}

apiKey.watch(() => {
  forget();
  options.set(START);
  draftPrompt.set("");
});

export const stop = (id: number): void => running.get(id)?.abort();

export function bodyOf(asked: string, own: Options, before: readonly Turn[]): Record<string, unknown> {
  const messages: { role: string; content: string }[] = [];
  if (own.system.trim()) messages.push({ role: "system", content: own.system });
  for (const turn of before) {
    if (!turn.text || turn.state === "route") continue;
    messages.push({ role: "user", content: turn.asked }, { role: "assistant", content: turn.text });
  }
  messages.push({ role: "user", content: asked });
  const coe: Record<string, unknown> = { explain: true };
  if (own.model === "auto" && own.k !== null) coe.k = own.k;
  if (own.model === "auto" && own.aggregator) coe.aggregator = own.aggregator;
  const body: Record<string, unknown> = { model: own.model, messages, coe };
  if (own.maxTokens !== null) body.max_tokens = own.maxTokens;
  if (own.temperature !== null) body.temperature = own.temperature;
  return body;
}

function begin(asked: string, state: Turn["state"]): Turn {
  const turn: Turn = {
    id: nextId++,
    asked,
    options: options.get(),
    text: "",
    state,
    answerId: null,
    coe: null,
    usage: null,
    finish: null,
    error: null,
    began: performance.now(),
    first: null,
    ended: null,
    thumbs: null,
  };
  turns.update((all) => [...all, turn]);
  selected.set(turn.id);
  spoken.set(spokenOf(turn));
  return turn;
}

const SPOKEN = 300;

/** A turn in a sentence. An error is none here: it is an alert where it stands. */
export function spokenOf(turn: Turn): string {
  const { coe, state, text } = turn;
  const who = coe?.expert ?? coe?.experts.join(", ") ?? turn.options.model;
  if (state === "waiting" || state === "deciding") return "Choosing an expert";
  if (state === "streaming") return `${who} answers`;
  if (state === "done") return `${who} has answered: ${text.length > SPOKEN ? `${text.slice(0, SPOKEN)}…` : text}`;
  if (state === "route") return `Routed: ${coe?.reason ?? who}`;
  return state === "stopped" ? "Stopped" : "";
}

/** The turn as it is now, in the list: a copy, so that only its part of the page is drawn anew. */
function show(turn: Turn): void {
  if (!turns.get().some((each) => each.id === turn.id)) return;
  turns.update((all) => all.map((each) => (each.id === turn.id ? { ...turn } : each)));
  spoken.set(spokenOf(turn));
}

/** Runs what fills the turn. However that ends, the turn says so. */
async function filled(turn: Turn, fill: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const stopped = new AbortController();
  running.set(turn.id, stopped);
  try {
    await fill(stopped.signal);
  } catch (error) {
    if (stopped.signal.aborted) turn.state = "stopped";
    else Object.assign(turn, { state: "failed", error });
  } finally {
    running.delete(turn.id);
    turn.ended = performance.now();
    show(turn);
  }
}

/** Shows the turn with the next frame, however often it is called before. */
function shownLater(turn: Turn): () => void {
  let framed = false;
  return () => {
    if (framed) return;
    framed = true;
    requestAnimationFrame(() => {
      framed = false;
      if (turn.ended === null) show(turn);
    });
  };
}

export function ask(asked: string): Promise<void> {
  const before = turns.get();
  const turn = begin(asked, "waiting");
  const later = shownLater(turn);
  const body = { ...bodyOf(asked, turn.options, before), stream: true, stream_options: { include_usage: true } };
  return filled(turn, async (signal) => {
    for await (const events of stream("/v1/chat/completions", body, signal)) {
      for (const { data } of events) if (data !== "[DONE]") heard(turn, JSON.parse(data));
      later();
    }
    if (turn.state === "failed") return;
    if (!turn.finish) throw new Error("The answer broke off.");
    turn.state = "done";
  });
}

/** The decision alone; nothing is generated. */
export function decide(asked: string): Promise<void> {
  const before = turns.get();
  const turn = begin(asked, "deciding");
  return filled(turn, async (signal) => {
    turn.coe = await send<Coe>("POST", "/v1/route", bodyOf(asked, turn.options, before), signal);
    turn.state = "route";
  });
}

interface Chunk {
  id?: string;
  choices?: { delta?: { content?: string }; finish_reason?: string | null }[];
  usage?: Usage | null;
  coe?: Coe;
  error?: { message: string };
}

export function heard(turn: Turn, chunk: Chunk): void {
  if (chunk.error) {
    Object.assign(turn, { state: "failed", error: new Error(chunk.error.message) });
    return;
  }
  turn.answerId = chunk.id ?? turn.answerId;
  if (chunk.coe) turn.coe = chunk.coe;
  if (chunk.usage) turn.usage = chunk.usage;
  const choice = chunk.choices?.[0];
  if (choice?.delta?.content) {
    turn.first ??= performance.now();
    turn.text += choice.delta.content;
    turn.state = "streaming";
  }
  if (choice?.finish_reason) turn.finish = choice.finish_reason;
}

export async function rate(turn: Turn, thumbs: "up" | "down"): Promise<void> {
  await send("POST", "/v1/feedback", { id: turn.answerId, thumbs });
  turns.update((all) => all.map((each) => (each.id === turn.id ? { ...each, thumbs } : each)));
}

// The service's API, with the key of this tab.

import { store } from "./store";
import { eventsOf, type ServerEvent } from "./sse";

const KEY = "coe-key";

/** The key lives as long as the tab: it is in no URL, no cookie, and in nothing that stays. */
export const apiKey = store<string | null>(kept());
/** Said on the page for signing in: why the last key is no more in use. */
export const signedOut = store<string>("");

function kept(): string | null {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}

function keep(key: string | null): void {
  try {
    if (key === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, key);
  } catch {
    // A browser that keeps nothing forgets the key with the page.
  }
}

export function signIn(key: string): void {
  keep(key);
  signedOut.set("");
  apiKey.set(key);
}

export function signOut(why = ""): void {
  keep(null);
  signedOut.set(why);
  apiKey.set(null);
}

/** An answer that is an error, or none at all: then `status` is 0. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly requestId: string | null = null,
  ) {
    super(message);
  }
}

export const AWAY = "The service does not answer. It may be starting, or the network is away.";

export async function call(path: string, options: RequestInit = {}, key = apiKey.get()): Promise<Response> {
  const headers = new Headers(options.headers);
  if (key) headers.set("authorization", `Bearer ${key}`);
  let response: Response;
  try {
    response = await fetch(path, { ...options, headers, credentials: "omit", cache: "no-store" });
  } catch (error) {
    throw lost(error);
  }
  if (response.ok) return response;
  const problem = await problemOf(response);
  if (response.status === 401 && key === apiKey.get()) signOut(problem.message);
  throw problem;
}

async function problemOf(response: Response): Promise<Problem> {
  const id = response.headers.get("x-request-id");
  try {
    const { error } = await response.json();
    return new Problem(response.status, String(error.code), String(error.message), id);
  } catch {
    return new Problem(response.status, "", `The service answered with the status ${response.status}.`, id);
  }
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await call(path, { signal })).json() as Promise<T>;
}

export async function send<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  const headers = { "content-type": "application/json" };
  const answer = await call(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal });
  return answer.json() as Promise<T>;
}

/** A POST whose answer is a stream. */
export async function* stream(path: string, body: unknown, signal: AbortSignal): AsyncGenerator<ServerEvent[]> {
  const headers = { "content-type": "application/json" };
  yield* read(await call(path, { method: "POST", headers, body: JSON.stringify(body), signal }));
}

/** The events of an answer. heard: called for all that comes. */
export async function* read(response: Response, heard?: () => void): AsyncGenerator<ServerEvent[]> {
  try {
    yield* eventsOf(response, heard);
  } catch (error) {
    throw lost(error);
  }
}

/** A connection that is not there, or breaks, is a TypeError in each browser's own words. */
const lost = (error: unknown): unknown => (error instanceof TypeError ? new Problem(0, "away", AWAY) : error);

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

import { vi } from "vitest";

export interface Asked {
  path: string;
  body: unknown;
  signal: AbortSignal | null;
  answer: (body: unknown, status?: number) => void;
}

/** Requests of the page wait here until a test answers them; like a browser's, they end when they are called off. */
export function requests(): Asked[] {
  const asked: Asked[] = [];
  vi.stubGlobal("fetch", (path: string, { body, signal = null }: RequestInit) => {
    return new Promise<Response>((resolve, reject) => {
      const gone = () => reject(new DOMException("called off", "AbortError"));
      if (signal?.aborted) return gone();
      signal?.addEventListener("abort", gone);
      const answer = (told: unknown, status = 200) => resolve(new Response(JSON.stringify(told), { status }));
      asked.push({ path, body: typeof body === "string" ? JSON.parse(body) : body, signal, answer });
    });
  });
  return asked;
}

/** Until all that is under way has gone as far as it can. */
export const settled = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0));

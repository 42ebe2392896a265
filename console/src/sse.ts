// Server-sent events out of the chunks of a `fetch` body. EventSource cannot send the API key in a header.

export interface ServerEvent {
  id: string | null;
  kind: string;
  data: string;
}

/** Feed it text as it comes; it gives the events that are complete. A last one without its empty line is no event. */
export class SseParser {
  #rest = "";
  #id: string | null = null;

  push(text: string): ServerEvent[] {
    const whole = (this.#rest + text).replace(/\r\n?/g, "\n");
    const events: ServerEvent[] = [];
    let from = 0;
    for (let end = whole.indexOf("\n\n"); end >= 0; end = whole.indexOf("\n\n", from)) {
      const event = this.#event(whole.slice(from, end));
      if (event) events.push(event);
      from = end + 2;
    }
    this.#rest = whole.slice(from);
    return events;
  }

  #event(block: string): ServerEvent | null {
    let kind = "message";
    const data: string[] = [];
    for (const line of block.split("\n")) {
      if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
      else if (line.startsWith("event:")) kind = line.slice(6).trim();
      else if (line.startsWith("id:")) this.#id = line.slice(3).trim();
    }
    return data.length ? { id: this.#id, kind, data: data.join("\n") } : null;
  }
}

/** The events of a response, as lists of those that came together. heard: called for all that comes. */
export async function* eventsOf(response: Response, heard?: () => void): AsyncGenerator<ServerEvent[]> {
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const parser = new SseParser();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      heard?.();
      const events = parser.push(value);
      if (events.length) yield events;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

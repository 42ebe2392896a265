// As much of a document as Preact needs to draw a view in, and tests to look at it. A real browser has tests/browser.

import { type ComponentChild, options, render } from "preact";
import { onTestFinished, vi } from "vitest";
import { settled } from "./answers";

type Listener = (event: unknown) => void;

export class Part {
  readonly nodeType: number;
  readonly childNodes: Part[] = [];
  readonly attributes = new Map<string, string>();
  readonly style: Record<string, unknown> = {};
  readonly #listeners = new Map<string, Listener>();
  readonly namespaceURI = "http://www.w3.org/1999/xhtml";
  readonly ownerDocument = { createElementNS: (_: string, name: string) => new Part(name), createTextNode: (text: string) => new Part("", text) };
  parentNode: Part | null = null;
  value: unknown = undefined;
  #before: Part | null = null;

  constructor(
    readonly localName: string,
    public data = "",
  ) {
    this.nodeType = localName ? 1 : 3;
  }

  get firstChild(): Part | null {
    return this.childNodes[0] ?? null;
  }

  get nextSibling(): Part | null {
    const among = this.parentNode?.childNodes ?? [];
    return among[among.indexOf(this) + 1] ?? null;
  }

  insertBefore(child: Part, before: Part | null): void {
    if (child.parentNode) child.remove();
    this.childNodes.splice(before ? this.childNodes.indexOf(before) : this.childNodes.length, 0, child);
    child.parentNode = this;
  }

  removeChild(child: Part): void {
    child.remove();
  }

  remove(): void {
    if (this.contains(globals.activeElement)) globals.activeElement = globals.body;
    const among = this.parentNode?.childNodes;
    among?.splice(among.indexOf(this), 1);
    this.parentNode = null;
  }

  setAttribute(name: string, value: unknown): void {
    this.attributes.set(name, String(value));
  }

  removeAttribute(name: string): void {
    this.attributes.delete(name);
  }

  addEventListener(kind: string, listener: Listener): void {
    this.#listeners.set(kind, listener);
  }

  removeEventListener(kind: string): void {
    this.#listeners.delete(kind);
  }

  contains(other: unknown): boolean {
    return other === this || this.childNodes.some((child) => child.contains(other));
  }

  get isConnected(): boolean {
    return globals.body.contains(this);
  }

  focus(): void {
    globals.activeElement = this;
  }

  /** As browsers do it: who had the focus before a dialog has it after it, if the dialog is closed while it is in the page. */
  showModal(): void {
    this.#before = globals.activeElement;
    this.focus();
  }

  close(): void {
    if (this.isConnected) this.#before?.focus();
    setTimeout(() => this.does("close"), 0);
  }

  /** What a user does with it. */
  does(kind: string, event: Record<string, unknown> = {}): Promise<void> {
    const listener = this.#listeners.get(kind);
    if (!listener) throw new Error(`${this.localName} "${this.text}" does not listen to ${kind}`);
    listener.call(this, { type: kind, currentTarget: this, target: this, preventDefault: () => undefined, ...event });
    return settled();
  }

  get text(): string {
    return this.data + this.childNodes.map((child) => child.text).join("");
  }

  all(name: string): Part[] {
    return this.childNodes.flatMap((child) => [...(child.localName === name ? [child] : []), ...child.all(name)]);
  }

  one(name: string, text: string): Part {
    const found = this.all(name).find((part) => part.text.includes(text) || part.attributes.get("aria-label") === text);
    if (!found) throw new Error(`there is no ${name} "${text}" in: ${this.text}`);
    return found;
  }
}

const globals: { activeElement: Part | null; body: Part; getElementById: () => null } = {
  activeElement: null,
  body: new Part("body"),
  getElementById: () => null,
};

/** The place that the view is drawn in; draw it anew by what comes second. */
export async function page(view: () => ComponentChild): Promise<[Part, () => Promise<void>]> {
  vi.stubGlobal("document", globals);
  vi.stubGlobal("HTMLElement", Part);
  (options as { requestAnimationFrame?: (flush: () => void) => void }).requestAnimationFrame = (flush) => setTimeout(flush, 0);
  const root = new Part("div");
  globals.body.insertBefore(root, null);
  const draw = () => {
    render(view(), root as unknown as Element);
    return seen();
  };
  onTestFinished(() => render(null, root as unknown as Element));
  await draw();
  return [root, draw];
}

/** Until it is drawn, its effects have run, and what these ask for is asked for. */
export async function seen(): Promise<void> {
  for (let n = 0; n < 4; n += 1) await settled();
}

export const focused = (): Part | null => globals.activeElement;

import type { VNode } from "preact";

/** What of a tree is text, and which elements there are. */
export function seen(node: unknown, found: { text: string; tags: string[] } = { text: "", tags: [] }): { text: string; tags: string[] } {
  if (typeof node === "string" || typeof node === "number") found.text += node;
  else if (Array.isArray(node)) for (const each of node) seen(each, found);
  else if (node && typeof node === "object") {
    const { type, props } = node as VNode<{ children?: unknown }>;
    if (typeof type === "function") seen((type as (props: unknown) => unknown)(props), found);
    else {
      if (typeof type === "string") found.tags.push(type);
      seen(props.children, found);
    }
  }
  return found;
}

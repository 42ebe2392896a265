// What models say, with some of Markdown: never markup, no images, no links that can be followed. A part that is still
// coming is shown as far as it is there.

import type { ComponentChildren, JSX } from "preact";

export type Block =
  | { is: "text"; text: string }
  | { is: "heading"; level: number; text: string }
  | { is: "code"; language: string; text: string }
  | { is: "list"; ordered: boolean; start: number; items: string[] }
  | { is: "quote"; text: string }
  | { is: "rule" }
  | { is: "table"; head: string[]; rows: string[][] };

/** What is longer is shown as it was written: no text may make the page think for long. */
const LONGEST_LINE = 1000;
const LONGEST_SPANS = 4000;
// None of these goes over a line more than once: what may stand at its end is taken off before, or is all the rest.
const FENCE = /^ {0,3}(```+|~~~+)\s*([\w+#.-]*)$/;
const HEADING = /^ {0,3}(#{1,6})\s+/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}$/;
const ITEM = /^ {0,3}(?:([-*+])|(\d{1,9})[.)])\s+(.*)$/s;

export function blocks(text: string): Block[] {
  const lines = text.replace(/\r\n?/g, "\n").split("\n");
  const found: Block[] = [];
  let plain: string[] = [];
  const flush = () => {
    const joined = plain.join("\n").trimEnd();
    if (joined.trim()) found.push({ is: "text", text: joined });
    plain = [];
  };
  for (let at = 0; at < lines.length; at += 1) {
    const line = lines[at] ?? "";
    if (line.length > LONGEST_LINE) {
      plain.push(line);
      continue;
    }
    const trimmed = line.trimEnd();
    const fence = FENCE.exec(trimmed);
    if (fence) {
      flush();
      const mark = fence[1] ?? "```";
      const code: string[] = [];
      while (++at < lines.length && !(lines[at] ?? "").trim().startsWith(mark)) code.push(lines[at] ?? "");
      found.push({ is: "code", language: fence[2] ?? "", text: code.join("\n") });
      continue;
    }
    const heading = HEADING.exec(line);
    if (heading) {
      flush();
      found.push({ is: "heading", level: (heading[1] ?? "#").length, text: unclosed(trimmed.slice(heading[0].length)) });
      continue;
    }
    if (RULE.test(trimmed)) {
      flush();
      found.push({ is: "rule" });
      continue;
    }
    if (line.includes("|") && isDivider(lines[at + 1] ?? "")) {
      flush();
      const rows: string[][] = [];
      const head = cells(line);
      for (at += 1; (lines[at + 1] ?? "").includes("|"); at += 1) rows.push(cells(lines[at + 1] ?? ""));
      found.push({ is: "table", head, rows });
      continue;
    }
    const item = ITEM.exec(line);
    if (item) {
      flush();
      const items: string[] = [];
      const ordered = item[2] !== undefined;
      const start = Number(item[2] ?? 1);
      for (; at < lines.length; at += 1) {
        const next = ITEM.exec(lines[at] ?? "");
        if (next && (next[2] !== undefined) === ordered) items.push(next[3] ?? "");
        else if (/^\s{2,}\S/.test(lines[at] ?? "") && items.length) items[items.length - 1] += `\n${(lines[at] ?? "").trim()}`;
        else break;
      }
      at -= 1;
      found.push({ is: "list", ordered, start, items });
      continue;
    }
    if (/^ {0,3}>/.test(line)) {
      flush();
      const quoted: string[] = [];
      for (; at < lines.length && /^ {0,3}>/.test(lines[at] ?? ""); at += 1) {
        quoted.push((lines[at] ?? "").replace(/^ {0,3}> ?/, ""));
      }
      at -= 1;
      found.push({ is: "quote", text: quoted.join("\n") });
      continue;
    }
    if (!line.trim()) flush();
    else plain.push(line);
  }
  flush();
  return found;
}

/** A heading without the signs that may close it. */
function unclosed(heading: string): string {
  let end = heading.length;
  while (heading[end - 1] === "#") end -= 1;
  return heading.slice(0, end).trimEnd();
}

/** The line between the head of a table and its rows, of at least two columns. */
function isDivider(line: string): boolean {
  const found = /^ {0,3}[|:-]/.test(line) ? cells(line) : [];
  return found.length > 1 && found.every((cell) => /^:?-+:?$/.test(cell));
}

const cells = (line: string): string[] =>
  line
    .trim()
    .replace(/^\||\|$/g, "")
    .split("|")
    .map((cell) => cell.trim());

const SPAN = /(`+)([^`][\s\S]*?)\1(?!`)|\*\*(?=\S)([\s\S]*?\S)\*\*|(?<![\w*])\*(?=[^\s*])([^*]*[^\s*])\*(?!\*)|(?<!\w)_(?=\S)([^_]*\S)_(?!\w)/;

/** Code, strong and emphasis; everything else stays as it was written. */
export function spans(text: string): ComponentChildren[] {
  if (text.length > LONGEST_SPANS) return [text];
  const out: ComponentChildren[] = [];
  let rest = text;
  for (let found = SPAN.exec(rest); found; found = SPAN.exec(rest)) {
    if (found.index) out.push(rest.slice(0, found.index));
    if (found[2] !== undefined) out.push(<code>{found[2]}</code>);
    else if (found[3] !== undefined) out.push(<strong>{spans(found[3])}</strong>);
    else out.push(<em>{spans(found[4] ?? found[5] ?? "")}</em>);
    rest = rest.slice(found.index + found[0].length);
  }
  if (rest) out.push(rest);
  return out;
}

export function Markdown({ text }: { text: string }): JSX.Element {
  return (
    <div class="prose">
      {blocks(text).map((block, index) => (
        <BlockView key={index} block={block} />
      ))}
    </div>
  );
}

function BlockView({ block }: { block: Block }): JSX.Element {
  switch (block.is) {
    case "code":
      return (
        <pre tabIndex={0} aria-label={block.language ? `Code, ${block.language}` : "Code"}>
          <code>{block.text}</code>
        </pre>
      );
    case "heading":
      return <p class={`h h${Math.min(block.level, 4)}`}>{spans(block.text)}</p>;
    case "rule":
      return <hr />;
    case "quote":
      return <blockquote>{spans(block.text)}</blockquote>;
    case "list": {
      const items = block.items.map((item, index) => <li key={index}>{spans(item)}</li>);
      return block.ordered ? <ol start={block.start}>{items}</ol> : <ul>{items}</ul>;
    }
    case "table":
      return (
        <div class="scroll" tabIndex={0} role="region" aria-label="Table">
          <table>
            <thead>
              <tr>
                {block.head.map((cell, index) => (
                  <th key={index}>{spans(cell)}</th>
                ))}
              </tr>
            </thead>
            <tbody>
              {block.rows.map((row, index) => (
                <tr key={index}>
                  {row.map((cell, column) => (
                    <td key={column}>{spans(cell)}</td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      );
    default:
      return <p>{spans(block.text)}</p>;
  }
}

import { describe, expect, it } from "vitest";
import { blocks, Markdown, spans } from "../src/markdown";
import { seen } from "./tree";

const HOSTILE = [
  "<script>alert(1)</script>",
  "<img src=x onerror=alert(1)>",
  "[click](javascript:alert(1))",
  "![x](https://elsewhere.example/pixel.png)",
  "<a href='https://elsewhere.example'>x</a>",
  "&lt;b&gt; <style>*{display:none}</style>",
  "```html\n<script>alert(1)</script>\n```",
  "| <b>a</b> | b |\n|---|---|\n| <iframe src=//e> | x |",
  "# <svg onload=alert(1)>",
];

describe("Markdown", () => {
  it.each(HOSTILE)("makes no element of the markup in %j", (text) => {
    const { tags } = seen(<Markdown text={text} />);
    const allowed = ["div", "p", "pre", "code", "table", "thead", "tbody", "tr", "th", "td", "strong", "em", "ul", "ol", "li", "hr", "blockquote"];
    expect(tags.filter((tag) => !allowed.includes(tag))).toEqual([]);
  });

  it("shows markup as it was written", () => {
    expect(seen(<Markdown text="say <b>hi</b> & <script>" />).text).toBe("say <b>hi</b> & <script>");
  });

  it("loses no word of a plain text", () => {
    const text = "One * two_three_four 5*6 `open **still";
    expect(seen(<Markdown text={text} />).text).toBe(text);
  });

  it("knows code, strong and emphasis", () => {
    expect(seen(spans("a `b < c` **d *e* f** _g_"))).toEqual({ text: "a b < c d e f g", tags: ["code", "strong", "em", "em"] });
  });

  it("shows a fence that is still open as code", () => {
    expect(blocks("so:\n```sql\nSELECT 1")).toEqual([
      { is: "text", text: "so:" },
      { is: "code", language: "sql", text: "SELECT 1" },
    ]);
  });

  it("knows lists, headings, quotes, rules and tables", () => {
    const kinds = blocks("# t\n- a\n- b\n\n1. x\n2. y\n> q\n\n---\n|a|b|\n|-|-|\n|1|2|\n").map((block) => block.is);
    expect(kinds).toEqual(["heading", "list", "list", "quote", "rule", "table"]);
  });

  it.each(["**".repeat(20_000), "`".repeat(20_000), "|".repeat(20_000), "> ".repeat(20_000), "_a ".repeat(20_000), " ".repeat(40_000)])(
    "is done with what would keep it busy",
    (text) => {
      expect(seen(<Markdown text={text} />).text.length).toBeLessThanOrEqual(text.length);
    },
  );

  it("knows headings that are closed, fences and dividers with spaces behind them, and no table of one column", () => {
    expect(blocks("## t ##  \n``` sql  \nx\n```")).toEqual([
      { is: "heading", level: 2, text: "t" },
      { is: "code", language: "sql", text: "x" },
    ]);
    expect(blocks("a | b\n :-- | --: |  \n1 | 2")).toEqual([{ is: "table", head: ["a", "b"], rows: [["1", "2"]] }]);
    expect(["|a|\n|-|", "a | b\n- | x", "a | b\n    - | -"].map((text) => blocks(text)[0]?.is)).toEqual(["text", "text", "text"]);
  });

  const wide = " ".repeat(900);
  it.each([
    `a|b\n-|-${wide}x`,
    `a|b\n${"-|".repeat(450)}x`,
    `\`\`\`${wide}!`,
    `#${wide}x\u2028y`,
    `# ${"#".repeat(900)}x`,
    `---${wide}x`,
    `-${wide}x\u2028y`,
  ])("is soon done with thousands of lines that would each keep it busy, as of %j", (line) => {
    const text = Array(4000).fill(line).join("\n");
    const began = performance.now();
    blocks(text);
    expect(performance.now() - began).toBeLessThan(1000); // it takes some 20 ms
  });
});

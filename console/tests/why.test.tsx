import { describe, expect, it } from "vitest";
import { Why } from "../src/parts/why";
import type { Call, Coe, Explain } from "../src/types";
import { seen } from "./tree";

const EXPLAIN: Explain = { weights: { ada: 1 }, candidates: ["ada", "bob"], removed: {}, router_seconds: 0.01, votes: {}, scores: {} };

function shown(coe: Partial<Coe>, explain: Partial<Explain> = {}): string {
  const whole: Coe = {
    request_id: "req-1",
    expert: "ada",
    experts: ["ada"],
    category: null,
    probabilities: {},
    margin: 0.4,
    reason: "ada is the best",
    router: "skill",
    aggregator: "single",
    used: ["ada"],
    failed: {},
    calls: [],
    note: "",
    ...coe,
    explain: { ...EXPLAIN, ...explain },
  };
  return seen(<Why coe={whole} />).text;
}

const call = (cost: number | null): Call => ({ expert: "ada", role: "draft", usage: null, seconds: 1, cost, error: null });

describe("Why", () => {
  it("shows the skills as they were told, with their signs, the largest first", () => {
    const skills = { "7": 0.6, "US history (modern)": 4.26, "it's x": -2, "vote_3, in general": 1 };
    const text = shown({ reason: "ada: US history (modern) +4, in general +3; expected score 64" }, { skills });
    expect(text).toContain("Skills, in points for ada" + "US history (modern) +4.3" + "it's x −2.0" + "vote_3, in general +1.0" + "7 +0.6");
  });

  it.each([[{ skills: {} }], [{}]])("names no skill where none was told: %j", (explain) => {
    expect(shown({ reason: "ada: algebra +12, in general +3" }, explain)).not.toContain("Skills");
  });

  it("says of a sum which calls it leaves out", () => {
    expect(shown({ calls: [call(0.5), call(1)] })).toMatch(/\$1\.50 in all(?!,)/);
    expect(shown({ calls: [call(0.5), call(null)] })).toContain("$0.50 in all, without 1 call of unknown cost");
    expect(shown({ calls: [call(null), call(0.25), call(null)] })).toContain("$0.25 in all, without 2 calls of unknown cost");
    expect(shown({ calls: [call(null), call(null)] })).not.toContain("in all");
  });
});

import { describe, expect, it } from "vitest";
import * as format from "../src/format";

describe("format", () => {
  it.each([
    [null, "–"],
    [0, "0 ms"],
    [0.0004, "0.40 ms"],
    [0.25, "250 ms"],
    [2.34, "2.3 s"],
    [125, "2 min 5 s"],
    [7260, "2 h 1 min"],
    [0.9996, "1.0 s"],
    [59.96, "1 min 0 s"],
    [119.6, "2 min 0 s"],
    [3599.7, "1 h 0 min"],
    [7199, "2 h 0 min"],
  ])("writes %s seconds as %s", (s, text) => expect(format.seconds(s)).toBe(text));

  it("counts one and many", () => {
    expect([0, 1, 2000].map((n) => format.counted(n, "expert"))).toEqual(["0 experts", "1 expert", "2,000 experts"]);
    expect(format.counted(3, "category", "categories")).toBe("3 categories");
  });

  it("says the year of a day in another one", () => {
    const at = (year: number) => new Date(year, 2, 3, 14, 5).getTime() / 1000;
    expect(format.day(at(2026), at(2026))).toBe("3 Mar, 14:05");
    expect(format.day(at(2027), at(2026))).toBe("3 Mar 2027, 14:05");
  });

  it.each([
    [512, "512 B"],
    [1536, "1.5 KiB"],
    [270 * 2 ** 20, "270 MiB"],
  ])("writes %s bytes as %s", (n, text) => expect(format.bytes(n)).toBe(text));

  it.each([
    [0, "$0"],
    [0.00012, "$0.00012"],
    [1.5, "$1.50"],
    [null, "–"],
  ])("writes %s dollars as %s", (n, text) => expect(format.usd(n)).toBe(text));
});

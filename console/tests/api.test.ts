import { afterEach, describe, expect, it, vi } from "vitest";

describe("the key of the tab", () => {
  afterEach(() => vi.unstubAllGlobals());

  it("is used, and forgotten with the page, where a browser keeps nothing", async () => {
    const blocked = () => {
      throw new DOMException("storage is blocked", "SecurityError");
    };
    vi.stubGlobal("sessionStorage", { getItem: blocked, setItem: blocked, removeItem: blocked });
    vi.resetModules();
    const { apiKey, signIn, signOut } = await import("../src/api");
    expect(apiKey.get()).toBe(null);
    signIn("coe-one");
    expect(apiKey.get()).toBe("coe-one");
    signOut();
    expect(apiKey.get()).toBe(null);
  });
});

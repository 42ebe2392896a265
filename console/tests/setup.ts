import { vi } from "vitest";

// What a browser has and node has not; the modules read it when they are loaded.
vi.stubGlobal("sessionStorage", { getItem: () => null, setItem: () => undefined, removeItem: () => undefined });

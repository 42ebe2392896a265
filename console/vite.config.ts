import { defineConfig } from "vitest/config";

declare const process: { env: Record<string, string | undefined> };

// `npm run build` writes what the service ships; `npm run dev` shows the sources beside the service at COE_URL.
const service = process.env.COE_URL ?? "http://127.0.0.1:8000";

export default defineConfig({
  base: "/console/",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: "../orchestrator/console",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    sourcemap: false,
    reportCompressedSize: true,
  },
  server: {
    proxy: { "/v1": service, "/admin": service },
  },
  test: { include: ["tests/**/*.test.{ts,tsx}"], environment: "node", setupFiles: ["tests/setup.ts"] },
});

import { defineConfig } from "vitest/config";

// `npm run build` writes what the service ships; `npm run dev` shows the sources beside a service on port 8000.
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
    proxy: { "/v1": "http://127.0.0.1:8000", "/admin": "http://127.0.0.1:8000", "/health": "http://127.0.0.1:8000" },
  },
  test: { include: ["tests/**/*.test.{ts,tsx}"], environment: "node" },
});

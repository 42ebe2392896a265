// Drawn here: nothing comes from elsewhere.

import type { JSX } from "preact";

const PATHS = {
  chat: "M2.5 3.500h11v7.500h-6l-3 2.500v-2.500h-2z",
  decisions: "M3 8h3m0 0 4-4.500h3M6 8l4 4.500h3M11.500 2l2 1.500-2 1.500m0 6 2 1.500-2 1.500",
  experts: "M2.500 3h4.500v4.500h-4.500zM9 3h4.500v4.500h-4.500zM2.500 9h4.500v4.500h-4.500zM9 9h4.500v4.500h-4.500z",
  timeline: "M2 4h6m-3 4h8m-11 4h5m3 0h4",
  batches: "M8 2l6 3-6 3-6-3zM2 8l6 3 6-3M2 11l6 3 6-3",
  keys: "M9.500 6.500a3.500 3.500 0 1 0-2.400 3.300l1.400 1.400h1.500v1.500h1.500v1.500h2v-2.500L9.300 7.500M5 5h0.010",
  router: "M2.500 13.500v-11m0 11h11M5 11v-3m3 3v-6m3 6v-4.500",
  sun: "M8 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM8 1v1.500m0 11v1.500M1 8h1.500m11 0h1.500M3 3l1 1m8 8 1 1m0-10-1 1m-8 8-1 1",
  moon: "M13.500 9.500a6 6 0 1 1-7-7 5 5 0 0 0 7 7z",
  auto: "M8 2a6 6 0 1 0 0 12zM8 2a6 6 0 0 1 0 12",
  out: "M6.500 2.500h-4v11h4M10 5l3 3-3 3m3-3h-7",
  send: "M2.500 8h10m-4-4.500 4.500 4.500-4.500 4.500",
  stop: "M4.500 4.500h7v7h-7z",
  up: "M5 7l3-4.500c1 0 1.500 1 1.200 2l-0.500 2h4.300l-1 6.500h-7zM2.500 7h2.500v6.500h-2.500z",
  down: "M5 9l3 4.500c1 0 1.500-1 1.200-2l-0.500-2h4.300l-1-6.500h-7zM2.500 9h2.500v-6.500h-2.500z",
  copy: "M5.500 5.500h8v8h-8zM3 10.500h-0.500v-8h8v0.500",
  warn: "M8 2l6.500 11.500h-13zM8 6.500v3m0 2v0.010",
  info: "M8 2a6 6 0 1 0 0 12 6 6 0 0 0 0-12zM8 7.500v3.500M8 5v0.010",
  plus: "M8 3v10m-5-5h10",
  close: "M4 4l8 8m0-8-8 8",
  gear: "M3 4.500h6m3 0h1M3 8h1m3 0h6M3 11.500h5m3 0h2M9 3v3M4 6.500v3M8 10v3",
  download: "M8 2.500v8m-3-3 3 3 3-3M3 13.500h10",
} as const;

export type IconName = keyof typeof PATHS;

export const Icon = ({ name }: { name: IconName }): JSX.Element => (
  <svg class="icon" viewBox="0 0 16 16" aria-hidden="true" focusable="false">
    <path d={PATHS[name]} />
  </svg>
);

export const Logo = (): JSX.Element => (
  <svg viewBox="0 0 32 32" aria-hidden="true" focusable="false">
    <rect width="32" height="32" rx="7" fill="#1f5fbf" />
    <path d="M8 16h5m0 0 6-7m-6 7 6 7m-6-7h6" stroke="#fff" stroke-width="2" fill="none" stroke-linecap="round" />
    <circle cx="8" cy="16" r="2.600" fill="#fff" />
    <circle cx="22" cy="8.500" r="2.600" fill="#fff" />
    <circle cx="22" cy="16" r="2.600" fill="#fff" />
    <circle cx="22" cy="23.500" r="2.600" fill="#fff" />
  </svg>
);

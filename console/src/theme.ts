// Light, dark, or as the system has it. What is chosen stays in this browser; the key does not.

import { store } from "./store";

export type Theme = "auto" | "light" | "dark";
const NAME = "coe-theme";
const system = window.matchMedia("(prefers-color-scheme: dark)");

function stored(): Theme {
  try {
    const found = localStorage.getItem(NAME);
    return found === "light" || found === "dark" ? found : "auto";
  } catch {
    return "auto";
  }
}

export const theme = store<Theme>(stored());

function apply(): void {
  const chosen = theme.get();
  document.documentElement.dataset.theme = chosen === "auto" ? (system.matches ? "dark" : "light") : chosen;
}

export function choose(chosen: Theme): void {
  try {
    if (chosen === "auto") localStorage.removeItem(NAME);
    else localStorage.setItem(NAME, chosen);
  } catch {
    // A browser that keeps nothing forgets it with the page.
  }
  theme.set(chosen);
}

theme.watch(apply);
system.addEventListener("change", apply);
apply();

// Figures as people read them.

const number = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const count = (n: number | null | undefined): string => (n == null ? "–" : number.format(n));
/** `1 expert`, `2 experts`; `many` where an s does not make it. */
export const counted = (n: number, one: string, many = `${one}s`): string => `${count(n)} ${n === 1 ? one : many}`;
export const short = (n: number | null | undefined): string => (n == null ? "–" : compact.format(n));
export const percent = (share: number, digits = 0): string => `${(100 * share).toFixed(digits)} %`;

export function seconds(s: number | null | undefined): string {
  if (s == null) return "–";
  if (s < 0.001) return s === 0 ? "0 ms" : `${(s * 1000).toFixed(2)} ms`;
  if (s < 0.9995) return `${Math.round(s * 1000)} ms`;
  if (s < 59.95) return `${s.toFixed(1)} s`;
  const whole = Math.round(s); // before it is parted, so that no part is a whole one of the next
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  const minutes = Math.round(s / 60);
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function bytes(n: number | null | undefined): string {
  if (n == null) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) {
    n /= 1024;
    unit += 1;
  }
  return `${n >= 100 || unit === 0 ? Math.round(n) : n.toFixed(1)} ${units[unit]}`;
}

/** US dollars. Most requests cost a small part of a cent. */
export function usd(n: number | null | undefined): string {
  if (n == null) return "–";
  if (n === 0) return "$0";
  if (n >= 0.01) return `$${n.toFixed(n >= 100 ? 0 : 2)}`;
  return `$${n.toPrecision(2).replace(/e-0?/, "e-")}`;
}

export const clock = (at: number): string => new Date(1000 * at).toLocaleTimeString("en-GB");

/** With the year, unless it is this one. */
export function day(at: number, now = Date.now() / 1000): string {
  const [then, today] = [new Date(1000 * at), new Date(1000 * now)];
  const year = then.getFullYear() === today.getFullYear() ? undefined : "numeric";
  return then.toLocaleString("en-GB", { day: "numeric", month: "short", year, hour: "2-digit", minute: "2-digit" });
}

export function ago(at: number, now = Date.now() / 1000): string {
  const s = Math.max(0, now - at);
  if (s < 5) return "now";
  if (s < 60) return `${Math.floor(s)} s ago`;
  if (s < 3600) return `${Math.floor(s / 60)} min ago`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ago`;
  return `${Math.floor(s / 86400)} d ago`;
}

/** `vote_3` → "vote 3", `best_single` → "best single". */
export const words = (name: string): string => name.replace(/_/g, " ").replace(/^usd\b/, "US dollars");

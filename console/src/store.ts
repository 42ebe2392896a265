// A value that components can watch.

import { useEffect, useState } from "preact/hooks";

export interface Store<T> {
  get(): T;
  set(value: T): void;
  update(change: (value: T) => T): void;
  watch(watcher: () => void): () => void;
}

export function store<T>(first: T): Store<T> {
  let value = first;
  const watchers = new Set<() => void>();
  const set = (next: T) => {
    if (Object.is(value, next)) return;
    value = next;
    for (const watcher of [...watchers]) watcher();
  };
  return {
    get: () => value,
    set,
    update: (change) => set(change(value)),
    watch(watcher) {
      watchers.add(watcher);
      return () => watchers.delete(watcher);
    },
  };
}

export function useStore<T>(from: Store<T>): T {
  const [, again] = useState(0);
  const value = from.get();
  useEffect(() => {
    const draw = () => again((n) => n + 1);
    if (!Object.is(from.get(), value)) draw(); // it changed between what is drawn and this
    return from.watch(draw);
  }, [from]);
  return value;
}

// A store that lives as long as a component, and as what it was made for.
//
// Owns: when another one is made. Does not know: what is stored.

import { useInsertionEffect, useRef, useState, type RefObject } from 'react';

/** The store that `make` made for `key` and `owner`; another one when they change. State, and no memo: React may forget those. */
export function useStored<S>(key: string, owner: unknown, make: () => S): S {
  const [held, hold] = useState(() => ({ key, owner, store: make() }));
  if (held.key === key && held.owner === owner) return held.store;
  const next = { key, owner, store: make() };
  hold(next);
  return next.store;
}

/** The newest callbacks, for whoever calls them later. */
export function useNewest<T>(value: T): RefObject<T> {
  const ref = useRef(value);
  useInsertionEffect(() => {
    ref.current = value;
  });
  return ref;
}

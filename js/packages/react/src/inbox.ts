// What is to be handed to a component that is rendered, and not mounted yet.
//
// Owns: the queue until it opens. Does not know: what is in it.

import { INBOX_MAX } from './limits.js';
import { report } from './report.js';

export interface Inbox<T> {
  /** Delivers `item`, now or when it is opened; `false` if there is no room. */
  put(item: T): boolean;
  /** Delivers what waits, and from then on everything at once. */
  open(open: boolean): void;
}

export function createInbox<T>(deliver: (item: T) => void): Inbox<T> {
  let opened = false;
  let waiting: T[] = [];
  return {
    put(item) {
      if (opened) deliver(item);
      else if (waiting.length < INBOX_MAX) waiting.push(item);
      else return false;
      return true;
    },
    open(open) {
      opened = open;
      if (!open) return;
      const items = waiting;
      waiting = [];
      for (const item of items) report(() => deliver(item));
    },
  };
}

// A page that React renders, frame by frame.
//
// Owns: the root, and time that stands still between frames. Does not know: what is rendered.

import { act, StrictMode, version, type ReactNode } from 'react';
import { createRoot, hydrateRoot, type Root } from 'react-dom/client';
import { afterEach, beforeEach, vi } from 'vitest';

import { TidingsProvider } from '../../src/client-context.js';
import { LINGER_MS, RENDER_MS } from '../../src/limits.js';
import type { FakeClient } from './fake-client.js';

(globalThis as { IS_REACT_ACT_ENVIRONMENT?: boolean }).IS_REACT_ACT_ENVIRONMENT = true;

export const FRAME = 16;

/** When what is not used any more is closed. Under StrictMode, React 18 renders twice and forgets the state of one: that was never mounted. */
export const UNUSED_MS = version.startsWith('18.') ? RENDER_MS : LINGER_MS;

/** Time passes only when a test says so, in every test of the file. */
export function stopTime(): void {
  beforeEach(() => void vi.useFakeTimers({
    toFake: ['setTimeout', 'clearTimeout', 'requestAnimationFrame', 'cancelAnimationFrame', 'performance', 'Date'],
  }));
  afterEach(() => {
    roots.splice(0).forEach((root) => act(() => root.unmount()));
    vi.useRealTimers();
    document.body.replaceChildren();
  });
}

const roots: Root[] = [];

export interface Page {
  readonly text: string;
  show(element: ReactNode): Promise<void>;
}

export async function openPage(client: FakeClient, element: ReactNode, { strict = true, html = null as string | null } = {}): Promise<Page> {
  const container = document.body.appendChild(document.createElement('div'));
  const whole = (element: ReactNode) => {
    const tree = <TidingsProvider client={client}>{element}</TidingsProvider>;
    return strict ? <StrictMode>{tree}</StrictMode> : tree;
  };
  let root: Root;
  await act(async () => {
    if (html === null) {
      root = createRoot(container);
      root.render(whole(element));
    } else {
      container.innerHTML = html;
      root = hydrateRoot(container, whole(element));
    }
  });
  roots.push(root!);
  return {
    get text() { return container.textContent ?? ''; },
    show: (element) => act(async () => root.render(whole(element))),
  };
}

/** What happens in one frame, and the frame itself. */
export async function frame(happens: () => void = () => {}): Promise<void> {
  await act(async () => {
    happens();
    await Promise.resolve();
    vi.advanceTimersByTime(FRAME);
  });
}

export async function pass(ms: number): Promise<void> {
  await act(async () => void vi.advanceTimersByTime(ms));
}

import { fileURLToPath } from 'node:url';
import type { UserConfig } from 'vitest/config';

import base from '../../vitest.config.js';

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));
const { resolve, test } = base as UserConfig & { resolve: { alias: { find: RegExp; replacement: string }[] } };

/** The tests of the hooks with React 18; the adapters are tested with packages that would find the newest one. */
export default {
  root: path('../..'),
  resolve: { alias: [...resolve.alias, { find: /^(react|react-dom)(?=$|\/)/, replacement: path('node_modules/$1') }] },
  test: { ...test, include: ['packages/react/test/{react,event,latest,feed,job,hydrate,ssr}.test.tsx'], env: { REACT: '18' } },
};

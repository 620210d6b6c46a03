import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

/** Tests run on the sources, so that none can pass on a build that is out of date. */
export default defineConfig({
  resolve: {
    alias: [
      { find: '@tidings/node/token', replacement: fileURLToPath(new URL('packages/node/src/token.ts', import.meta.url)) },
      { find: /^@tidings\/(client|react|node|next)$/, replacement: fileURLToPath(new URL('packages/$1/src/index.ts', import.meta.url)) },
    ],
  },
  test: {
    include: ['packages/*/test/**/*.test.{ts,tsx}'],
    testTimeout: 20_000,
    // More than CI has cores: those that talk to a server mostly wait.
    maxWorkers: 4,
  },
});

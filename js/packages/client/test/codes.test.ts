import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { fixture } from './support/fixtures.js';

test('the union of wire codes is that of the fixture: node scripts/codes.js', () => {
  const text = readFileSync(new URL('../src/wire-codes.ts', import.meta.url), 'utf8');
  const { codes } = fixture<{ codes: { code: string }[] }>('errors');
  expect([...text.matchAll(/'(\w+)'/g)].map(([, code]) => code)).toEqual(codes.map(({ code }) => code));
});

// The fixtures of spec/, as every implementation reads them.

import { readFileSync } from 'node:fs';

export function fixture<T>(name: string): T {
  return JSON.parse(readFileSync(new URL(`../../../../../spec/fixtures/${name}.json`, import.meta.url), 'utf8')) as T;
}

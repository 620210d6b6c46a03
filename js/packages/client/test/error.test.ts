import { expect, test } from 'vitest';
import { TidingsError } from '@tidings/client';

test('an error carries its code and what is known of it', () => {
  const error = new TidingsError('overloaded', 'later', { status: 503 });
  expect(error).toBeInstanceOf(Error);
  expect(error).toMatchObject({ name: 'TidingsError', code: 'overloaded', status: 503, message: 'later' });
});

// A client, whatever it knows of its channels.
//
// Owns: the type that every client fits. Does not know: channels; hooks know them from `Register`.

import type { Client } from '@tidings/client';

export type AnyClient = Omit<Client, 'subscribe'> & { readonly subscribe: unknown };

export function untyped(client: AnyClient): Client;
export function untyped(client: AnyClient | null | undefined): Client | null;
export function untyped(client: AnyClient | null | undefined): Client | null {
  return (client ?? null) as Client | null;
}

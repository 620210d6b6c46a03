// Which client the hooks below a place in the tree use.
//
// Owns: the context, and the client of a page that names none. Does not know: what a client does.

import { createContext, createElement, useCallback, useContext, type ReactNode } from 'react';
import type { Client } from '@tidings/client';

import { untyped, type AnyClient } from './any-client.js';
import { defaultClient } from './default-client.js';
import type { Channels } from './register.js';

const ClientContext = createContext<Client | null>(null);

export interface TidingsProviderProps {
  /** Made once, outside of components: whoever makes a client closes it. */
  client: AnyClient;
  children?: ReactNode;
}

/** Hooks below it use `client`. Without a provider they use a client for `/events` on the page's origin, made when it is first needed. */
export function TidingsProvider({ client, children }: TidingsProviderProps): ReactNode {
  return createElement(ClientContext.Provider, { value: untyped(client) }, children);
}

/** The client of the nearest provider, or the default one. */
export function useTidings(): Client<Channels> {
  return useClient()() as unknown as Client<Channels>;
}

/** The same, asked for when it is needed, which is never while a server renders. */
export function useClient(): () => Client {
  const client = useContext(ClientContext);
  return useCallback(() => client ?? defaultClient(), [client]);
}

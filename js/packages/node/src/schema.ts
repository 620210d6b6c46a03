// Owns: how a program's own types of channels and jobs flow through the API. Does not know: anything at run time.
// Flow: in ← `createTidings<{channels, jobs}>()` · out → the types of arguments and results.

/** What a program says of its events and jobs. Both are optional, and so is all of it.
 *
 * ```ts
 * type App = {
 *   channels: { orders: { 'status-update': { id: string; status: string } }; [user: `user:${string}`]: { note: { text: string } } };
 *   jobs: { 'generate-report': { input: { rows: number }; result: { rows: number } } };
 * };
 * ```
 */
export interface Schema {
  channels?: object;
  jobs?: object;
}

export type ChannelsOf<S extends Schema> = S extends { channels: infer C extends object }
  ? C
  : Record<string, Record<string, unknown>>;

export type ChannelName<S extends Schema> = keyof ChannelsOf<S> & string;

export type EventName<S extends Schema, C extends ChannelName<S>> = keyof ChannelsOf<S>[C] & string;

type Jobs<S extends Schema> = S extends { jobs: infer J extends object }
  ? J
  : Record<string, { input: unknown; result: unknown }>;

export type JobType<S extends Schema> = keyof Jobs<S> & string;

export type JobInput<S extends Schema, T extends JobType<S>> = Jobs<S>[T] extends { input: infer I } ? I : unknown;

export type JobResult<S extends Schema, T extends JobType<S>> = Jobs<S>[T] extends { result: infer R } ? R : unknown;

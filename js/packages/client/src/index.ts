// @tidings/client

export type { Client, From, SubscribeOptions, Subscription } from './client.js';
export { createClient } from './create.js';
export { TidingsError } from './error.js';
export type { ClientCode, TidingsErrorCode, TidingsErrorDetails } from './error.js';
export type { AnyChannels, AnyEvents, EventName, EventOf, Reset, ResetReason, TidingsEvent } from './event.js';
export type { Artifact, CompletedJob, Job, JobHandle, JobLog, JobOptions, JobState, StartedJob, TerminalState } from './job.js';
export type { ClientOptions, RetryOptions, TokenAuth, TokenReason } from './options.js';
export type { SchemaEvents, SchemaResult, Schemas, StandardSchema } from './schema.js';
export type { CloseCode, CloseReason, Status, Via } from './status.js';
export type { WireCode } from './wire-codes.js';

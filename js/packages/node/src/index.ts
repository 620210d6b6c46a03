// Owns: what this package exports. Does not know: anything.

export { createTidings, type Tidings, type TidingsOptions } from './client.js';
export { isTidingsError, TidingsError, type ErrorCode, type LocalCode } from './error.js';
export type { WireCode } from './wire-codes.js';
export type { RetrySettings } from './call.js';
export type { ChannelName, EventName, JobInput, JobResult, JobType, Schema } from './schema.js';
export type {
  BatchEvent,
  BatchResult,
  CallOptions,
  EphemeralOptions,
  EventOptions,
  OneChannel,
  Publish,
  Published,
  PublishedEphemeral,
  PublishedToSeveral,
  SeveralChannels,
} from './publish.js';
export type { Cancel, Job, JobFile, JobState, LogLevel, LogLine, Progress, Reported } from './jobs/document.js';
export type { Completed, CreatedJob, CreateOptions, Jobs, ListFilter, RetryPolicy } from './jobs/jobs.js';
export type { ExternalJob, Failed, Report } from './jobs/external.js';
export type { UploadSource } from './jobs/upload.js';
export type { JobEnded, JobItem, WatchOptions } from './jobs/watch.js';
export { cancelled, fail, release, type FailOptions, type JobEnding } from './worker/fail.js';
export type { JobHandler, JobHandlers, StartWorker, StopOptions, Worker, WorkerOptions } from './worker/worker.js';
export type { WorkerJob } from './worker/run.js';
export { createToken, type Grant, type JobRight, type TokenAlgorithm, type TokenClaims, type TokenKey } from './token.js';
export type { Connection, Connections, Revocation, Revoked, Ticket, Tickets } from './admin.js';

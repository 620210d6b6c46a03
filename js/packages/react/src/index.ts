'use client';

// @tidings/react

export type { AnyClient } from './any-client.js';
export { TidingsProvider, useTidings, type TidingsProviderProps } from './client-context.js';
export type { FeedState } from './feed-store.js';
export type { JobFields, JobProgress } from './job-state.js';
export type { JobCallbacks } from './job-store.js';
export type { Latest } from './latest-store.js';
// With a star, so that an application can augment `Register`.
export * from './register.js';
export { useEvent, type UseEventOptions } from './use-event.js';
export { useFeed, type Feed, type UseFeedOptions } from './use-feed.js';
export { useJob, useJobProgress, type UseJob, type UseJobOptions, type UseJobProgressOptions } from './use-job.js';
export { useLatest, type UseLatestOptions } from './use-latest.js';
export { useStartJob, type UseStartJob, type UseStartJobOptions } from './use-start-job.js';
export { useTidingsStatus } from './use-status.js';

//! Problems: the stable codes of answers that are not what the caller asked for.
//!
//! Owns: every code with its status and title, as `spec/fixtures/errors.json` declares them. Does not know: who answers.
//! Flow: an error's `code()` → `Code` → the status and the `application/problem+json` body of an answer.

use core::fmt;

macro_rules! codes {
    ($($name:ident = $code:literal, $status:literal, $title:literal;)*) => {
        /// A stable code. Clients branch on it; it never changes its meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = $title] $name,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code as it stands in a body.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The status of an answer with this code.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// What the code means, in English.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

codes! {
    ChannelNameInvalid = "channel_name_invalid", 400, "The channel name is not valid";
    EventNameInvalid = "event_name_invalid", 400, "The event type is not valid";
    KeyInvalid = "key_invalid", 400, "The conflation key is not valid";
    ChannelReserved = "channel_reserved", 403, "The channel is written by the server only";
    EventReserved = "event_reserved", 422, "The event type is fired by browsers or by the server";
    JsonInvalid = "json_invalid", 400, "The body is not valid JSON";
    FieldMissing = "field_missing", 400, "A required field is missing";
    FieldInvalid = "field_invalid", 400, "A field has a value that is not allowed";
    FieldUnknown = "field_unknown", 400, "A field is not known";
    QueryInvalid = "query_invalid", 400, "A query parameter is not valid";
    ChannelsMissing = "channels_missing", 400, "No channel is named";
    ChannelsTooMany = "channels_too_many", 400, "Too many channels are named";
    FromInvalid = "from_invalid", 400, "The starting position is not valid";
    AfterInvalid = "after_invalid", 400, "The position to read from is not valid";
    LimitInvalid = "limit_invalid", 400, "The limit is not valid";
    SubjectInvalid = "subject_invalid", 400, "The subject is not valid";
    DataConflict = "data_conflict", 400, "An event has either data or text";
    EphemeralConflict = "ephemeral_conflict", 400, "An ephemeral event has no final, key, ttl_ms or idempotency key";
    FinalConflict = "final_conflict", 400, "A final event has no key or ttl_ms";
    IdempotencyKeyInvalid = "idempotency_key_invalid", 400, "The idempotency key is not valid";
    IdempotencyHeaderOnBatch = "idempotency_header_on_batch", 400, "In a batch, idempotency keys stand in the lines";
    RequestMalformed = "request_malformed", 400, "The request is not valid HTTP";
    HostInvalid = "host_invalid", 400, "The Host is missing, doubled or not valid";
    FramingInvalid = "framing_invalid", 400, "The length of the body is not told in one clear way";
    HeaderRepeated = "header_repeated", 400, "A header field came more than once";
    BodyUnexpected = "body_unexpected", 400, "The request may not have a body";
    OriginNotAllowed = "origin_not_allowed", 403, "The origin is not allowed";
    NotFound = "not_found", 404, "There is nothing here";
    ConnectionNotFound = "connection_not_found", 404, "There is no such connection";
    MethodNotAllowed = "method_not_allowed", 405, "The method is not allowed here";
    RequestTimeout = "request_timeout", 408, "The request did not arrive in time";
    DataTooLarge = "data_too_large", 413, "The data of an event is too large";
    BodyTooLarge = "body_too_large", 413, "The body is too large";
    BatchTooLarge = "batch_too_large", 413, "The batch is too large or has too many lines";
    UriTooLong = "uri_too_long", 414, "The target of the request is too long";
    MediaTypeUnsupported = "media_type_unsupported", 415, "The content type is not supported";
    ContentEncodingUnsupported = "content_encoding_unsupported", 415, "Bodies are taken without Content-Encoding only";
    ExpectationFailed = "expectation_failed", 417, "The expectation is not known";
    Misdirected = "misdirected", 421, "The host is not one of this server's";
    ChannelFinished = "channel_finished", 409, "The channel is finished";
    IdempotencyKeyReused = "idempotency_key_reused", 422, "The idempotency key was used with another body";
    StreamsTooMany = "streams_too_many", 429, "Too many streams are open";
    HeadersTooLarge = "headers_too_large", 431, "The header fields are too many or too large";
    IdempotencyKeysFull = "idempotency_keys_full", 503, "Too many idempotency keys are remembered";
    Overloaded = "overloaded", 503, "The server is overloaded";
    Draining = "draining", 503, "The server is about to stop";
    OutcomeUnknown = "outcome_unknown", 503, "Whether the request took effect is not known";
    LogPoisoned = "log_poisoned", 503, "The log accepts nothing until the server is restarted";
    LogUnreadable = "log_unreadable", 503, "The log could not be read";
    DiskFull = "disk_full", 507, "There is not enough free space on the disk";
    Internal = "internal", 500, "Something went wrong inside the server";
    JobIdInvalid = "job_id_invalid", 400, "The job id is not valid";
    JobTypeInvalid = "job_type_invalid", 400, "The job type is not valid";
    ProgressInvalid = "progress_invalid", 400, "The progress is not valid";
    JobNotFound = "job_not_found", 404, "There is no such job";
    ArtifactNotFound = "artifact_not_found", 404, "The job has no such file";
    JobExists = "job_exists", 409, "There is already a job with this id";
    JobFinished = "job_finished", 409, "The job is finished";
    JobNotFinished = "job_not_finished", 409, "The job is not finished yet";
    AttemptStale = "attempt_stale", 409, "A newer attempt of the job has begun";
    QueueInvalid = "queue_invalid", 400, "The name of the queue is not valid";
    WorkerInvalid = "worker_invalid", 400, "The id of the worker is not valid";
    ScheduleInvalid = "schedule_invalid", 400, "The schedule is not valid";
    ArtifactNameInvalid = "artifact_name_invalid", 400, "The name of the file is not valid";
    ScheduleNotFound = "schedule_not_found", 404, "There is no such schedule";
    UniqueConflict = "unique_conflict", 409, "Another job holds the unique key";
    LeaseLost = "lease_lost", 409, "The lease is not, or no longer, the job's";
    JobNotManaged = "job_not_managed", 409, "The job is run by another queue";
    ArtifactGone = "artifact_gone", 410, "The file is no longer kept";
    PreconditionFailed = "precondition_failed", 412, "The file is another than the request wants";
    RangeNotSatisfiable = "range_not_satisfiable", 416, "The range is not in the file";
    ParentInvalid = "parent_invalid", 422, "The job cannot belong to that parent";
    JobsTooMany = "jobs_too_many", 503, "Too many jobs have not ended";
    SchedulesTooMany = "schedules_too_many", 503, "There are too many schedules";
    ArtifactsFull = "artifacts_full", 507, "There is not enough room for the file";
    CrossSite = "cross_site", 403, "The request comes from another site";
    Unauthorized = "unauthorized", 401, "Credentials are needed";
    TokenInvalid = "token_invalid", 401, "The token is not valid";
    TokenExpired = "token_expired", 401, "The token has expired";
    TokenRevoked = "token_revoked", 401, "The token was revoked";
    KeyUnknown = "key_unknown", 401, "The API key is not known";
    TicketInvalid = "ticket_invalid", 401, "The ticket is not valid, or was used";
    Forbidden = "forbidden", 403, "The grant does not cover this";
    AuthFailuresTooMany = "auth_failures_too_many", 429, "Too many failed authentications";
    AuthUnavailable = "auth_unavailable", 503, "Credentials could not be checked";
    RevocationsTooMany = "revocations_too_many", 503, "There are too many revocations";
}

impl Code {
    /// Finds a code by its text, as an error's `code()` returns it.
    ///
    /// ```
    /// use tidings_core::{ChannelName, wire::problem::Code};
    /// let error = ChannelName::parse("a b").unwrap_err();
    /// assert_eq!(Code::parse(error.code()).map(Code::status), Some(400));
    /// ```
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|known| known.as_str() == code)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

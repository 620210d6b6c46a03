//! The command line. Every flag can also be given as `TIDINGS_…` in the environment.
//!
//! Owns: names, defaults and help of flags. Does not know: what commands do.
//! Flow: arguments and environment → values.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use tidings::jobs::JobRoute;
use tidings_client::Client;

use crate::auth::{AuthFlags, KeyCommand, TokenCommand, secret_text};
use crate::door::DoorFlags;
use crate::jobs::JobsCommand;

/// Real-time updates for web pages over plain HTTP: durable, in order, once.
#[derive(Debug, Parser)]
#[command(name = "tidings", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve events from a durable log
    Serve(Box<ServeFlags>),
    /// Run the demo: an export with live progress, notifications and a chat in one page
    Demo(DemoFlags),
    /// Publish an event
    Publish(PublishFlags),
    /// Follow channels, and resume by itself
    Tail(TailFlags),
    /// Make jobs, list, show and watch them, cancel or retry them
    #[command(subcommand)]
    Jobs(JobsCommand),
    /// Ask a server on this machine whether it is ready; exit code 0 if it is
    Health(HealthFlags),
    /// Make tokens (JWT) by hand, and look into them
    #[command(subcommand)]
    Token(TokenCommand),
    /// Make API keys for back ends, list and revoke them
    #[command(subcommand)]
    Key(KeyCommand),
    /// Look at a log on disk without a server, and repair one that is damaged
    #[command(subcommand)]
    Log(LogCommand),
}

/// What to do with a log on disk.
#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Check every byte; one line for each problem, and exit code 1 if there is one
    Verify(FolderFlags),
    /// Print a line for every commit and every record
    Dump(FolderFlags),
    /// Print every event as one JSON object, those behind damage too
    Export(FolderFlags),
    /// Cut a log that does not open at its first damage; what is cut is copied aside before
    Repair(FolderFlags),
}

/// Which log.
#[derive(Debug, Args)]
pub(crate) struct FolderFlags {
    /// Folder of the log
    #[arg(long, env = "TIDINGS_DATA", default_value = "./tidings-data", value_name = "FOLDER")]
    pub(crate) data: PathBuf,
}

/// Flags of `serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeFlags {
    /// Serve without authentication, on a loopback address only; everybody may do everything
    #[arg(long, env = "TIDINGS_DEV")]
    pub(crate) dev: bool,
    /// Address to listen on; port 0 takes a free one. An inherited socket (LISTEN_FDS) wins
    #[arg(long, env = "TIDINGS_LISTEN", default_value = "127.0.0.1:4080", value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,
    /// Folder of the log; it is made if it is missing
    #[arg(long, env = "TIDINGS_DATA", default_value = "./tidings-data", value_name = "FOLDER")]
    pub(crate) data: PathBuf,
    /// Further path of the stream of events, such as /api/events
    #[arg(long, env = "TIDINGS_EVENTS_PATH", value_delimiter = ',', value_name = "PATH")]
    pub(crate) events_path: Vec<String>,
    /// A job type at a path of your own, such as /api/exports=generate-report
    #[arg(long, env = "TIDINGS_JOB_ROUTE", value_delimiter = ',', value_name = "PATH=TYPE")]
    pub(crate) job_route: Vec<JobRoute>,
    /// Prefix of every URL that is given out, such as https://app.example/rt
    #[arg(
        long,
        env = "TIDINGS_PUBLIC_URL",
        default_value = "",
        value_name = "URL",
        hide_default_value = true
    )]
    pub(crate) public_url: String,
    /// Seconds of silence after which a stream gets a comment
    #[arg(long, env = "TIDINGS_KEEPALIVE_S", default_value_t = 15, value_name = "SECONDS")]
    pub(crate) keepalive_s: u64,
    /// Seconds after which a reader that takes no byte is closed; it resumes by its id
    #[arg(long, env = "TIDINGS_STALL_S", default_value_t = 300, value_name = "SECONDS")]
    pub(crate) stall_s: u64,
    /// Seconds over which streams are closed when the server stops
    #[arg(long, env = "TIDINGS_DRAIN_S", default_value_t = 10, value_name = "SECONDS")]
    pub(crate) drain_s: u64,
    /// Streams at once; 0 means what the open-file limit allows
    #[arg(long, env = "TIDINGS_STREAMS_MAX", default_value_t = 0, value_name = "COUNT")]
    pub(crate) streams_max: usize,
    /// Who is let in, and how much of everything
    #[command(flatten)]
    pub(crate) door: DoorFlags,
    /// Delivery threads; 0 means one for each core
    #[arg(long, env = "TIDINGS_SHARDS", default_value_t = 0, value_name = "COUNT")]
    pub(crate) shards: usize,
    /// Who is known
    #[command(flatten)]
    pub(crate) auth: AuthFlags,
    /// What the log keeps
    #[command(flatten)]
    pub(crate) log: LogFlags,
    /// How logs are written
    #[arg(long, env = "TIDINGS_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// Which logs are written, such as info or tidings=debug
    #[arg(long, env = "TIDINGS_LOG", default_value = "info", value_name = "FILTER")]
    pub(crate) log_filter: String,
}

/// What is kept, and how much of the disk it may take.
#[derive(Debug, Args)]
pub(crate) struct LogFlags {
    /// Newest events kept of each channel
    #[arg(long, env = "TIDINGS_RETAIN_EVENTS", default_value_t = 10_000, value_name = "COUNT")]
    pub(crate) retain_events: u64,
    /// Hours that an event is kept
    #[arg(long, env = "TIDINGS_RETAIN_HOURS", default_value_t = 24, value_name = "HOURS")]
    pub(crate) retain_hours: u64,
    /// MiB kept of each channel
    #[arg(long, env = "TIDINGS_RETAIN_CHANNEL_MIB", default_value_t = 64, value_name = "MIB")]
    pub(crate) retain_channel_mib: u64,
    /// MiB kept of the whole log, oldest first
    #[arg(long, env = "TIDINGS_RETAIN_LOG_MIB", default_value_t = 10_240, value_name = "MIB")]
    pub(crate) retain_log_mib: u64,
    /// MiB in one segment of the log
    #[arg(long, env = "TIDINGS_SEGMENT_MIB", default_value_t = 64, value_name = "MIB")]
    pub(crate) segment_mib: u64,
    /// MiB that one file of a job may have, up to 1024
    #[arg(long, env = "TIDINGS_ARTIFACT_MIB", default_value_t = 1_024, value_name = "MIB")]
    pub(crate) artifact_mib: u64,
    /// MiB that the files of all jobs may have together
    #[arg(long, env = "TIDINGS_ARTIFACTS_MIB", default_value_t = 10_240, value_name = "MIB")]
    pub(crate) artifacts_mib: u64,
    /// MiB of free disk space below which publishes and files are refused
    #[arg(long, env = "TIDINGS_DISK_RESERVE_MIB", default_value_t = 512, value_name = "MIB")]
    pub(crate) disk_reserve_mib: u64,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// Flags of `demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoFlags {
    /// Loopback address to listen on; if it is taken, a free port is used
    #[arg(long, env = "TIDINGS_LISTEN", default_value = "127.0.0.1:4080", value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,
    /// Folder of the demo's data
    #[arg(long, env = "TIDINGS_DATA", default_value = "./tidings-demo", value_name = "FOLDER")]
    pub(crate) data: PathBuf,
    /// Rows that the export reads per second, so that its progress can be watched; 0 is as fast as it can
    #[arg(long, env = "TIDINGS_ROWS_PER_SECOND", default_value_t = 12_500, value_name = "ROWS")]
    pub(crate) rows_per_second: u32,
    /// Which logs are written, such as info or tidings=debug
    #[arg(long, env = "TIDINGS_LOG", default_value = "warn", value_name = "FILTER")]
    pub(crate) log_filter: String,
}

/// Where the server is.
#[derive(Debug, Args)]
pub(crate) struct ServerFlags {
    /// Address of the server
    #[arg(long, env = "TIDINGS_URL", default_value = "http://127.0.0.1:4080", value_name = "URL")]
    pub(crate) url: String,
    /// File with the token or API key to use; without it, the one in TIDINGS_TOKEN
    #[arg(long, env = "TIDINGS_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

impl ServerFlags {
    /// The client of that server, with its token if there is one.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        let client = Client::new(&self.url)?;
        Ok(match secret_text(self.token_file.as_deref(), false)? {
            Some(token) => client.bearer(&token),
            None => client,
        })
    }
}

/// Flags of `health`.
#[derive(Debug, Args)]
pub(crate) struct HealthFlags {
    /// Address of the server; one that listens on all addresses is asked on loopback
    #[arg(long, env = "TIDINGS_LISTEN", default_value = "127.0.0.1:4080", value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,
    /// Address for operators, if the server has one: then only that says whether it is ready
    #[arg(long, env = "TIDINGS_ADMIN_LISTEN", value_name = "ADDRESS")]
    pub(crate) admin_listen: Option<SocketAddr>,
}

/// Flags of `publish`.
#[derive(Debug, Args)]
pub(crate) struct PublishFlags {
    #[command(flatten)]
    pub(crate) server: ServerFlags,
    /// Channel to publish to
    pub(crate) channel: String,
    /// JSON (or text, with --text); `-` reads it from standard input
    pub(crate) data: String,
    /// Type of the event; the default is `message`
    #[arg(long, env = "TIDINGS_EVENT", value_name = "TYPE")]
    pub(crate) event: Option<String>,
    /// The data is text, not JSON
    #[arg(long, env = "TIDINGS_TEXT")]
    pub(crate) text: bool,
    /// A newer event with the same channel and key may replace this one for readers that are behind
    #[arg(long, env = "TIDINGS_KEY")]
    pub(crate) key: Option<String>,
    /// Finish the channel
    #[arg(long = "final", env = "TIDINGS_FINAL")]
    pub(crate) is_final: bool,
    /// A repeat with the same key takes effect once
    #[arg(long, env = "TIDINGS_IDEMPOTENCY_KEY", value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
}

/// Flags of `tail`.
#[derive(Debug, Args)]
pub(crate) struct TailFlags {
    #[command(flatten)]
    pub(crate) server: ServerFlags,
    /// Channels to follow
    #[arg(required = true)]
    pub(crate) channels: Vec<String>,
    /// Where to start: now, start, last:N or an event id
    #[arg(long, env = "TIDINGS_FROM", default_value = "now")]
    pub(crate) from: String,
    /// Print each event as one JSON object
    #[arg(long, env = "TIDINGS_JSON")]
    pub(crate) json: bool,
}

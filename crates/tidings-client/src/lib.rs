//! Rust client for [tidings](https://github.com/tidings-dev/tidings): subscribe with resume, publish, make and run jobs.
//!
//! Owns: reconnecting, the position of a subscription, the shape of a publish, jobs and workers. Does not know: storage,
//! delivery.
//! Flow: in ← a base URL, channels, events to publish · out → items of a stream that resumes by itself, event ids.
//!
//! A subscription goes on over any number of disconnects and server restarts: it sends the id of the last event that
//! it handed out, and the server continues right behind it.
//!
//! ```no_run
//! use tidings_client::{Client, From, Item};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new("http://127.0.0.1:4080")?;
//! let mut stream = client.subscribe(["orders", "user:42"]).from(From::Now).open()?;
//! while let Some(item) = stream.next().await? {
//!     match item {
//!         Item::Event(event) => println!("{} {} {}", event.channel, event.event, event.data),
//!         Item::Reset(reset) => println!("history is gone ({}): fetch the state again", reset.reason),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A publish that was answered is durable.
//!
//! ```no_run
//! use tidings_client::{Client, Publish};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new("http://127.0.0.1:4080")?;
//! let publish = Publish::to("orders").event("status-update").data(serde_json::json!({"status": "done"}));
//! // With a key the client repeats the publish after a failure, and it takes effect once.
//! let published = client.publish(&publish.idempotency_key("order-7-done")).await?;
//! println!("{:?}", published.id);
//! # Ok(())
//! # }
//! ```
//!
//! [`jobs`] makes, lists and watches jobs and reports those of other queues; [`worker`] runs those that wait.

mod client;
pub use client::{Client, UrlError};

mod bearer;

mod transport;

mod call;

mod subscribe;
pub use subscribe::{From, Subscribe, SubscribeError};

mod subscription;
pub use subscription::Subscription;

mod verdict;

mod backoff;
pub use backoff::Retry;

mod frame;

mod random;

mod item;
pub use item::{Disconnect, Event, Hello, Item, Reset};

mod publish;
pub use publish::{Publish, Published};

mod batch;

mod problem;
pub use problem::{Problem, PublishError};

mod upload;

pub mod jobs;
pub use tidings_core::job::{Failure, Mode, State};

pub mod worker;

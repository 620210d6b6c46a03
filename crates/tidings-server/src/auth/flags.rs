//! The flags that say who is known, and how.
//!
//! Owns: names, defaults and help. Does not know: what the sources do.
//! Flow: arguments and environment → values. No secret is ever a value of a flag.

use std::path::PathBuf;

use clap::Args;

use super::jwt::KeyFile;

/// Flags of `serve` about who is known.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Who may do what")]
pub(crate) struct AuthFlags {
    /// Key that checks JSON web tokens: HS256 (a secret), RS256, ES256 or EdDSA (public keys in PEM); repeat it for more
    #[arg(long, env = "TIDINGS_JWT_KEY", value_delimiter = ',', value_name = "ALG[:KID]=FILE")]
    pub(crate) jwt_key: Vec<KeyFile>,
    /// Address of a set of keys (JWKS) that check JSON web tokens: https, or http on this machine
    #[arg(long, env = "TIDINGS_JWKS_URL", value_name = "URL")]
    pub(crate) jwks_url: Option<String>,
    /// Issuer (iss) that tokens have to have; repeat it for more
    #[arg(long, env = "TIDINGS_JWT_ISSUER", value_delimiter = ',', value_name = "NAME")]
    pub(crate) jwt_issuer: Vec<String>,
    /// Audience (aud) that tokens have to have; repeat it for more
    #[arg(long, env = "TIDINGS_JWT_AUDIENCE", value_delimiter = ',', value_name = "NAME")]
    pub(crate) jwt_audience: Vec<String>,
    /// Cookie that a token may be in; __Host-tidings is the safest name for it
    #[arg(long, env = "TIDINGS_COOKIE", default_value = "tidings", value_name = "NAME")]
    pub(crate) cookie: String,
    /// File with the API keys of back ends, see `tidings key`
    #[arg(long, env = "TIDINGS_API_KEY_FILE", value_name = "FILE")]
    pub(crate) api_key_file: Option<PathBuf>,
    /// Address of the application's own that says who a request is from, by its cookies and Authorization
    #[arg(long, env = "TIDINGS_FORWARD_AUTH", value_name = "URL")]
    pub(crate) forward_auth: Option<String>,
    /// Seconds that an answer of the application is kept
    #[arg(long, env = "TIDINGS_FORWARD_AUTH_CACHE_S", default_value_t = 30, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) forward_auth_cache_s: u64,
    /// Milliseconds after which the application counts as gone, and the request is refused with 503
    #[arg(long, env = "TIDINGS_FORWARD_AUTH_TIMEOUT_MS", default_value_t = 2_000, value_name = "MILLISECONDS",
          value_parser = clap::value_parser!(u64).range(50..=10_000))]
    pub(crate) forward_auth_timeout_ms: u64,
    /// Channels that anybody may subscribe to, such as 'demo:*'; repeat it for more
    #[arg(long, env = "TIDINGS_ANONYMOUS", value_delimiter = ',', value_name = "PATTERN")]
    pub(crate) anonymous: Vec<String>,
}

impl AuthFlags {
    /// The first flag that says who is known, if there is one.
    pub(crate) fn source(&self) -> Option<&'static str> {
        let sources = [
            ("--jwt-key", !self.jwt_key.is_empty()),
            ("--jwks-url", self.jwks_url.is_some()),
            ("--api-key-file", self.api_key_file.is_some()),
            ("--forward-auth", self.forward_auth.is_some()),
            ("--anonymous", !self.anonymous.is_empty()),
            (SECRET_ENV, std::env::var_os(SECRET_ENV).is_some()),
        ];
        sources.iter().find(|(_, is_given)| *is_given).map(|(name, _)| *name)
    }
}

/// A secret for HS256 where there are no files. It is no flag: arguments are for everybody to see.
pub(crate) const SECRET_ENV: &str = "TIDINGS_JWT_SECRET";

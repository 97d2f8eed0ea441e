//! A small HTTPS client for backends that speak JSON: no redirects, no proxies, answers bounded in size and time.
//! Bodies are wiped when they are dropped and never get into an error. Does not know what the requests mean.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::tls::Version;
use reqwest::{RequestBuilder, Url};
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

use super::{Blame, ProviderError, files};
use crate::config::Reader;

/// How long a connection may take to come up, TLS included.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// How long one request may take, its answer included.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// The largest answer taken, in bytes.
const MAX_ANSWER: usize = 1 << 20;
/// A longer wait is not obeyed to the second.
const LONGEST_WAIT: u64 = 3600;

/// Whether what a text names is spoken to: `https`, or `http` to this machine only. Notes what is wrong.
pub(super) fn address(reader: &Reader<'_>, key: &str) -> Option<Url> {
    let text = reader.required_text(key)?;
    let wrong = |what: &str, hint: &str| {
        reader.error(key, format!("`{}` {what}", reader.name(key)), hint);
        None
    };
    let form = "write `https://HOST` with the path, if any, and nothing behind it";
    let Ok(url) = text.parse::<Url>() else { return wrong("is not a URL", form) };
    let bare = url.username().is_empty() && url.password().is_none();
    if !bare || url.query().is_some() || url.fragment().is_some() || url.host_str().is_none() {
        return wrong("has more in it than a host, a port and a path", form);
    }
    match url.scheme() {
        "https" => Some(url),
        "http" if is_here(&url) => Some(url),
        "http" => {
            wrong("is not encrypted", "use https; plain http is taken for 127.0.0.1, ::1 and localhost only")
        }
        _ => wrong("is neither https nor http", form),
    }
}

/// An address that a server tells, where it may be spoken to. Unlike one that an admin writes it may have a query.
pub(super) fn endpoint(text: &str) -> Option<Url> {
    let url = text.parse::<Url>().ok()?;
    let bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    let safe = url.scheme() == "https" || url.scheme() == "http" && is_here(&url);
    (bare && safe && url.host_str().is_some()).then_some(url)
}

fn is_here(url: &Url) -> bool {
    let host = url.host_str().unwrap_or("").trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A request that got no answer, or that it should be made later.
pub(super) struct Unanswered {
    /// What to tell.
    pub(super) error: ProviderError,
    /// Whether the server may have done what it was asked for all the same.
    pub(super) may_have_acted: bool,
}

/// The client of one provider, made at its first use.
pub(super) struct Http {
    name: String,
    ca_file: Option<PathBuf>,
    client: OnceCell<reqwest::Client>,
}

/// An answer with any status. Not `Debug`: the body may be a credential.
pub(super) struct Answer {
    /// HTTP status.
    pub(super) status: u16,
    /// So many seconds the server asks to wait (RFC 9110 section 10.2.3).
    pub(super) retry_after: Option<u64>,
    body: Zeroizing<Vec<u8>>,
}

impl Answer {
    /// The body, where it is JSON of that form.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.body).ok()
    }
}

impl Http {
    /// For the provider of that name; trusts what is in `ca_file`, or else the platform's authorities.
    pub(super) fn new(name: String, ca_file: Option<PathBuf>) -> Self {
        Self { name, ca_file, client: OnceCell::new() }
    }

    /// A failure: `what` goes on from the provider's name.
    pub(super) fn error(&self, blame: Blame, what: &str, hint: impl Into<String>) -> ProviderError {
        ProviderError::new(blame, format!("provider `{}` {what}", self.name), hint)
    }

    /// Makes a request with `make`, sends it and reads the answer.
    ///
    /// # Errors
    /// Where there is none, or it says to come back later.
    pub(super) async fn send(
        &self,
        make: impl FnOnce(&reqwest::Client) -> RequestBuilder,
    ) -> Result<Answer, ProviderError> {
        self.try_send(make).await.map_err(|unanswered| unanswered.error)
    }

    /// The same, for requests that make something.
    ///
    /// # Errors
    /// As [`Self::send`], with what is known of the request's fate.
    pub(super) async fn try_send(
        &self,
        make: impl FnOnce(&reqwest::Client) -> RequestBuilder,
    ) -> Result<Answer, Unanswered> {
        let undone = |error| Unanswered { error, may_have_acted: false };
        let client = self.client.get_or_try_init(|| self.build()).await.map_err(undone)?;
        let response = make(client).send().await.map_err(|error| Unanswered {
            error: self.fault(&error),
            may_have_acted: !error.is_connect() && !error.is_builder(),
        })?;
        let lost = |error| Unanswered { error, may_have_acted: true };
        let answer = self.read(response).await.map_err(lost)?;
        if matches!(answer.status, 429 | 503) {
            let wait = answer.retry_after.map(|seconds| Duration::from_secs(seconds.min(LONGEST_WAIT)));
            let hint = "wait; its limits are told in its documentation";
            let error = self.error(Blame::Busy(wait), "asks to come back later", hint);
            // A limit is looked at first (RFC 6585 section 4); a 503 may be of a proxy whose server did its work.
            return Err(Unanswered { error, may_have_acted: answer.status != 429 });
        }
        Ok(answer)
    }

    async fn build(&self) -> Result<reqwest::Client, ProviderError> {
        let mut builder = reqwest::Client::builder()
            .tls_backend_rustls()
            .tls_version_min(Version::TLS_1_2)
            .redirect(Policy::none())
            .referer(false)
            .no_proxy()
            .connect_timeout(CONNECT_LIMIT)
            .timeout(REQUEST_LIMIT)
            .user_agent(concat!("mcp-broker/", env!("CARGO_PKG_VERSION")));
        let cannot = |what: String| {
            let hint = "name a PEM file of certificates that the broker may read, in `ca_file`";
            self.error(Blame::Config, &what, hint)
        };
        if let Some(path) = &self.ca_file {
            let (shown, path) = (path.display().to_string(), path.clone());
            let read = tokio::task::spawn_blocking(move || files::bundle(&path)).await;
            let read = read.unwrap_or_else(|_panicked| Err(std::io::ErrorKind::Other.into()));
            let pem = read.map_err(|error| cannot(format!("cannot use `{shown}`: {error}")))?;
            let authorities = reqwest::Certificate::from_pem_bundle(&pem);
            let authorities = authorities.map_err(|_unreadable| cannot(format!("cannot use `{shown}`")))?;
            builder = builder.tls_certs_only(authorities);
        }
        builder.build().map_err(|_unusable| cannot("cannot set up TLS".to_owned()))
    }

    /// Reads an answer to its end, or to [`MAX_ANSWER`].
    async fn read(&self, mut response: reqwest::Response) -> Result<Answer, ProviderError> {
        let too_large = || self.error(Blame::Broken, "sent an answer larger than 1 MiB", "check its address");
        let announced =
            response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
        if announced > MAX_ANSWER {
            return Err(too_large());
        }
        let retry_after =
            response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
        // Room for all of it at once, so that no grown-out buffer is left unwiped.
        let mut body = Zeroizing::new(Vec::with_capacity(announced.max(16 << 10)));
        while let Some(chunk) = response.chunk().await.map_err(|error| self.fault(&error))? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status: response.status().as_u16(), retry_after, body })
    }

    fn fault(&self, error: &reqwest::Error) -> ProviderError {
        let tls =
            std::iter::successors(std::error::Error::source(error), |error| error.source()).any(is_about_tls);
        if tls {
            let hint =
                "set `ca_file` to the authority that issued it, and use the name that it was issued for";
            return self.error(Blame::Config, "has a certificate that is not accepted", hint);
        }
        let what = if error.is_timeout() { "did not answer in time" } else { "cannot be reached" };
        self.error(Blame::Unreachable, what, "check the network, that the server is up, and its address")
    }
}

/// Whether that is a fault of TLS, such as a certificate that is not trusted.
pub(super) fn is_about_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    error.is::<rustls::Error>() || inner.is_some_and(|inner| is_about_tls(inner))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#[path = "http_tests.rs"]
mod tests;

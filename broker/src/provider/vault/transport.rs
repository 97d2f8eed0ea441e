//! Sends requests to one server: through the gate, each within its time, each answer within its size, and
//! `Retry-After` obeyed while there is time. Bodies are wiped here and never get into an error. Does not
//! know what the requests mean.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::body::Bytes;
use jiff::Timestamp;
use mcp_broker_proto::Secret;
use rustify::endpoint::Endpoint;
use rustify::errors::ClientError;
use tokio::time::{Instant, timeout_at};
use vaultrs::api::EndpointMiddleware;
use vaultrs::client::VaultClient;
use zeroize::{Zeroize, Zeroizing};

use super::answer::Answer;
use super::calls::Call;
use super::fault::Fault;
use super::gate::{Gate, Pass, Urgency};
use crate::clock::Clock;
use crate::fault::{self, Side};

/// How long one request may take, waiting for `Retry-After` included.
pub(super) const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// How long a read that may create a credential is followed, so that its lease is learned: a little longer
/// than the servers' own limit for a request (`default_max_request_duration`, 90 s).
pub(super) const FLIGHT_LIMIT: Duration = Duration::from_secs(95);
/// How long a request may wait for the gate.
const QUEUE_LIMIT: Duration = Duration::from_secs(10);
/// The largest answer taken, in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// The way to one server.
pub(super) struct Transport {
    http: reqwest::Client,
    base: String,
    middle: EndpointMiddleware,
    gate: Arc<Gate>,
    clock: Arc<dyn Clock>,
}

impl Transport {
    /// Sends on the connections of `client`, through `gate`.
    pub(super) fn new(client: VaultClient, gate: Arc<Gate>, clock: Arc<dyn Clock>) -> Self {
        let VaultClient { http, middle, .. } = client;
        Self { http: http.http, base: http.base, middle, gate, clock }
    }

    /// Sends `call` with `token` and returns the answer, whatever its status.
    ///
    /// # Errors
    /// Where there is no answer, or it says to come back later than there is time.
    pub(super) async fn send(
        &self,
        call: Call,
        token: Option<&Secret>,
        urgency: Urgency,
    ) -> Result<Answer, Fault> {
        self.pass(self.sign(call, token), urgency, REQUEST_LIMIT).await
    }

    /// Puts `token` to `call`, for a task that outlives whoever holds the token.
    pub(super) fn sign(&self, call: Call, token: Option<&Secret>) -> Signed {
        let mut middle = Middle(self.middle.clone());
        if let Some(token) = token {
            // EXPOSE: vaultrs' middleware, which puts it into the request's header; wiped when `middle` drops.
            token.expose(|text| text.clone_into(&mut middle.0.token));
        }
        middle.0.wrap = call.wrap.map(|life| format!("{}s", life.as_secs()));
        if call.outside_namespaces {
            middle.0.namespace = None;
        }
        Signed { call, middle }
    }

    /// Sends what may create a credential: goes on for [`FLIGHT_LIMIT`], gives the gate free after
    /// [`REQUEST_LIMIT`]. For a task of its own; whoever waits for it has its own limit.
    pub(super) async fn follow(&self, signed: Signed) -> Result<Answer, Fault> {
        self.pass(signed, Urgency::Normal, FLIGHT_LIMIT).await
    }

    /// The namespace that everything is asked in.
    pub(super) fn namespace(&self) -> Option<&str> {
        self.middle.namespace.as_deref()
    }

    async fn pass(&self, signed: Signed, urgency: Urgency, limit: Duration) -> Result<Answer, Fault> {
        let Signed { call, middle } = signed;
        let (name, way) = (call.name, Way { transport: self, urgency, limit });
        fault::call(name, Side::Before).await;
        tracing::trace!(call = name, "asks");
        let answered = call.with_middleware(&middle.0).exec(&way).await;
        fault::call(name, Side::After).await;
        tracing::trace!(call = name, answered = answered.is_ok(), "asked");
        match answered {
            Ok(result) => Ok(Answer::new(result.response)),
            // What rustify holds of the request or the answer is dropped here.
            Err(error) => Err(fault_in(&error)),
        }
    }

    /// One exchange after the other until one is not told to come back later.
    async fn exchange(&self, way: &Way<'_>, request: Outgoing) -> Result<Response<Vec<u8>>, Fault> {
        let started = Instant::now();
        let patience = started + REQUEST_LIMIT;
        loop {
            let entered = tokio::time::timeout(QUEUE_LIMIT, self.gate.enter(way.urgency)).await;
            let pass = entered.map_err(|_elapsed| Fault::Queue)?;
            let sent = Instant::now();
            let answer = self.within(pass, sent + way.limit, request.once()).await?;
            let Some(wait) = retry_after(answer.status(), answer.headers(), self.clock.now()) else {
                return Ok(answer);
            };
            if Instant::now() + wait >= patience {
                return Err(Fault::Later(wait));
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// One exchange. The pass goes back with the answer, or after [`REQUEST_LIMIT`] where it takes longer.
    async fn within(
        &self,
        pass: Pass,
        end: Instant,
        request: reqwest::Request,
    ) -> Result<Response<Vec<u8>>, Fault> {
        let exchange = async {
            let response = self.http.execute(request).await.map_err(|error| fault_of(&error))?;
            collect(response).await
        };
        tokio::pin!(exchange);
        let first = end.min(Instant::now() + REQUEST_LIMIT);
        if let Ok(answer) = timeout_at(first, &mut exchange).await {
            return answer;
        }
        drop(pass);
        timeout_at(end, exchange).await.unwrap_or(Err(Fault::Timeout))
    }
}

/// A call with its token.
pub(super) struct Signed {
    call: Call,
    middle: Middle,
}

/// vaultrs' middleware with a token in it, which is wiped.
struct Middle(EndpointMiddleware);

impl Drop for Middle {
    fn drop(&mut self) {
        self.0.token.zeroize();
    }
}

/// One call's way through the transport; what rustify sees as its client.
struct Way<'a> {
    transport: &'a Transport,
    urgency: Urgency,
    limit: Duration,
}

#[async_trait]
impl rustify::client::Client for Way<'_> {
    async fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, ClientError> {
        let wrap = |fault: Fault| ClientError::GenericError { source: fault.into() };
        let outgoing = Outgoing::new(request).map_err(wrap)?;
        self.transport.exchange(self, outgoing).await.map_err(wrap)
    }

    fn base(&self) -> &str {
        &self.transport.base
    }

    /// Hands every status through: rustify's own version keeps the body of a refusal in its error.
    async fn execute(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, ClientError> {
        self.send(request).await
    }
}

/// A request that can be sent again.
struct Outgoing {
    method: http::Method,
    url: reqwest::Url,
    headers: HeaderMap,
    body: Bytes,
}

impl Outgoing {
    fn new(request: Request<Vec<u8>>) -> Result<Self, Fault> {
        let (parts, body) = request.into_parts();
        let url = parts.uri.to_string().parse().map_err(|_unparsable| Fault::Request)?;
        let mut headers = parts.headers;
        if let Some(token) = headers.get_mut("x-vault-token") {
            token.set_sensitive(true);
        }
        if !body.is_empty() {
            headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        // A login's body holds a secret: wiped when the last clone of the bytes is dropped.
        let body = Bytes::from_owner(Zeroizing::new(body));
        Ok(Self { method: parts.method, url, headers, body })
    }

    fn once(&self) -> reqwest::Request {
        let mut request = reqwest::Request::new(self.method.clone(), self.url.clone());
        request.headers_mut().clone_from(&self.headers);
        if !self.body.is_empty() {
            *request.body_mut() = Some(self.body.clone().into());
        }
        request
    }
}

/// Reads an answer to its end, or to [`MAX_ANSWER`].
async fn collect(mut response: reqwest::Response) -> Result<Response<Vec<u8>>, Fault> {
    let announced = response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    if announced > MAX_ANSWER {
        return Err(Fault::TooLarge);
    }
    // Room for all of it at once, so that no grown-out buffer is left unwiped.
    let mut body = Zeroizing::new(Vec::with_capacity(announced.max(16 << 10)));
    while let Some(chunk) = response.chunk().await.map_err(|error| fault_of(&error))? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(Fault::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    let mut answer = Response::new(std::mem::take(&mut *body));
    *answer.status_mut() = response.status();
    std::mem::swap(answer.headers_mut(), response.headers_mut());
    Ok(answer)
}

/// How long the server asks to wait before the request is sent again: `Retry-After` of a 429 or 503, in
/// seconds or as a date (RFC 9110 sections 10.2.3 and 5.6.7).
fn retry_after(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    if !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        return None;
    }
    let text = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO))
}

fn fault_in(error: &ClientError) -> Fault {
    match error {
        ClientError::GenericError { source } => source.downcast_ref().copied().unwrap_or(Fault::Request),
        _ => Fault::Request,
    }
}

fn fault_of(error: &reqwest::Error) -> Fault {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(error) = cause {
        if is_about_tls(error) {
            return Fault::Certificate;
        }
        cause = error.source();
    }
    match error {
        error if error.is_connect() => Fault::Connect,
        error if error.is_timeout() => Fault::Timeout,
        error if error.is_builder() => Fault::Request,
        _ => Fault::Lost,
    }
}

/// Whether a TLS error is in there; the layers below wrap it in an `io::Error`, and that in another.
fn is_about_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    error.is::<rustls::Error>() || inner.is_some_and(|inner| is_about_tls(inner))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn check(status: u16, value: Option<&str>, want: Option<u64>) {
        let now: Timestamp = "1994-11-06T08:49:30Z".parse().unwrap();
        let mut headers = HeaderMap::new();
        if let Some(value) = value {
            headers.insert(http::header::RETRY_AFTER, value.parse().unwrap());
        }
        let got = retry_after(StatusCode::from_u16(status).unwrap(), &headers, now);
        assert_eq!(got, want.map(Duration::from_secs), "{status} {value:?}");
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        check(429, Some("3"), Some(3));
        check(503, Some(" 0 "), Some(0));
        check(503, Some("Sun, 06 Nov 1994 08:49:37 GMT"), Some(7));
        check(503, Some("Sun, 06 Nov 1994 08:49:00 GMT"), Some(0));
        check(429, Some("-1"), None);
        check(429, Some("soon"), None);
        check(429, None, None);
        check(200, Some("3"), None);
    }
}

//! The broker's own identity at a server: one token, kept in memory, renewed at two thirds of its life and
//! had anew when it ends. Everybody who needs it at the same time shares one login, and its failure.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use mcp_broker_proto::Secret;
use tokio::sync::Mutex;

use super::answer::Answer;
use super::calls::{self, Call};
use super::fault::{Fault, ServerName};
use super::gate::{Gate, Urgency};
use super::login::{self, LoginDeps, SignedIn};
use super::settings::ServerSettings;
use super::transport::Transport;
use crate::clock::Clock;
use crate::provider::{Blame, ProviderError};

/// The longest that the keeper sleeps: its timer stands still while the machine sleeps, the token's does not.
const NAP: Duration = Duration::from_secs(60);

/// The identity at one server.
pub(super) struct Identity {
    deps: LoginDeps,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    login: Option<Arc<Login>>,
    /// When (boot time) the last login failed, and why.
    failed: Option<(Duration, ProviderError)>,
    has_keeper: bool,
}

/// A token that was accepted when it was had.
pub(super) struct Login {
    /// The way to the server.
    pub(super) transport: Arc<Transport>,
    token: Arc<Secret>,
    /// Boot times.
    times: Option<Times>,
    /// The life that it was first given.
    granted: Duration,
    renewable: bool,
    cluster: Option<String>,
}

#[derive(Clone, Copy)]
struct Times {
    renew: Duration,
    end: Duration,
}

impl Identity {
    /// Not signed in yet.
    pub(super) fn new(
        name: ServerName,
        settings: Arc<ServerSettings>,
        gate: Arc<Gate>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        Arc::new(Self { deps: LoginDeps { name, settings, gate, clock }, state: Mutex::default() })
    }

    /// The server's name in messages.
    pub(super) fn name(&self) -> &ServerName {
        &self.deps.name
    }

    /// Sends `call` with the broker's token; signs in again, once, where that token turns out to be dead.
    /// The answer may be a refusal of the call itself.
    pub(super) async fn call(
        self: &Arc<Self>,
        call: impl Fn() -> Call,
        urgency: Urgency,
    ) -> Result<Answer, ProviderError> {
        let login = self.current().await?;
        let answer = self.sent(login.transport.send(call(), Some(&login.token), urgency).await)?;
        if answer.status != 403 || self.is_alive(&login, urgency).await? {
            return Ok(answer);
        }
        self.forget(&login).await;
        let login = self.current().await?;
        self.sent(login.transport.send(call(), Some(&login.token), urgency).await)
    }

    /// The way to the server, signed in.
    pub(super) async fn transport(self: &Arc<Self>) -> Result<Arc<Transport>, ProviderError> {
        Ok(Arc::clone(&self.current().await?.transport))
    }

    /// Names the server and the namespace that accessors and leases belong to. Another server would say that
    /// it does not know them, which proves nothing.
    pub(super) async fn place(self: &Arc<Self>) -> Result<String, ProviderError> {
        let login = self.current().await?;
        let namespace = self.deps.settings.namespace.as_deref().unwrap_or("");
        Ok(format!("{}/{namespace}", login.cluster.as_deref().unwrap_or("")))
    }

    /// A way to the server that needs no identity: for asking how it is, and for what brings its own token.
    pub(super) async fn stranger(&self) -> Result<Arc<Transport>, ProviderError> {
        if let Some(login) = &self.state.lock().await.login {
            return Ok(Arc::clone(&login.transport));
        }
        Ok(login::connect(&self.deps).await?.0)
    }

    /// A refusal of something that the broker's policy should allow.
    pub(super) fn refusal(&self, answer: &Answer, doing: &str) -> ProviderError {
        let cure =
            "run `deploy/vault/setup.sh --check` against the server: it says what the broker's policy lacks";
        let mut error = self.name().refusal(answer.status, answer.complaint(), doing, cure);
        if answer.status == 403 {
            error.blame = Blame::Identity;
        }
        error
    }

    /// An answer, or why there is none.
    pub(super) fn sent(&self, sent: Result<Answer, Fault>) -> Result<Answer, ProviderError> {
        sent.map_err(|fault| self.name().fault(fault))
    }

    /// Permission denied is said for a dead token and for a missing policy alike; a look at itself tells.
    async fn is_alive(&self, login: &Login, urgency: Urgency) -> Result<bool, ProviderError> {
        let sent = login.transport.send(calls::lookup_self(), Some(&login.token), urgency).await;
        Ok(self.sent(sent)?.status != 403)
    }

    /// The login, renewed or had anew where it is time. What is sent for that goes with the revocations, because
    /// one may be waiting behind whoever holds the state.
    async fn current(self: &Arc<Self>) -> Result<Arc<Login>, ProviderError> {
        let asked = self.boot();
        let mut state = self.state.lock().await;
        if let Some(login) = state.login.clone() {
            match login.times {
                Some(times) if self.boot() >= times.end => {}
                Some(times) if self.boot() >= times.renew => {
                    if let Some(renewed) = self.renew(&login, times).await {
                        state.login = Some(Arc::clone(&renewed));
                        return Ok(renewed);
                    }
                }
                _ => return Ok(login),
            }
        }
        // Whoever waited while a login failed gets its failure, instead of trying one after the other.
        if let Some((when, error)) = &state.failed
            && *when >= asked
        {
            return Err(error.clone());
        }
        state.login = None;
        match login::sign_in(&self.deps).await {
            Ok(signed_in) => {
                let login = Arc::new(self.login(signed_in));
                state.login = Some(Arc::clone(&login));
                state.failed = None;
                if !std::mem::replace(&mut state.has_keeper, true) {
                    tokio::spawn(keep(Arc::downgrade(self)));
                }
                Ok(login)
            }
            Err(error) => {
                state.failed = Some((self.boot(), error.clone()));
                Err(error)
            }
        }
    }

    /// The login with a new life; the same one where the server cannot be asked just now; `None` where
    /// only another login helps.
    async fn renew(&self, login: &Arc<Login>, times: Times) -> Option<Arc<Login>> {
        if !login.renewable {
            return None;
        }
        let sent = login.transport.send(calls::renew_self(), Some(&login.token), Urgency::Revocation).await;
        let Ok(answer) = sent else { return Some(self.later(login, times)) };
        if !answer.is_ok() {
            return (answer.status != 403).then(|| self.later(login, times));
        }
        let life = login::life(answer.auth()?.lease_duration);
        // A maximum life is near: better a fresh login than ever shorter renewals.
        if life.is_some_and(|life| life < login.granted / 2) {
            return None;
        }
        let times = life.map(|life| self.times(life));
        Some(Arc::new(Login { times, ..login.as_it_is() }))
    }

    fn later(&self, login: &Login, times: Times) -> Arc<Login> {
        let left = times.end.saturating_sub(self.boot());
        let renew = self.boot() + (left / 3).min(NAP).max(Duration::from_millis(500));
        Arc::new(Login { times: Some(Times { renew, end: times.end }), ..login.as_it_is() })
    }

    fn login(&self, signed_in: SignedIn) -> Login {
        let SignedIn { transport, token, life, renewable, cluster } = signed_in;
        let times = life.map(|life| self.times(life));
        let granted = life.unwrap_or_default();
        Login { transport, token: Arc::new(token), times, granted, renewable, cluster }
    }

    fn times(&self, life: Duration) -> Times {
        let now = self.boot();
        Times { renew: now + life * 2 / 3 - jitter(life / 20), end: now + life }
    }

    async fn forget(&self, login: &Arc<Login>) {
        let mut state = self.state.lock().await;
        if state.login.as_ref().is_some_and(|current| Arc::ptr_eq(&current.token, &login.token)) {
            state.login = None;
        }
    }

    fn boot(&self) -> Duration {
        self.deps.clock.boot()
    }
}

impl Login {
    fn as_it_is(&self) -> Self {
        Self {
            transport: Arc::clone(&self.transport),
            token: Arc::clone(&self.token),
            times: self.times,
            granted: self.granted,
            renewable: self.renewable,
            cluster: self.cluster.clone(),
        }
    }
}

/// Renews the token in good time also where nobody uses it. Ends with the identity. Boxed, because it is
/// started by the very function that it calls.
fn keep(identity: Weak<Identity>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        while let Some(wait) = due_in(&identity).await {
            tokio::time::sleep(wait.clamp(Duration::from_millis(200), NAP)).await;
            let due = due_in(&identity).await.is_some_and(|wait| wait.is_zero());
            let Some(identity) = identity.upgrade().filter(|_| due) else { continue };
            if let Err(error) = identity.current().await {
                let provider = &identity.deps.name.provider;
                tracing::warn!(%provider, %error, "the broker's own token could not be renewed");
            }
        }
    })
}

/// How long until the token is to be renewed; [`NAP`] where there is none, `None` without the identity.
async fn due_in(identity: &Weak<Identity>) -> Option<Duration> {
    let identity = identity.upgrade()?;
    let times = identity.state.lock().await.login.as_ref().and_then(|login| login.times);
    Some(times.map_or(NAP, |times| times.renew.saturating_sub(identity.boot())))
}

/// Up to `most`, evenly spread, so that many brokers do not come at once.
fn jitter(most: Duration) -> Duration {
    let [.., low] = uuid::Uuid::new_v4().into_bytes();
    most * u32::from(low) / 255
}

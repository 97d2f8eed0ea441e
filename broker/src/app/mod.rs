//! Puts the broker together, runs it, and takes it down: the only place that sees the whole configuration.
//! `start` reads as the list of what must be there before the first connection; `run` until the end; `drain`
//! leaves nothing behind that can still be ended.

mod reload;
mod start;
mod state_dir;
mod watchdog;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mcp_broker_proto::channel::EndReason;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::api::{Api, Door, Listeners, admin_routes, person_routes, serve};
use crate::audit::{AuditLog, Event};
use crate::config::{Config, Mode, Places};
use crate::lease::{Leases, Lost, Providers};
use crate::package::Approvals;
use crate::provider::Peers;
use crate::session::Sessions;
use crate::watch::Watch;

pub use start::{StartError, readers};
pub use state_dir::{StateDir, StateDirError};

/// What `serve` is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// For whom the broker works.
    pub mode: Mode,
    /// Where its configuration is.
    pub config_dir: PathBuf,
    /// What defaults depend on.
    pub places: Places,
    /// What hardening could not be had.
    pub weaknesses: Vec<String>,
}

/// A broker that is ready to serve.
pub struct App {
    options: Options,
    config: watch::Sender<Arc<Config>>,
    warnings: watch::Sender<Vec<String>>,
    audit: AuditLog,
    leases: Arc<Leases>,
    peers: Peers,
    approvals: Arc<Approvals>,
    sessions: Arc<Sessions>,
    watch: Arc<Watch>,
    listeners: Listeners,
    lost: mpsc::UnboundedReceiver<Lost>,
    signals: Signals,
    /// Held until the end, so that no second broker works on the same state.
    _state: StateDir,
}

/// The signals that the broker takes, watched before it says that it is ready.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn watch() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// The terminal that the broker was started from, if any. When a person closes it, SIGHUP does not mean to
/// read the configuration again.
struct Terminal(bool);

impl Terminal {
    fn at_start() -> Self {
        Self(rustix::termios::isatty(std::io::stderr()))
    }

    fn is_gone(&self) -> bool {
        self.0 && rustix::termios::tcgetattr(std::io::stderr()).is_err()
    }
}

/// At a stop, what is open is ended within this time; the rest is in the journal for the next start.
const DRAIN_LIMIT: Duration = Duration::from_secs(12);

impl App {
    /// One line that says that connections are accepted, and where.
    #[must_use]
    pub fn ready_line(&self) -> String {
        let config = self.config.borrow();
        let servers = match config.servers.len() {
            1 => "1 server".to_owned(),
            many => format!("{many} servers"),
        };
        format!(
            "mcp-broker: ready, {} mode, {servers}, {}",
            config.mode.as_str(),
            config.broker.socket.display()
        )
    }

    /// Things that are weaker than they could be.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.warnings.borrow().clone();
        warnings.extend(self.approvals.warnings());
        warnings
    }

    /// Serves until a signal asks to stop, then drains. Answers with the number of credentials whose end is
    /// not verified; they are in the journal.
    pub async fn run(mut self) -> usize {
        let stop = CancellationToken::new();
        let api = Api {
            sessions: Arc::clone(&self.sessions),
            config: self.config.subscribe(),
            warnings: self.warnings.subscribe(),
            unseen: {
                let watch = Arc::clone(&self.watch);
                Arc::new(move || watch.warnings())
            },
            leases: Arc::clone(&self.leases),
            approvals: self.approvals,
        };
        let uid = self.options.places.uid;
        let (door, admin_door) = match self.options.mode {
            Mode::User => (Door::Only(uid), Door::Only(uid)),
            Mode::System => (Door::Everybody, Door::OnlyOrRoot(uid)),
        };
        let Listeners { person, admin, adopted } = self.listeners;
        let doors = [
            tokio::spawn(serve(person, door, person_routes(api.clone()), stop.clone())),
            tokio::spawn(serve(admin, admin_door, admin_routes(api), stop.clone())),
        ];
        tokio::spawn(look_at_providers(self.leases.providers()));
        tokio::spawn(watchdog::watch(Arc::clone(&self.sessions), Arc::clone(&self.leases)));
        // Without systemd there is nobody to tell.
        drop(sd_notify::notify(&[sd_notify::NotifyState::Ready]));
        let parts = Parts {
            options: self.options,
            config: self.config,
            warnings: self.warnings,
            audit: self.audit,
            leases: self.leases,
            peers: self.peers,
            sessions: self.sessions,
        };
        parts.serve_until_stopped(&mut self.signals, &mut self.lost).await;
        drop(sd_notify::notify(&[sd_notify::NotifyState::Stopping]));
        stop.cancel();
        for door in doors {
            // A door that panicked is closed all the same.
            drop(door.await);
        }
        if !adopted {
            parts.remove_sockets();
        }
        parts.drain().await
    }
}

/// Says in the log what the first launch would run into; `mcp-run doctor` says it at any time.
async fn look_at_providers(providers: Providers) {
    for (name, provider) in providers {
        match tokio::time::timeout(HEALTH_LIMIT, provider.health()).await {
            Ok(Ok(_healthy)) => {}
            Ok(Err(error)) => tracing::warn!(provider = %name, hint = error.hint, "{error}"),
            Err(_elapsed) => tracing::warn!(provider = %name, "no answer yet"),
        }
    }
}

/// A provider is given so long to say at the start how it does.
const HEALTH_LIMIT: Duration = Duration::from_secs(10);

/// What is left of the app once its sockets are being served.
struct Parts {
    options: Options,
    config: watch::Sender<Arc<Config>>,
    warnings: watch::Sender<Vec<String>>,
    audit: AuditLog,
    leases: Arc<Leases>,
    peers: Peers,
    sessions: Arc<Sessions>,
}

impl Parts {
    async fn serve_until_stopped(&self, signals: &mut Signals, lost: &mut mpsc::UnboundedReceiver<Lost>) {
        let terminal = Terminal::at_start();
        loop {
            tokio::select! {
                _ = signals.terminate.recv() => return,
                _ = signals.interrupt.recv() => return,
                _ = signals.hangup.recv() => match terminal.is_gone() {
                    true => return,
                    false => self.reload().await,
                },
                Some(lost) = lost.recv() => self.lose(lost),
            }
        }
    }

    /// A launch does not go on with a credential that is about to end.
    fn lose(&self, lost: Lost) {
        match lost {
            Lost::Postponed(launch, lease, until) => self.sessions.renewed_credential(launch, lease, until),
            Lost::Ending(launch, lease, within) => self.sessions.losing_credential(launch, lease, within),
            Lost::Credential(launch, lease) => self.sessions.lost_credential(launch, lease),
            Lost::Parent(session, parents) => self.sessions.lost_parent(session, parents),
        }
    }

    async fn drain(&self) -> usize {
        tracing::info!("stopping: ending every launch and every credential");
        let deadline = tokio::time::Instant::now() + DRAIN_LIMIT;
        if tokio::time::timeout_at(deadline, self.sessions.stop(EndReason::BrokerStopping)).await.is_err() {
            tracing::warn!("some launches did not end in time");
        }
        self.leases.end_the_rest(EndReason::BrokerStopping);
        let pending =
            self.leases.drain(deadline.saturating_duration_since(tokio::time::Instant::now())).await;
        if self.audit.record(Event::BrokerStopped { pending }).await.is_err() {
            tracing::error!("the end could not be written to the audit log");
        }
        pending
    }

    fn remove_sockets(&self) {
        let config = self.config.borrow();
        for socket in [&config.broker.socket, &config.broker.admin_socket] {
            if let Err(error) = std::fs::remove_file(socket) {
                tracing::debug!(%error, "a socket could not be removed");
            }
        }
    }
}

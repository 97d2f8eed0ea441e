//! The tree of tokens: token roles are checked, a parent is made for a session and a child for a launch.
//! Reads no secret and revokes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::Vault;
use super::answer::Answer;
use super::calls::{self, NewToken};
use super::credential::CredentialSettings;
use super::gate::Urgency;
use super::handle::{Held, Kind};
use super::terms::Fate;
use crate::provider::{Blame, MintRequest, Parent, Prepared, ProviderError, SessionTag, own};

/// A token role, as the server has it.
#[derive(Deserialize)]
pub(super) struct TokenRole {
    orphan: bool,
    #[serde(default)]
    token_period: u64,
    /// The older name of the period.
    #[serde(default)]
    period: u64,
    #[serde(default)]
    token_no_default_policy: bool,
}

/// What is wrong with the server's token roles.
pub(super) struct RoleFinding {
    /// What is wrong: goes on from the provider's name.
    pub(super) what: String,
    /// The cure.
    pub(super) hint: String,
}

impl Vault {
    /// Looks at both token roles; the first thing that is wrong with them.
    pub(super) async fn inspect_roles(&self) -> Result<Option<RoleFinding>, ProviderError> {
        let (session, launch) = (&self.settings.session_role, &self.settings.launch_role);
        let found = self.session_role_finding(&self.token_role(session).await?);
        if found.is_some() {
            return Ok(found);
        }
        let role = self.token_role(launch).await?;
        if role.orphan {
            return Ok(Some(makes_orphans(launch)));
        }
        Ok((!role.token_no_default_policy).then(|| adds_default(launch)))
    }

    fn session_role_finding(&self, role: &TokenRole) -> Option<RoleFinding> {
        let (name, want) = (&self.settings.session_role, self.settings.dead_man.as_secs());
        let period = role.token_period.max(role.period);
        if period != want {
            return Some(RoleFinding {
                what: format!(
                    "has a token role `{name}` with a period of {period} s, but `dead_man` is {want} s"
                ),
                hint: format!(
                    "`bao write auth/token/roles/{name} token_period={want}s`, or set dead_man to that period"
                ),
            });
        }
        if !role.orphan {
            let what = "ties sessions to the broker's own token, with which they would end";
            return Some(wrong_role(name, what, "orphan=true"));
        }
        (!role.token_no_default_policy).then(|| adds_default(name))
    }

    async fn token_role(&self, name: &str) -> Result<TokenRole, ProviderError> {
        let answer = self.identity.call(|| calls::token_role(name), Urgency::Normal).await?;
        let doing = format!("reading the token role `{name}`");
        match answer.status {
            404 => Err(self.name.error(
                Blame::Config,
                &format!("has no token role `{name}`"),
                "run `deploy/vault/setup.sh` against the server, or name the right role",
            )),
            200 => answer.data().ok_or_else(|| self.name.unreadable(&doing)),
            _ => Err(self.identity.refusal(&answer, &doing)),
        }
    }

    /// Checked once: what the roles are like when the first session opens is what they were set up as.
    async fn require_roles(&self) -> Result<(), ProviderError> {
        let checked = self.roles.get_or_try_init(|| async {
            match self.inspect_roles().await? {
                Some(RoleFinding { what, hint }) => Err(self.name.error(Blame::Config, &what, hint)),
                None => Ok(()),
            }
        });
        checked.await.copied()
    }

    /// Makes a session's parent. No policies are sent: the role has them.
    pub(super) async fn make_parent(&self, tag: &SessionTag) -> Result<Parent, ProviderError> {
        self.require_roles().await?;
        let place = self.identity.place().await?;
        let role = &self.settings.session_role;
        let token = || NewToken {
            policies: None,
            ttl: None,
            meta: BTreeMap::from([("session", tag.session.to_string()), ("user", tag.user.clone())]),
            display_name: "mcp-session".to_owned(),
            no_default_policy: true,
        };
        let call = || calls::create_token(role, &token());
        let answer = self.identity.call(call, Urgency::Normal).await?;
        let doing = format!("making a session's token on role `{role}`");
        if !answer.is_ok() {
            return Err(self.identity.refusal(&answer, &doing));
        }
        let auth = answer.auth().ok_or_else(|| self.name.unreadable(&doing))?;
        let held = Held { place, accessor: auth.accessor, kind: Kind::Parent };
        let period = Duration::from_secs(auth.lease_duration);
        Ok(Parent { handle: held.to_handle(), token: auth.client_token, period })
    }

    /// Renews a parent by itself: the broker's own token need not work for a session to live on.
    pub(super) async fn keep_parent(&self, parent: &Parent) -> Result<Duration, ProviderError> {
        let transport = self.identity.stranger().await?;
        let sent = transport
            .send(calls::renew_self().named("renew-parent"), Some(&parent.token), Urgency::Normal)
            .await;
        let answer = self.identity.sent(sent)?;
        let doing = "renewing a session's token";
        if answer.status == 403 {
            return Err(self.name.error(
                Blame::Refused,
                "no longer knows the session's token",
                "it ended or was revoked at the server; end the session and begin a new one",
            ));
        }
        if !answer.is_ok() {
            return Err(self.refused_parent(&answer, doing));
        }
        let auth = answer.auth().ok_or_else(|| self.name.unreadable(doing))?;
        Ok(Duration::from_secs(auth.lease_duration))
    }

    /// Makes a launch's child below `parent`.
    pub(super) async fn make_child(
        &self,
        request: &MintRequest,
        parent: Option<&Parent>,
    ) -> Result<Prepared, ProviderError> {
        let settings: &CredentialSettings = own::credential(&request.spec)?;
        let Some(parent) = parent else {
            return Err(self.name.error(
                Blame::Config,
                "was asked for a credential without a session's token",
                own::REPORT,
            ));
        };
        let above = Held::read(&parent.handle, &self.name)?;
        let transport = self.identity.transport().await?;
        let token = child_token(request, settings);
        let call = calls::create_token(&self.settings.launch_role, &token);
        let signed = transport.sign(call, Some(&parent.token));
        let answer = self.bear(transport, signed, above.accessor.clone(), request.lease).await?;
        let doing = format!("making a launch's token with policies {}", settings.policies.join(", "));
        if !answer.is_ok() {
            return Err(self.refused_parent(&answer, &doing));
        }
        let auth = answer.auth().ok_or_else(|| self.name.unreadable(&doing))?;
        if auth.orphan {
            return Err(self.refuse_orphan(&auth.accessor).await);
        }
        let life = Duration::from_secs(auth.lease_duration).min(request.horizon);
        let until = self.after(life);
        self.ends.note(&auth.accessor, life);
        let kind = Kind::Child {
            parent: above.accessor,
            until,
            lease_id: None,
            fate: Fate::Ends,
            certificate: None,
        };
        let held = Held { place: above.place, accessor: auth.accessor, kind };
        Ok(Prepared { handle: held.to_handle(), opener: Some(auth.client_token) })
    }

    /// A child must hang below its parent: what hangs there ends with it. The role may have been changed since it
    /// was looked at. An orphan is revoked; it has read nothing, and nobody renews it.
    async fn refuse_orphan(&self, accessor: &str) -> ProviderError {
        if let Err(error) = self.identity.call(|| calls::revoke_accessor(accessor), Urgency::Revocation).await
        {
            tracing::warn!(provider = %self.name.provider, %error, "an orphan is left until its end");
        }
        let RoleFinding { what, hint } = makes_orphans(&self.settings.launch_role);
        self.name.error(Blame::Config, &what, hint)
    }

    fn refused_parent(&self, answer: &Answer, doing: &str) -> ProviderError {
        let cure = format!(
            "add the policies to `allowed_policies` of token role `{}`, as `deploy/vault/setup.sh --launch-policies` \
             does; if they are there, the session's token has ended: begin a new session",
            self.settings.launch_role
        );
        self.name.refusal(answer.status, answer.complaint(), doing, &cure)
    }
}

fn child_token(request: &MintRequest, settings: &CredentialSettings) -> NewToken {
    NewToken {
        policies: Some(settings.policies.clone()),
        ttl: Some(request.horizon.max(Duration::from_secs(1))),
        meta: BTreeMap::from([
            ("lease", request.lease.to_string()),
            ("launch", request.launch.to_string()),
            ("session", request.session.to_string()),
            ("server", request.server.to_string()),
            ("scope", request.scope.to_string()),
            ("user", request.user.clone()),
        ]),
        display_name: format!("mcp-{}", request.server),
        no_default_policy: true,
    }
}

fn wrong_role(name: &str, what: &str, setting: &str) -> RoleFinding {
    RoleFinding {
        what: format!("has a token role `{name}` that {what}"),
        hint: format!("`bao write auth/token/roles/{name} {setting}`, or run `deploy/vault/setup.sh`"),
    }
}

fn makes_orphans(name: &str) -> RoleFinding {
    wrong_role(name, "makes orphans, which outlive their session", "orphan=false")
}

fn adds_default(name: &str) -> RoleFinding {
    wrong_role(name, "adds the policy `default` to its tokens", "token_no_default_policy=true")
}

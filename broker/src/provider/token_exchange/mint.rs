//! A new token: asked for, looked at, and handed on where it is no more than what was asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use mcp_broker_proto::Secret;
use mcp_broker_proto::names::LeaseId;

use super::answer::{Fault, Given, Terms, WIDER, is_jwt, is_narrower};
use super::client::Ready;
use super::credential::{Credential, FIELDS, PLAIN};
use super::end::{MARGIN, Named, later};
use super::endpoints::Endpoints;
use super::kept::Kept;
use super::settings::TokenForm;
use super::{TokenExchange, fault};
use crate::provider::held::Known;
use crate::provider::http::Unanswered;
use crate::provider::{Blame, Issued, MintRequest, Prepared, ProviderError, own};

/// What a token is told to be, once it was looked at.
struct Seen {
    kept: Kept,
    /// When it ends, where introspection tells it.
    ends: Option<Timestamp>,
    /// Its scope, likewise.
    scope: Option<String>,
    /// What there is to say of it.
    notes: Vec<&'static str>,
}

impl TokenExchange {
    pub(super) async fn make_token(
        self: &Arc<Self>,
        request: &MintRequest,
        prepared: &Prepared,
    ) -> Result<Issued, ProviderError> {
        let lease = self.named(&prepared.handle)?.lease;
        let asked: &Credential = own::credential(&request.spec)?;
        // Nothing was asked for so far.
        self.held.put(lease, Known::None);
        let endpoints = self.endpoints().await?;
        let ready = self.ready(self.body(request, asked, &endpoints).await?, &endpoints).await?;
        let asked_at = self.clock.now();
        let (kept, terms) = self.ask_for_it(ready, endpoints, request).await?;
        // Whatever fails from here on is revoked by the lease layer, by what is held now.
        let seen = self.look_at(lease, kept, asked).await?;
        let terms = terms.map_err(|fault| self.unusable(fault))?;
        self.issued(request, lease, seen, (asked, terms), asked_at)
    }

    /// Asks in a task of its own: where nobody waits any more, the token that comes is kept all the same.
    async fn ask_for_it(
        self: &Arc<Self>,
        ready: Ready,
        endpoints: Arc<Endpoints>,
        request: &MintRequest,
    ) -> Result<(Kept, Result<Terms, Fault>), ProviderError> {
        let (asker, spec, flight) = (Arc::clone(self), request.spec.clone(), self.held.fly(request.lease));
        let asking = tokio::spawn(async move {
            let asked: &Credential = own::credential(&spec)?;
            let answer = match asker.post(&endpoints.token, ready).await {
                Ok(answer) => answer,
                Err(Unanswered { error, may_have_acted }) => {
                    if !may_have_acted {
                        flight.rest(Known::None);
                    }
                    return Err(error);
                }
            };
            if answer.status != 200 {
                if fault::is_refusal(&answer) {
                    flight.rest(Known::None);
                }
                return Err(asker.refusal(&answer, asked.exchanges()));
            }
            let Some(mut given) = answer.json::<Given>() else {
                let hint = "check that `issuer` or `token_endpoint` is that of an OAuth 2.0 server";
                return Err(asker.http.error(Blame::Broken, "gave an answer without a token", hint));
            };
            let terms = given.terms(asked);
            let refresh = given.refresh_token.take();
            let kept = asker.kept(given.access_token, refresh, endpoints);
            flight.rest(Known::Token(kept.clone()));
            Ok((kept, terms))
        });
        asking.await.unwrap_or_else(|_panicked| {
            Err(self.http.error(Blame::Broken, "was asked for a token in vain", own::REPORT))
        })
    }

    fn kept(&self, token: Secret, refresh: Option<Secret>, endpoints: Arc<Endpoints>) -> Kept {
        let asked_about = match self.settings.access_tokens {
            Some(form) => form == TokenForm::Opaque,
            // EXPOSE: its shape is looked at here and now.
            None => !token.expose(is_jwt),
        };
        let refresh = refresh.map(Arc::new);
        Kept { token: Arc::new(token), refresh, endpoints, seen_active: false, asked_about }
    }

    /// Sees what the server says of a new token, after what came beside it is gone.
    async fn look_at(
        &self,
        lease: LeaseId,
        mut kept: Kept,
        asked: &Credential,
    ) -> Result<Seen, ProviderError> {
        let mut notes = Vec::new();
        let had_refresh = kept.refresh.is_some();
        if had_refresh {
            notes.push(match self.drop_refresh(&mut kept).await? {
                true => "a refresh token came with it and was revoked",
                false => "a refresh token came with it and was thrown away",
            });
            self.held.put(lease, Known::Token(kept.clone()));
        }
        // One who cannot be asked now has not known it: then nothing is said of it later.
        let look = self.introspected(&kept).await.ok().flatten();
        kept.seen_active = look.as_ref().is_some_and(|look| look.active);
        self.held.put(lease, Known::Token(kept.clone()));
        if had_refresh && look.as_ref().is_some_and(|look| !look.active) {
            let what = "gave a refresh token, and revoking that ended the access token";
            let hint = "do not let the server give this client refresh tokens for this grant";
            return Err(self.http.error(Blame::Refused, what, hint));
        }
        let active = look.filter(|look| look.active);
        if active.as_ref().is_some_and(|look| look.is_wider(asked)) {
            return Err(self.unusable(WIDER));
        }
        let ends = active.as_ref().and_then(|look| Timestamp::from_second(look.ends()?).ok());
        let scope = active.and_then(|look| look.scope().map(str::to_owned));
        Ok(Seen { kept, ends, scope, notes })
    }

    fn issued(
        &self,
        request: &MintRequest,
        lease: LeaseId,
        seen: Seen,
        (asked, terms): (&Credential, Terms),
        asked_at: Timestamp,
    ) -> Result<Issued, ProviderError> {
        let Seen { kept, ends, scope, mut notes } = seen;
        let told = terms.life.map(|life| later(asked_at, life)).or(ends);
        let valid_until = self.held_to_limits(told)?;
        let expires_at = self.after(request.spec.ttl.min(request.horizon)).min(valid_until);
        let (revocability, why) = self.verdict(&kept, valid_until);
        notes.extend(why);
        if told.is_none() {
            notes.push("the server does not say when it ends");
        }
        // "OPTIONAL, if identical to the scope requested by the client" (RFC 6749 section 5.1).
        let wished = || asked.scopes.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        let scope = terms.scope.or(scope).unwrap_or_else(wished);
        if is_narrower(&asked.scopes, &scope) {
            notes.push("the server gave less scope than was asked for");
        }
        // EXPOSE: the copy that goes to the launch; the other one is kept to revoke it.
        let copy = kept.token.expose(|text| Secret::new(text.to_owned()));
        let values = [copy, Secret::new("Bearer".to_owned()), Secret::new(scope)];
        Ok(Issued {
            handle: Named { lease, until: valid_until }.to_handle(),
            fields: FIELDS.map(str::to_owned).into_iter().zip(values).collect::<BTreeMap<_, _>>(),
            plain: PLAIN,
            expires_at: Some(expires_at),
            valid_until: (valid_until > expires_at).then_some(valid_until),
            detail: (!notes.is_empty()).then(|| notes.join("; ")),
            // Of one whose end is not told nobody knows whether it is good for longer.
            renewable: told.is_some() && expires_at < valid_until,
            revocability,
        })
    }

    /// The end of a token, or the latest one that it can have.
    fn held_to_limits(&self, told: Option<Timestamp>) -> Result<Timestamp, ProviderError> {
        let latest = self.after(self.settings.longest_life);
        let Some(end) = told else { return Ok(latest) };
        if end > self.clock.now() && end <= later(latest, MARGIN) {
            return Ok(end);
        }
        let what = "says that a token ends at once, or later than `longest_life` allows";
        let hint = "set the life of its tokens at the server, or `longest_life`, and this machine's clock";
        Err(self.http.error(Blame::Refused, what, hint))
    }

    fn unusable(&self, (blame, what, hint): Fault) -> ProviderError {
        self.http.error(blame, what, hint)
    }
}

//! Watches the server's half of a login as it passes, and cuts it off before the client would answer something that
//! gives the password away. Hands on everything else as it came, and judges nothing once the login is over.
//!
//! Only SCRAM-SHA-256 is taken, because it proves both sides: the client its password without showing it, the server
//! that it has the verifier. Whoever else has the port would otherwise be handed the password itself or its hash, or
//! could let the client in unasked and then say of a role what it likes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The longest message about authentication that is taken, in bytes. Those of SCRAM have some hundred.
const MAX_MESSAGE: usize = 4096;
/// The most rounds of a verifier that are reckoned: about a second of one processor. PostgreSQL's own number is 4096
/// (`scram_iterations`); an impostor could ask for billions, which would hold up a thread of the broker.
const MAX_ROUNDS: u32 = 1_000_000;

/// Why a login was cut off; goes on from the provider's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// `AuthenticationCleartextPassword`.
    #[error("asks for the password in clear text, which is not sent")]
    ClearText,
    /// `AuthenticationMD5Password`.
    #[error("asks for an MD5 hash of the password, which is not sent")]
    Md5,
    /// `AuthenticationOk` where a password was to be proved.
    #[error("lets the broker in without its password, so nothing proves what it is")]
    Unasked,
    /// A password is wanted where none is configured.
    #[error("asks for a password, and none is configured")]
    NoPassword,
    /// Kerberos, GSSAPI, SSPI.
    #[error("asks for a way to log in that the broker does not have")]
    Other,
    /// Too many rounds.
    #[error("has a password with more than a million SCRAM iterations")]
    Rounds,
    /// Not the protocol.
    #[error("does not log in as the protocol has it")]
    Garbled,
}

impl Refused {
    /// What to do.
    pub(super) fn hint(self) -> &'static str {
        match self {
            Self::ClearText | Self::Md5 | Self::Other => {
                "let it in by `scram-sha-256` in pg_hba.conf, and set the password anew under \
                 `password_encryption = 'scram-sha-256'`; or see whether something else has the port"
            }
            Self::Unasked => {
                "write `scram-sha-256` for it in pg_hba.conf; where a unix socket tells the server the account, \
                 remove `password`"
            }
            Self::NoPassword => "write `password`, or `peer` for it in pg_hba.conf",
            Self::Rounds => "set the password anew with a smaller `scram_iterations`",
            Self::Garbled => "see whether `host` and `port` are those of a PostgreSQL",
        }
    }
}

/// What has to come next of the authentication requests (PostgreSQL manual, section 54.7, `R`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// `AuthenticationSASL`.
    Sasl,
    /// `AuthenticationSASLContinue`.
    Continue,
    /// `AuthenticationSASLFinal`, whose signature the client verifies.
    Final,
    /// `AuthenticationOk` after a proof.
    Ok,
    /// `AuthenticationOk` at once: the server knows the account of a unix socket's other end.
    OkAtOnce,
    /// The login is over.
    Over,
}

/// What was seen of the server's half.
struct Login {
    stage: Stage,
    /// The message that is coming, its head included.
    message: Vec<u8>,
    /// Bytes that are left of one that is not looked at.
    skip: usize,
}

impl Login {
    fn see(&mut self, mut bytes: &[u8]) -> Result<(), Refused> {
        while let Some((first, rest)) = bytes.split_first()
            && self.stage != Stage::Over
        {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            self.message.push(*first);
            bytes = rest;
            self.weigh()?;
        }
        Ok(())
    }

    /// Looks at the message after each byte: a code is judged as soon as it is known.
    fn weigh(&mut self) -> Result<(), Refused> {
        let [kind, a, b, c, d, body @ ..] = self.message.as_slice() else { return Ok(()) };
        // The length counts itself.
        let length = usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).unwrap_or(usize::MAX);
        let length = length.checked_sub(4).ok_or(Refused::Garbled)?;
        if *kind != b'R' {
            (self.skip, self.message) = (length, Vec::new());
            return Ok(());
        }
        if !(4..=MAX_MESSAGE).contains(&length) {
            return Err(Refused::Garbled);
        }
        let Some((code, data)) = body.split_first_chunk::<4>() else { return Ok(()) };
        let next = self.stage.after(u32::from_be_bytes(*code))?;
        if body.len() == length {
            if next == Stage::Final && rounds(data) > MAX_ROUNDS {
                return Err(Refused::Rounds);
            }
            (self.stage, self.message) = (next, Vec::new());
        }
        Ok(())
    }
}

impl Stage {
    fn after(self, code: u32) -> Result<Self, Refused> {
        match (self, code) {
            (Self::Sasl, 10) => Ok(Self::Continue),
            (Self::Continue, 11) => Ok(Self::Final),
            (Self::Final, 12) => Ok(Self::Ok),
            (Self::Ok | Self::OkAtOnce, 0) => Ok(Self::Over),
            (Self::OkAtOnce, 3 | 5 | 10) => Err(Refused::NoPassword),
            (Self::Sasl | Self::Continue | Self::Final, 0) => Err(Refused::Unasked),
            (_, 3) => Err(Refused::ClearText),
            (_, 5) => Err(Refused::Md5),
            (Self::Sasl | Self::OkAtOnce, _) => Err(Refused::Other),
            _ => Err(Refused::Garbled),
        }
    }
}

/// The iteration count of a server's first message (RFC 5802 section 5.1). A text without one the client refuses.
fn rounds(data: &[u8]) -> u32 {
    let counts = data.split(|byte| *byte == b',').filter_map(|part| part.strip_prefix(b"i="));
    let number = |text: &[u8]| std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    counts.map(|count| number(count).unwrap_or(u32::MAX)).max().unwrap_or(0)
}

/// A connection whose login is watched. Lies above TLS where there is some.
pub(super) struct Watched<S> {
    stream: S,
    login: Login,
}

impl<S> Watched<S> {
    /// For a login with a password.
    pub(super) fn by_password(stream: S) -> Self {
        Self::from(stream, Stage::Sasl)
    }

    /// For a login without one.
    pub(super) fn by_account(stream: S) -> Self {
        Self::from(stream, Stage::OkAtOnce)
    }

    fn from(stream: S, stage: Stage) -> Self {
        Self { stream, login: Login { stage, message: Vec::new(), skip: 0 } }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let came = buf.filled().get(before..).unwrap_or_default();
        if let Err(refused) = self.login.see(came) {
            buf.set_filled(before);
            return Poll::Ready(Err(io::Error::other(refused)));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap_or(0).to_be_bytes();
        [&[kind], length.as_slice(), body].concat()
    }

    fn request(code: u32, data: &[u8]) -> Vec<u8> {
        message(b'R', &[code.to_be_bytes().as_slice(), data].concat())
    }

    /// What is seen of those messages, all at once and byte by byte.
    fn seen(stage: Stage, messages: &[Vec<u8>]) -> Result<Stage, Refused> {
        let login = || Login { stage, message: Vec::new(), skip: 0 };
        let (bytes, mut whole, mut slow) = (messages.concat(), login(), login());
        let at_once = whole.see(&bytes).map(|()| whole.stage);
        let by_byte = bytes.chunks(1).try_for_each(|byte| slow.see(byte)).map(|()| slow.stage);
        assert_eq!(at_once, by_byte);
        at_once
    }

    #[test]
    fn only_a_proof_is_given() {
        let (sasl, last, ok) = (request(10, b"SCRAM-SHA-256\0\0"), request(12, b"v=x"), request(0, b""));
        let first = |rounds: &str| request(11, format!("r=a,s=b,i={rounds}").as_bytes());
        let notice = message(b'N', b"R\0\0\0\x08\0\0\0\x03");
        for (stage, messages, want) in [
            (Stage::Sasl, vec![sasl.clone(), first("4096"), last.clone(), ok.clone()], Ok(Stage::Over)),
            (Stage::Sasl, vec![notice.clone(), sasl.clone(), notice, first("1000000")], Ok(Stage::Final)),
            (Stage::OkAtOnce, vec![ok.clone()], Ok(Stage::Over)),
            (Stage::OkAtOnce, vec![ok.clone(), request(3, b"")], Ok(Stage::Over)),
            (Stage::Sasl, vec![message(b'E', b"SFATAL\0\0")], Ok(Stage::Sasl)),
            (Stage::Sasl, vec![request(3, b"")], Err(Refused::ClearText)),
            (Stage::Sasl, vec![request(5, b"salt")], Err(Refused::Md5)),
            (Stage::Sasl, vec![request(7, b"")], Err(Refused::Other)),
            (Stage::Sasl, vec![ok.clone()], Err(Refused::Unasked)),
            (Stage::Sasl, vec![sasl.clone(), request(3, b"")], Err(Refused::ClearText)),
            (Stage::Sasl, vec![sasl.clone(), ok.clone()], Err(Refused::Unasked)),
            (Stage::Sasl, vec![sasl.clone(), first("4096"), ok.clone()], Err(Refused::Unasked)),
            (Stage::Sasl, vec![sasl.clone(), first("1000001")], Err(Refused::Rounds)),
            (Stage::Sasl, vec![sasl.clone(), first("99999999999")], Err(Refused::Rounds)),
            (Stage::Sasl, vec![sasl.clone(), sasl.clone()], Err(Refused::Garbled)),
            (Stage::Sasl, vec![request(10, &[b'x'; MAX_MESSAGE])], Err(Refused::Garbled)),
            (Stage::Sasl, vec![vec![b'R', 0, 0, 0, 3]], Err(Refused::Garbled)),
            (Stage::OkAtOnce, vec![request(3, b"")], Err(Refused::NoPassword)),
            (Stage::OkAtOnce, vec![sasl], Err(Refused::NoPassword)),
        ] {
            assert_eq!(seen(stage, &messages), want, "{messages:?}");
        }
    }
}

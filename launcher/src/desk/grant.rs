//! The right to ask for one credential in one form: a path, and a random token that only a private file of the
//! instance has. It opens nothing to a process outside the instance's tree.

use std::hint::black_box;

use mcp_broker_proto::names::Label;
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use zeroize::Zeroizing;

use super::shelf::Form;

/// Random bytes in a token.
const RANDOM: usize = 32;

/// One right.
pub(super) struct Grant {
    /// The credential.
    pub(super) credential: Label,
    /// What is handed out of it.
    pub(super) form: Form,
    /// Where to ask.
    pub(super) path: String,
    token: Zeroizing<String>,
}

impl Grant {
    /// With a new token.
    ///
    /// # Errors
    /// Where the kernel has no random bytes.
    pub(super) fn new(credential: &Label, form: Form) -> Result<Self, Errno> {
        let mut bytes = Zeroizing::new([0_u8; RANDOM]);
        if getrandom(&mut bytes[..], GetRandomFlags::empty())? < RANDOM {
            return Err(Errno::IO);
        }
        let mut token = Zeroizing::new(String::with_capacity(2 * RANDOM));
        for byte in bytes.iter() {
            for digit in [byte >> 4, byte & 15] {
                token.extend(char::from_digit(u32::from(digit), 16));
            }
        }
        let path = format!("{}{credential}", form.prefix());
        Ok(Self { credential: credential.clone(), form, path, token })
    }

    /// The token, for the file that is to hold it.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// Whether `shown` is the token. How long that takes says nothing of where they differ.
    pub(super) fn opens(&self, shown: &str) -> bool {
        let (ours, theirs) = (self.token.as_bytes(), shown.as_bytes());
        let differ = ours.iter().zip(theirs).fold(0, |sum, (a, b)| black_box(sum | (a ^ b)));
        ours.len() == theirs.len() && black_box(differ) == 0
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        let grant = || Grant::new(&"db".parse().unwrap(), Form::AwsEndpoint).unwrap();
        let (one, other) = (grant(), grant());
        assert_eq!(one.path, "/v1/aws/db");
        assert!(one.token().len() == 64 && one.opens(one.token()));
        let changed = |at: usize| {
            let mut text = one.token().to_owned().into_bytes();
            if let Some(byte) = text.get_mut(at) {
                *byte ^= 1;
            }
            String::from_utf8(text).unwrap()
        };
        for wrong in
            [other.token(), "", &changed(0), &changed(63), &one.token()[..63], &format!("{}0", one.token())]
        {
            assert!(!one.opens(wrong), "{wrong}");
        }
    }
}

//! Reads the value of `secret set` from standard input: a pipe to its end, or one line of a terminal that
//! does not show it. What was read is wiped; nothing of it is in an error.

use std::io::{IsTerminal, Read, Write};

use mcp_broker_proto::Secret;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios};
use zeroize::{Zeroize, Zeroizing};

use crate::provider::sealed::{MAX_VALUE, SecretName};

/// Why there is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ValueError {
    #[error("the value is empty")]
    Empty,
    #[error("the value is longer than {MAX_VALUE} bytes")]
    TooLong,
    #[error("the value is not UTF-8 text")]
    NotText,
    #[error("nothing was sealed")]
    Aborted,
    #[error("standard input cannot be read")]
    Unreadable,
}

impl ValueError {
    /// The cure.
    /// `command` is the one that seals it.
    pub(super) fn hint(self, command: &str) -> String {
        match self {
            Self::Empty | Self::Unreadable => format!("pipe the value in: {command} < file"),
            Self::TooLong => "seal a key, not a document".to_owned(),
            Self::NotText => "encode it, for example with base64".to_owned(),
            Self::Aborted => "run it again and end the value with Enter".to_owned(),
        }
    }

    /// sysexits(3): the input was wrong, or could not be had.
    pub(super) fn exit_code(self) -> u8 {
        match self {
            Self::Empty | Self::TooLong | Self::NotText => 64,
            Self::Aborted | Self::Unreadable => 69,
        }
    }
}

/// The value for `name`; asks for it where standard input is a terminal.
pub(super) fn from_stdin(name: &SecretName) -> Result<Secret, ValueError> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return parse(ask(name)?);
    }
    // One byte more than a value and its line feed: enough to know that it is too long.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_VALUE + 2));
    let limit = u64::try_from(MAX_VALUE + 2).unwrap_or(u64::MAX);
    // Not `stdin()`, whose own buffer would keep a copy.
    let file = std::fs::File::from(rustix::io::dup(&stdin).map_err(|_errno| ValueError::Unreadable)?);
    file.take(limit).read_to_end(&mut bytes).map_err(|_io| ValueError::Unreadable)?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    parse(bytes)
}

fn parse(mut bytes: Zeroizing<Vec<u8>>) -> Result<Secret, ValueError> {
    if bytes.is_empty() {
        return Err(ValueError::Empty);
    }
    if bytes.len() > MAX_VALUE {
        return Err(ValueError::TooLong);
    }
    let text = String::from_utf8(std::mem::take(&mut *bytes)).map_err(|error| {
        error.into_bytes().zeroize();
        ValueError::NotText
    })?;
    Ok(Secret::new(text))
}

/// Reads a line key by key. Not the terminal's own lines: those end at 4095 bytes (termios(3)), and a signal
/// in the middle would leave the terminal without echo.
fn ask(name: &SecretName) -> Result<Zeroizing<Vec<u8>>, ValueError> {
    let terminal = Hidden::new().map_err(|_errno| ValueError::Unreadable)?;
    tell(&format!("value of {name} (not shown, end with Enter): "));
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_VALUE + 2));
    let mut key = Zeroizing::new([0u8; 1]);
    let answer = loop {
        match rustix::io::read(std::io::stdin(), &mut key[..]) {
            Ok(0) => break Step::Done,
            Ok(_) => match press(&mut line, u8::from_be_bytes(*key)) {
                Step::More => {}
                end => break end,
            },
            Err(rustix::io::Errno::INTR) => {}
            Err(_errno) => return Err(ValueError::Unreadable),
        }
    };
    drop(terminal);
    tell("\n");
    if answer == Step::Aborted { Err(ValueError::Aborted) } else { Ok(line) }
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    More,
    Done,
    Aborted,
}

/// What one key does to the line: the usual ones of a terminal (termios(3), VINTR to VKILL).
fn press(line: &mut Vec<u8>, key: u8) -> Step {
    match key {
        b'\r' | b'\n' => return Step::Done,
        // Ctrl-C, Ctrl-\, and Ctrl-D before anything was typed.
        0x03 | 0x1c => return Step::Aborted,
        0x04 => return if line.is_empty() { Step::Aborted } else { Step::Done },
        // Backspace takes a whole character, which in UTF-8 ends at a byte that is not a continuation.
        0x08 | 0x7f => while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
        // Ctrl-U.
        0x15 => line.zeroize(),
        // The buffer is never grown, so no copy is left behind; what is over the cap is refused at the end.
        _ if line.len() <= MAX_VALUE => line.push(key),
        _ => {}
    }
    Step::More
}

/// The terminal without echo, lines and signals, until dropped.
struct Hidden(Termios);

impl Hidden {
    fn new() -> rustix::io::Result<Self> {
        let stdin = std::io::stdin();
        let before = rustix::termios::tcgetattr(&stdin)?;
        let mut hidden = before.clone();
        hidden.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        hidden.special_codes[SpecialCodeIndex::VMIN] = 1;
        hidden.special_codes[SpecialCodeIndex::VTIME] = 0;
        rustix::termios::tcsetattr(&stdin, OptionalActions::Flush, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        rustix::termios::tcsetattr(std::io::stdin(), OptionalActions::Drain, &self.0).ok();
    }
}

fn tell(text: &str) {
    // Where standard error is closed the person sees no prompt, which changes nothing else.
    std::io::stderr().write_all(text.as_bytes()).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(keys: &[u8]) -> (Step, Vec<u8>) {
        let mut line = Vec::new();
        for key in keys {
            let step = press(&mut line, *key);
            if step != Step::More {
                return (step, line);
            }
        }
        (Step::More, line)
    }

    #[test]
    fn keys() {
        for (keys, step, line) in [
            (&b"abc\rd"[..], Step::Done, &b"abc"[..]),
            (b"abc\x7f\x08d\n", Step::Done, b"ad"),
            ("aü\x7fb\n".as_bytes(), Step::Done, b"ab"),
            (b"\x7f\n", Step::Done, b""),
            (b"abc\x15d\x04", Step::Done, b"d"),
            (b"\x04", Step::Aborted, b""),
            (b"ab\x03", Step::Aborted, b"ab"),
            (b"ab", Step::More, b"ab"),
        ] {
            assert_eq!(check(keys), (step, line.to_vec()), "{keys:?}");
        }
        let (_, line) = check(&vec![b'x'; MAX_VALUE + 10]);
        assert_eq!(line.len(), MAX_VALUE + 1);
    }

    #[test]
    fn values() {
        let refused = |bytes: Vec<u8>| parse(Zeroizing::new(bytes)).err();
        assert_eq!(refused(vec![]), Some(ValueError::Empty));
        assert_eq!(refused(vec![b'x'; MAX_VALUE]), None);
        assert_eq!(refused(vec![b'x'; MAX_VALUE + 1]), Some(ValueError::TooLong));
        assert_eq!(refused(vec![0xff]), Some(ValueError::NotText));
    }
}

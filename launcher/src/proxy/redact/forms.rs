//! The forms of a secret that are looked for as they stand: itself, in base64 and in hexadecimal. Escapes of JSON
//! and of URLs are no forms: they are taken off what is searched ([`super::escapes`]), however they are mixed.

use zeroize::Zeroizing;

use super::SHORTEST;

/// The shortest line of a secret of several lines that is looked for by itself, in bytes.
const SHORTEST_LINE: usize = 16;

/// Bytes to look for. Wiped when dropped.
pub(super) struct Needle {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    pub(super) what: What,
}

/// What was found where a needle is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// A secret, or all of an encoded one.
    Whole,
    /// The part of a secret's base64 that its neighbours have no say in: the character on these sides has bits of
    /// it as well.
    Core {
        /// The one before.
        before: bool,
        /// The one after.
        after: bool,
    },
    /// A line of a secret; it says nothing where lines are escaped.
    Line,
}

/// Every form of a secret.
pub(super) fn of(secret: &[u8], mut add: impl FnMut(Needle)) {
    let mut whole = |bytes| add(Needle { bytes, what: What::Whole });
    whole(Zeroizing::new(secret.to_vec()));
    // Servers trim what they read from a file.
    let trimmed = secret.trim_ascii_end();
    if trimmed.len() < secret.len() && trimmed.len() >= SHORTEST {
        whole(Zeroizing::new(trimmed.to_vec()));
    }
    if secret.contains(&b' ') {
        // As forms of HTML are encoded (WHATWG URL, application/x-www-form-urlencoded).
        whole(Zeroizing::new(secret.iter().map(|byte| if *byte == b' ' { b'+' } else { *byte }).collect()));
    }
    for digits in [b"0123456789abcdef", b"0123456789ABCDEF"] {
        whole(hexadecimal(secret, digits));
    }
    for alphabet in [STANDARD, URL_SAFE] {
        for before in 0..3 {
            add(core(secret, before, alphabet));
        }
    }
    if secret.contains(&b'\n') {
        let lines = secret.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        // The frame of a PEM file is the same everywhere (RFC 7468).
        for line in lines.filter(|line| line.len() >= SHORTEST_LINE && !line.starts_with(b"-----")) {
            add(Needle { bytes: Zeroizing::new(line.to_vec()), what: What::Line });
        }
    }
}

fn hexadecimal(secret: &[u8], digits: &[u8; 16]) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(secret.len() * 2));
    for nibble in secret.iter().flat_map(|byte| [byte >> 4, byte & 15]) {
        out.extend(digits.get(usize::from(nibble)));
    }
    out
}

/// The characters of base64 (RFC 4648 sections 4 and 5) that hold bits of the secret alone, where `before` bytes
/// of something else, up to three, share its first group.
fn core(secret: &[u8], before: usize, alphabet: &[u8; 64]) -> Needle {
    let mut bytes = Zeroizing::new(Vec::with_capacity(secret.len() * 4 / 3 + 1));
    let (mut bits, mut held) = (0_u32, 0);
    // The first bits go into a character that begins before the secret does.
    let shared = (6 - before * 8 % 6) % 6;
    for byte in secret {
        bits = bits << 8 | u32::from(*byte);
        held += 8;
        if held == 8 && bytes.is_empty() {
            held -= shared;
        }
        while held >= 6 {
            held -= 6;
            bytes.extend(alphabet.get((bits >> held & 63) as usize));
        }
    }
    Needle { bytes, what: What::Core { before: shared > 0, after: held > 0 } }
}

/// Whether a byte is a character of base64, in either alphabet.
pub(super) fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/-_".contains(&byte)
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
// A search by the first bytes of a needle needs as many in each: the core of the shortest secret has four.
const _: () = assert!(SHORTEST == 4);

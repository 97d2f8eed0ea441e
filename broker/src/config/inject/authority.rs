//! Reads the file of a kubeconfig's authority: certificates that nobody else can change. What else is in the file
//! stays there.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::config::files::{Refusal, read_named};
use crate::config::reader::Reader;

/// The largest file, in bytes. It travels in one frame with the credentials.
const MAX_FILE: u64 = 64 << 10;

/// The certificates of the file that `authority` names; nothing where there is none, or a mistake was noted.
pub(super) fn authority(one: &Reader<'_>) -> Option<String> {
    let path = one.path("authority")?;
    let key = one.name("authority");
    let note = |what: &str, hint: &str| one.error("authority", format!("the file of `{key}`: {what}"), hint);
    match read_named(&path, rustix::process::geteuid().as_raw(), MAX_FILE) {
        Ok(text) => {
            let found = certificates(&text);
            if let Err((what, hint)) = &found {
                note(what, hint);
            }
            found.ok()
        }
        Err(Refusal::Absent) => {
            note("does not exist", "write the PEM of the cluster's authority there");
            None
        }
        Err(Refusal::Bad(bad)) => {
            note(&bad.message, &bad.hint);
            None
        }
        Err(Refusal::Unsafe(faults)) => {
            faults.iter().for_each(|fault| note(&fault.message, &fault.hint));
            None
        }
    }
}

/// The certificates of a text, each in its frame (RFC 7468 section 5). Whether each can be used is its reader's to say.
fn certificates(text: &str) -> Result<String, (&'static str, &'static str)> {
    if text.contains("PRIVATE KEY-----") {
        let hint = "name a file with the certificates alone; nobody who checks a server needs its key";
        return Err(("holds a private key", hint));
    }
    let mut found = String::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(BEGIN) {
        let Some((inner, behind)) = after.split_once(END) else {
            return Err(("has a certificate without its end", PEM_HINT));
        };
        let packed: String = inner.split_ascii_whitespace().collect();
        // A certificate is a DER sequence, which begins with this byte (X.690 section 8.9.1).
        if STANDARD.decode(&packed).ok().and_then(|der| der.first().copied()) != Some(0x30) {
            return Err(("has a certificate that is not one", PEM_HINT));
        }
        found.push_str(BEGIN);
        for line in packed.as_bytes().chunks(64) {
            found.push('\n');
            found.push_str(&String::from_utf8_lossy(line));
        }
        found.push('\n');
        found.push_str(END);
        found.push('\n');
        rest = behind;
    }
    if found.is_empty() { Err(("holds no certificate in PEM", PEM_HINT)) } else { Ok(found) }
}

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";
const PEM_HINT: &str = "write it as PEM, from `-----BEGIN CERTIFICATE-----` to `-----END CERTIFICATE-----`";

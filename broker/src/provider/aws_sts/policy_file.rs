//! Reads a policy that stands in a file of its own, when the configuration is loaded. Checks owner and mode on the
//! open descriptor, as for the configuration itself: who can change the policy can change what a launch may do.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::Value;

use crate::provider::files;

/// The largest file taken, in bytes: with white space, as STS sees the policy without it.
const MAX_FILE: u64 = 64 << 10;

/// The policy; else what is wrong with the file, to follow its name, and the cure.
pub(super) fn read(path: &Path) -> Result<Value, (String, String)> {
    let shown = path.display();
    let failed = |error: std::io::Error| {
        let hint = "check that it is there and that the broker may read it";
        (format!("cannot be read: {}", error.kind()), hint.to_owned())
    };
    let (file, meta) = files::open(path).map_err(failed)?;
    let me = rustix::process::geteuid().as_raw();
    if ![0, me].contains(&meta.uid()) {
        return Err((
            format!("belongs to someone else (uid {})", meta.uid()),
            format!("`chown {me} {shown}`"),
        ));
    }
    if meta.mode() & 0o022 != 0 {
        return Err((
            "may be changed by its group or by everybody".to_owned(),
            format!("`chmod go-w {shown}`"),
        ));
    }
    let mut text = String::new();
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_FILE {
        return Err(("is too long".to_owned(), format!("STS takes {} characters", super::words::MAX_POLICY)));
    }
    serde_json::from_str(&text).map_err(|error| {
        let place = format!("is not JSON, at line {} column {}", error.line(), error.column());
        (place, "write the policy as IAM shows it".to_owned())
    })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_what_nobody_else_can_change() {
        let dir = std::env::temp_dir().join(format!("mcp-broker-policy-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        for (name, content, mode, want) in [
            ("good", "{\"Statement\": []}", 0o644, None),
            ("group", "{}", 0o664, Some("may be changed")),
            ("text", "{\n x", 0o600, Some("is not JSON, at line 2")),
            ("long", &" ".repeat(70_000), 0o600, Some("too long")),
        ] {
            let path = dir.join(name);
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            match (read(&path), want) {
                (Ok(_), None) => {}
                (Err((got, _)), Some(want)) => assert!(got.contains(want), "{name}: {got}"),
                (got, want) => unreachable!("{name}: {got:?}, not {want:?}"),
            }
        }
        assert!(read(&dir.join("absent")).is_err() && read(&dir).is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

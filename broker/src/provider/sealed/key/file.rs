//! The key as a file beside the store. Whoever can read both files can read the values, and the warning of
//! the provider says so.

use super::super::super::{Blame, ProviderError};
use super::super::state_dir::StateDir;
use super::{MAX_KEY_TEXT, RootKey};

/// Name of the key file in the state directory.
pub(crate) const KEY_FILE: &str = "sealed.key";

/// Reads it. `None` where it is not there.
pub(super) fn read(dir: &StateDir) -> Result<Option<RootKey>, ProviderError> {
    let Some(text) = dir.read(KEY_FILE, MAX_KEY_TEXT)? else { return Ok(None) };
    let bad = || {
        let what = format!("`{}` is not a key", dir.path_of(KEY_FILE).display());
        ProviderError::new(
            Blame::Config,
            what,
            "restore it from a backup; without it the store cannot be read",
        )
    };
    RootKey::parse(&text).map(Some).ok_or_else(bad)
}

/// Makes one; fails where there is one.
pub(super) fn create(dir: &StateDir) -> Result<RootKey, ProviderError> {
    let key = RootKey::generate()?;
    dir.create_new(KEY_FILE, &key.to_line())?;
    Ok(key)
}

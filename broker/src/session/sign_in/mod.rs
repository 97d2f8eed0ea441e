//! How a person is known. With `os`, being logged in is enough and groups are the account's.

pub mod os;

use std::path::PathBuf;

/// Somebody who may have a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// User id of the account.
    pub uid: u32,
    /// Name of the account.
    pub user: String,
    /// Names of its groups.
    pub groups: Vec<String>,
    /// Its home directory.
    pub home: PathBuf,
}

//! The keys of a credential of this kind: what makes a role, what it is granted, what drops it.

use std::sync::Arc;

use super::statement::{Place, Statement};
use crate::config::{CredentialKeys, Reader};

/// One credential, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credential {
    /// Never empty.
    pub(super) create: Vec<Statement>,
    /// Roles that it becomes a member of.
    pub(super) grant: Vec<String>,
    /// Empty: the broker's own way.
    pub(super) drop: Vec<Statement>,
}

/// Its fields.
pub(super) const FIELDS: [&str; 2] = ["password", "username"];

const CREATE: &str =
    "CREATE ROLE {name} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD {password} VALID UNTIL {until}";

/// Reads a credential's keys.
pub(super) fn read(reader: &Reader<'_>) -> Option<CredentialKeys> {
    let own = reader.has("create");
    let create = if own { statements(reader, "create") } else { CREATE.parse().ok().map(|one| vec![one]) };
    let grant = grants(reader);
    let drop = if reader.has("drop") { statements(reader, "drop") } else { Some(Vec::new()) };
    let (create, grant, drop) = (create?, grant?, drop?);
    if own {
        check_places(reader, &create)?;
    } else if grant.is_empty() {
        let message = format!("`{}` is missing: the role may do what everybody may", reader.name("grant"));
        reader.warning_unless_damaged("grant", message, "name the roles whose rights it is to have");
    }
    let password = |statement: &Statement| statement.has(Place::Password) || statement.has(Place::Until);
    if drop.iter().any(password) {
        let message = format!("`{}` has a place for a password or an end", reader.name("drop"));
        reader.error("drop", message, "only `{name}` and `{name|literal}` are known when a role is dropped");
        return None;
    }
    if !drop.is_empty() && !drop.iter().any(|one| one.has(Place::Name) || one.has(Place::NameLiteral)) {
        let message = format!("`{}` does not say which role", reader.name("drop"));
        reader.error("drop", message, "write `{name}` where the role's name belongs");
        return None;
    }
    let fields = FIELDS.iter().map(|field| (*field).to_owned()).collect();
    Some(CredentialKeys { settings: Arc::new(Credential { create, grant, drop }), fields: Some(fields) })
}

fn check_places(reader: &Reader<'_>, create: &[Statement]) -> Option<()> {
    for (place, word) in [(Place::Name, "{name}"), (Place::Password, "{password}")] {
        if !create.iter().any(|statement| statement.has(place)) {
            let message = format!("`{}` has no `{word}`", reader.name("create"));
            reader.error("create", message, "the launch logs in with that name and that password");
            return None;
        }
    }
    if !create.iter().any(|statement| statement.has(Place::Until)) {
        let message =
            format!("`{}` has no `{{until}}`: the password has no end of its own", reader.name("create"));
        reader.warning(
            "create",
            message,
            "write `VALID UNTIL {until}`, for the case that the broker cannot drop it",
        );
    }
    Some(())
}

fn statements(reader: &Reader<'_>, key: &str) -> Option<Vec<Statement>> {
    let mut found = Vec::new();
    let texts = reader.spanned_texts(key)?;
    if texts.is_empty() {
        reader.error(key, format!("`{}` is empty", reader.name(key)), "leave it out, or write statements");
        return None;
    }
    let mut good = true;
    for (text, span) in texts {
        match text.parse() {
            Ok(statement) => found.push(statement),
            Err(error) => {
                good = false;
                let hint = "write SQL with `{name}`, `{password}`, `{until}` and `{name|literal}` and without quotes around them";
                reader.error_at(&span, format!("a statement of `{}` {error}", reader.name(key)), hint);
            }
        }
    }
    good.then_some(found)
}

fn grants(reader: &Reader<'_>) -> Option<Vec<String>> {
    if !reader.has("grant") {
        return Some(Vec::new());
    }
    let roles = reader.texts("grant")?;
    let is_name = |role: &String| !role.is_empty() && role.len() < 64 && !role.contains('\0');
    if roles.iter().all(is_name) {
        return Some(roles);
    }
    let message = format!("`{}` has something in it that is no name of a role", reader.name("grant"));
    reader.error("grant", message, "write names of at most 63 bytes, such as [\"orders_ro\"]");
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::read_text;

    fn check(text: &str, refused: bool, want: &str) {
        let (keys, found) = read_text(text, read);
        assert_eq!(keys.is_none(), refused, "{text}: {found:?}");
        assert!(found.contains(want) && want.is_empty() == found.is_empty(), "{text}: {found}");
    }

    #[test]
    fn statements_are_checked_before_anything_is_minted() {
        for (text, refused, want) in [
            ("grant = [\"orders_ro\"]", false, ""),
            ("", false, "what everybody may"),
            ("create = [\"CREATE ROLE {name} PASSWORD {password} VALID UNTIL {until}\"]", false, ""),
            ("create = [\"CREATE ROLE {name} PASSWORD {password}\"]", false, "no end of its own"),
            ("create = [\"CREATE ROLE {name}\"]", true, "no `{password}`"),
            ("create = [\"CREATE ROLE x PASSWORD {password}\"]", true, "no `{name}`"),
            ("create = []", true, "is empty"),
            ("create = [\"CREATE ROLE '{name}'\"]", true, "brings its own"),
            ("grant = [\"\"]", true, "no name of a role"),
            ("grant = [\"a\"]\ndrop = [\"DROP ROLE {name}\"]", false, ""),
            ("grant = [\"a\"]\ndrop = [\"DROP ROLE x\"]", true, "which role"),
            ("grant = [\"a\"]\ndrop = [\"DROP ROLE {name} {password}\"]", true, "a password or an end"),
        ] {
            check(text, refused, want);
        }
    }
}

//! Which credential a way means that hands over a whole one: the one that is named, or the only one that fits.

use mcp_broker_proto::names::Label;

use super::Scene;
use super::value::named;
use crate::config::credential::Credential;
use crate::config::reader::Reader;

/// What a way needs of its credential.
pub(super) struct Needs {
    /// The fields, in words.
    pub(super) fields: &'static str,
    /// Whether these fields will do.
    pub(super) fit: fn(&[String]) -> bool,
}

impl Needs {
    /// The credential's name; nothing where a mistake was noted.
    pub(super) fn choose(&self, one: &Reader<'_>, scene: &Scene<'_>) -> Option<Label> {
        if one.has("credential") { self.named(one, scene) } else { self.only(one, scene) }
    }

    fn named(&self, one: &Reader<'_>, scene: &Scene<'_>) -> Option<Label> {
        let name: Label = one.parsed("credential", "write the name of a credential of this scope")?;
        match named(&name, scene.credentials) {
            Err((message, hint)) => {
                one.error("credential", message, hint);
                return None;
            }
            Ok(credential) if self.fits(credential) == Some(false) => {
                let message = format!("credential `{name}` has not the fields {}", self.fields);
                one.error(
                    "credential",
                    message,
                    "name another one, or hand its fields over by `file` or `env`",
                );
                return None;
            }
            Ok(_) => {}
        }
        Some(name)
    }

    fn only(&self, one: &Reader<'_>, scene: &Scene<'_>) -> Option<Label> {
        let with = |fits: Option<bool>| {
            scene
                .credentials
                .iter()
                .filter(move |credential| self.fits(credential) == fits)
                .collect::<Vec<_>>()
        };
        // What a provider gives is not always known before it mints.
        let (certain, perhaps) = (with(Some(true)), with(None));
        let some = if certain.is_empty() { perhaps } else { certain };
        let message = match some.as_slice() {
            // A name that is none was told of where it stands.
            [only] => return only.key.parse().ok(),
            [] => format!("the scope has no credential with the fields {}", self.fields),
            _ => format!("the scope has several credentials that `{}` could mean", one.path_of_table()),
        };
        let names: Vec<_> = some.iter().map(|credential| format!("`{}`", credential.key)).collect();
        let hint = match names.as_slice() {
            [] => "add one to the scope, such as `credential.NAME = { provider = …, … }`".to_owned(),
            names => format!("add `credential = \"NAME\"`: there are {}", names.join(", ")),
        };
        one.error_at(&one.span(), message, hint);
        None
    }

    /// Whether it has the fields; nothing where that is not known yet.
    fn fits(&self, credential: &Credential) -> Option<bool> {
        credential.fields.as_deref().map(self.fit)
    }
}

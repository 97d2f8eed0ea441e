//! What the configuration parsed for a kind, as that kind's own types again. The configuration reads each table with
//! its kind's reader, so another type than the kind's own is a defect of the broker.

use std::any::Any;

use mcp_broker_proto::names::Label;

use super::{Blame, ProviderError};
use crate::config::{CredentialSpec, ProviderConfig};

/// The cure of a defect.
pub(super) const REPORT: &str = "this is a defect of the broker: report it";

/// The keys of `[provider.NAME]`.
///
/// # Errors
/// Where they are another kind's.
pub(super) fn keys<'a, T: Any>(config: &'a dyn ProviderConfig, name: &Label) -> Result<&'a T, ProviderError> {
    config.as_any().downcast_ref().ok_or_else(|| foreign(name, "the keys"))
}

/// The keys of a credential.
///
/// # Errors
/// Where they are another kind's.
pub(super) fn credential<T: Any>(spec: &CredentialSpec) -> Result<&T, ProviderError> {
    spec.settings.downcast_ref().ok_or_else(|| foreign(&spec.provider, "a credential"))
}

fn foreign(name: &Label, what: &str) -> ProviderError {
    ProviderError::new(Blame::Config, format!("provider `{name}` was given {what} of another kind"), REPORT)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    struct Keys;

    impl ProviderConfig for Keys {
        fn as_any(&self) -> &(dyn Any + Send + Sync) {
            self
        }
    }

    #[test]
    fn only_what_is_the_kinds_own_is_given_back() {
        let spec = CredentialSpec {
            name: "key".parse().unwrap(),
            provider: "aws".parse().unwrap(),
            ttl: Duration::from_secs(900),
            settings: Arc::new(7_u8),
        };
        let name = &spec.provider;
        assert!(keys::<Keys>(&Keys, name).is_ok());
        assert_eq!(credential::<u8>(&spec), Ok(&7));
        let foreign = [keys::<String>(&Keys, name).err(), credential::<String>(&spec).err()];
        for (error, what) in foreign.into_iter().zip(["the keys", "a credential"]) {
            let error = error.unwrap();
            assert_eq!(error.what, format!("provider `aws` was given {what} of another kind"));
            assert_eq!((error.blame, error.hint.as_str()), (Blame::Config, REPORT));
        }
    }
}

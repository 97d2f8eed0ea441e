//! The character sets and lengths of what STS takes, from the API reference of AWS STS (version 2011-06-15). Knows
//! nothing of where a text comes from.

/// The longest inline session policy, and the longest sum of it and the ARNs of managed ones, in characters.
pub(super) const MAX_POLICY: usize = 2048;
/// The most session tags of one request.
pub(super) const MAX_TAGS: usize = 50;
/// The most managed session policies of one request.
pub(super) const MAX_POLICY_ARNS: usize = 10;
/// The longest `RoleSessionName` and `SourceIdentity`.
pub(super) const MAX_NAME: usize = 64;

/// `[\w+=,.@-]`, with `\w` as ASCII.
fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_+=,.@-".contains(c)
}

/// A `RoleSessionName` or a `SourceIdentity`: 2 to 64 of `[\w+=,.@-]`.
pub(super) fn is_name(text: &str) -> bool {
    (2..=MAX_NAME).contains(&text.len()) && text.chars().all(is_name_char)
}

/// An `ExternalId`: 2 to 1224 of `[\w+=,.@:\/-]`.
pub(super) fn is_external_id(text: &str) -> bool {
    (2..=1224).contains(&text.len()) && text.chars().all(|c| is_name_char(c) || c == ':' || c == '/')
}

/// What may stand for a person in a policy or a tag: no wildcard, no variable.
pub(super) fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_name_char)
}

/// A tag's key: 1 to 128 of `[\p{L}\p{Z}\p{N}_.:/=+\-@]`, and not one of AWS's own.
pub(super) fn is_tag_key(text: &str) -> bool {
    (1..=128).contains(&text.chars().count())
        && text.chars().all(is_tag_char)
        && !text.to_ascii_lowercase().starts_with("aws:")
}

/// A tag's value: at most 256 of the same.
pub(super) fn is_tag_value(text: &str) -> bool {
    text.chars().count() <= 256 && text.chars().all(is_tag_char)
}

fn is_tag_char(c: char) -> bool {
    c.is_alphanumeric() || (c.is_whitespace() && !c.is_control()) || "_.:/=+-@".contains(c)
}

/// The account of `arn:PARTITION:iam::ACCOUNT:role/…`, 20 to 2048 characters.
pub(super) fn account_of_role(arn: &str) -> Option<&str> {
    let (account, name) = iam(arn)?;
    let known = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
    (known && name.strip_prefix("role/").is_some_and(is_path)).then_some(account)
}

/// Whether it is the ARN of a managed policy, of an account or of AWS.
pub(super) fn is_policy_arn(arn: &str) -> bool {
    iam(arn).is_some_and(|(account, name)| {
        let own = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
        (own || account == "aws") && name.strip_prefix("policy/").is_some_and(is_path)
    })
}

fn iam(arn: &str) -> Option<(&str, &str)> {
    let mut parts = arn.splitn(6, ':');
    let (scheme, partition, service) = (parts.next()?, parts.next()?, parts.next()?);
    let (region, account, name) = (parts.next()?, parts.next()?, parts.next()?);
    let sound = scheme == "arn" && partition.starts_with("aws") && service == "iam" && region.is_empty();
    (sound && (20..=2048).contains(&arn.len())).then_some((account, name))
}

fn is_path(text: &str) -> bool {
    !text.is_empty() && !text.ends_with('/') && text.chars().all(|c| is_name_char(c) || c == '/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (text, want) in [
            ("ab", true),
            ("mcp-0f-read_only", true),
            ("a@b.example", true),
            ("a", false),
            ("", false),
            ("a b", false),
            ("a*b", false),
            ("größe", false),
        ] {
            assert_eq!(is_name(text), want, "{text:?}");
        }
        assert!(is_name(&"x".repeat(64)) && !is_name(&"x".repeat(65)));
    }

    #[test]
    fn tags() {
        for (text, want) in
            [("team", true), ("Größe 1", true), ("", false), ("aws:x", false), ("a\tb", false), ("a*", false)]
        {
            assert_eq!(is_tag_key(text), want, "{text:?}");
        }
        assert!(is_tag_key(&"k".repeat(128)) && !is_tag_key(&"k".repeat(129)));
        assert!(is_tag_value("") && is_tag_value(&"v".repeat(256)) && !is_tag_value(&"v".repeat(257)));
    }

    #[test]
    fn arns() {
        for (arn, want) in [
            ("arn:aws:iam::123456789012:role/tool", Some("123456789012")),
            ("arn:aws-cn:iam::123456789012:role/path/to/tool", Some("123456789012")),
            ("arn:aws:iam::12345678901:role/tool", None),
            ("arn:aws:iam::123456789012:user/tool", None),
            ("arn:aws:iam::123456789012:role/", None),
            ("arn:aws:iam::123456789012:role/a b", None),
            ("arn:aws:sts::123456789012:role/tool", None),
            ("tool", None),
        ] {
            assert_eq!(account_of_role(arn), want, "{arn}");
        }
        assert!(is_policy_arn("arn:aws:iam::aws:policy/ReadOnlyAccess"));
        assert!(!is_policy_arn("arn:aws:iam::aws:role/ReadOnlyAccess"));
    }
}

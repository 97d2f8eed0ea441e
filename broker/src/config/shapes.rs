//! Does a text look like a well-known kind of secret. A net for slips, not a proof: what it does not catch
//! is not thereby harmless, and it never says what it saw beyond the kind.

/// The kind of secret that `text` seems to hold, for messages.
pub(super) fn secret_shape(text: &str) -> Option<&'static str> {
    if text.contains("-----BEGIN ") && text.contains("PRIVATE KEY-----") {
        return Some("a private key");
    }
    if url_password(text) {
        return Some("a URL with a password");
    }
    let starts = text.char_indices().filter(|(at, _)| is_boundary(text, *at)).map(|(at, _)| at);
    starts.filter_map(|at| text.get(at..)).find_map(token_shape)
}

/// `scheme://user:password@host` (RFC 3986 section 3.2.1) with a password that is not empty.
fn url_password(text: &str) -> bool {
    text.match_indices("://").any(|(at, mark)| {
        let rest = text.get(at + mark.len()..).unwrap_or("");
        let authority = rest.split(['/', '?', '#', ' ', '"', '\'']).next().unwrap_or("");
        let userinfo = authority.rsplit_once('@').map(|(userinfo, _)| userinfo);
        userinfo.and_then(|info| info.split_once(':')).is_some_and(|(_, password)| !password.is_empty())
    })
}

/// Whether a token may begin at `at`: not in the middle of a word.
fn is_boundary(text: &str, at: usize) -> bool {
    let before = text.get(..at).and_then(|before| before.chars().next_back());
    before.is_none_or(|c| !is_token_char(c))
}

fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

fn token_shape(text: &str) -> Option<&'static str> {
    let known = TOKENS
        .iter()
        .find(|(prefix, least, _)| text.strip_prefix(prefix).is_some_and(|tail| is_random(tail, *least)));
    known.map(|(_, _, kind)| *kind).or_else(|| is_jwt(text).then_some("a JSON Web Token"))
}

/// At least `least` characters of a token, with a digit among them: long words have none.
fn is_random(tail: &str, least: usize) -> bool {
    let token: Vec<char> = tail.chars().take_while(|c| is_token_char(*c) || *c == '.').collect();
    token.len() >= least && token.iter().any(char::is_ascii_digit)
}

/// Three base64url parts, the first of which begins a JSON object (RFC 7519 section 3).
fn is_jwt(text: &str) -> bool {
    let token: String = text.chars().take_while(|c| is_token_char(*c) || *c == '.').collect();
    let parts: Vec<_> = token.split('.').collect();
    token.starts_with("eyJ") && parts.len() == 3 && parts.iter().all(|part| part.len() >= 10)
}

/// Prefix, least number of characters after it, kind. From the issuers' documentation of their formats.
const TOKENS: &[(&str, usize, &str)] = &[
    ("ghp_", 30, "a GitHub token"),
    ("gho_", 30, "a GitHub token"),
    ("ghu_", 30, "a GitHub token"),
    ("ghs_", 30, "a GitHub token"),
    ("ghr_", 30, "a GitHub token"),
    ("github_pat_", 30, "a GitHub token"),
    ("glpat-", 16, "a GitLab token"),
    ("xoxb-", 16, "a Slack token"),
    ("xoxp-", 16, "a Slack token"),
    ("xoxa-", 16, "a Slack token"),
    ("xoxr-", 16, "a Slack token"),
    ("xapp-", 16, "a Slack token"),
    ("AKIA", 16, "an AWS access key"),
    ("ASIA", 16, "an AWS access key"),
    ("sk-", 20, "an API key"),
    ("sk_live_", 16, "a Stripe key"),
    ("sk_test_", 16, "a Stripe key"),
    ("rk_live_", 16, "a Stripe key"),
    ("npm_", 30, "an npm token"),
    ("pypi-", 40, "a PyPI token"),
    ("AIza", 30, "a Google API key"),
    ("GOCSPX-", 20, "a Google client secret"),
    ("ya29.", 20, "a Google access token"),
    ("hvs.", 20, "a Vault token"),
    ("hvb.", 20, "a Vault token"),
    ("hvr.", 20, "a Vault token"),
    ("SG.", 40, "a SendGrid key"),
    ("dop_v1_", 40, "a DigitalOcean token"),
    ("shpat_", 30, "a Shopify token"),
    ("AGE-SECRET-KEY-", 40, "an age key"),
    ("lin_api_", 30, "a Linear key"),
    ("ntn_", 30, "a Notion token"),
    ("hf_", 30, "a Hugging Face token"),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Written in two halves, so that no scanner of sources takes the samples for real.
    fn check(head: &str, tail: &str, want: Option<&str>) {
        assert_eq!(secret_shape(&format!("{head}{tail}")), want, "{head}");
    }

    #[test]
    fn secrets() {
        let tail = "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0";
        for (prefix, _, kind) in TOKENS {
            check(prefix, tail, Some(kind));
            check(&format!("--token={prefix}"), tail, Some(kind));
            check(&format!("Bearer {prefix}"), tail, Some(kind));
            check(prefix, "short", None);
            check(&format!("word{prefix}"), tail, None);
        }
        check("eyJhbGciOiJI.", "eyJzdWIiOiIx.c2lnbmF0dXJl", Some("a JSON Web Token"));
        check("postgres://app:", "hunter2@db/orders", Some("a URL with a password"));
        check("-----BEGIN EC ", "PRIVATE KEY-----\nabc", Some("a private key"));
    }

    #[test]
    fn harmless_texts() {
        for text in [
            "",
            "production",
            "postgres://db.internal:5432/orders",
            "https://user@host/",
            "http://x:@y/",
            "postgres://app:",
            "sk-learn",
            "npm_config_loglevel",
            "s.example.com",
            "a.b.c",
            "ü://ä:ö",
            "mailto://a/b:c@d",
            "sk-a-long-name-without-digits",
            "/opt/tools/AKIA",
        ] {
            assert_eq!(secret_shape(text), None, "{text}");
        }
    }
}

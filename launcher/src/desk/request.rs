//! As much of an HTTP/1.1 server's reading (RFC 9112) as SDKs need to ask for a credential, and nothing more: one
//! `GET` without a body on one connection. What could mean two things is refused.

use super::refusal::Refusal;

/// The longest head, in bytes; a token has 64.
pub(super) const MAX_HEAD: usize = 8 << 10;
/// The most headers.
const MAX_HEADERS: usize = 64;

/// Headers by which intermediaries say that they passed a request on, and browsers that a page made it.
const FOREIGN: &[&str] = &[
    "via",
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-host",
    "x-original-url",
    "x-rewrite-url",
    "x-host",
    "x-envoy-external-address",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "origin",
    "referer",
    "cookie",
];
/// The same by how they begin.
const FOREIGN_BEGIN: &[&str] = &["x-forwarded", "proxy-", "sec-"];

/// What a request says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request<'a> {
    /// Its path, with whatever stands behind it.
    pub(super) path: &'a str,
    /// `Authorization`.
    pub(super) authorization: Option<&'a str>,
}

/// Reads a head, once it is complete. `host` is the only one that is answered for.
///
/// # Errors
/// Why it is refused.
pub(super) fn parse<'a>(bytes: &'a [u8], host: &str) -> Result<Option<Request<'a>>, Refusal> {
    let Some(at) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
        return if bytes.len() < MAX_HEAD { Ok(None) } else { Err(Refusal::Malformed) };
    };
    // What follows would be a body or another request.
    if bytes.len() != at + 4 || at > MAX_HEAD {
        return Err(Refusal::Malformed);
    }
    let head = bytes.get(..at).and_then(|head| std::str::from_utf8(head).ok()).ok_or(Refusal::Malformed)?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let line = (words.next(), words.next(), words.next(), words.next());
    let (Some(method), Some(path), Some("HTTP/1.1"), None) = line else { return Err(Refusal::Malformed) };
    let headers = headers(lines)?;
    let get = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| *value);
    let foreign =
        |name: &str| FOREIGN.contains(&name) || FOREIGN_BEGIN.iter().any(|begin| name.starts_with(begin));
    if headers.iter().any(|(name, _)| foreign(name)) {
        return Err(Refusal::Forwarded);
    }
    // A body that is announced and not there yet is one all the same.
    if get("transfer-encoding").is_some() || get("content-length").is_some_and(|length| length != "0") {
        return Err(Refusal::Malformed);
    }
    // An upgrade or an answer in between is not what a plain question asks for.
    if get("upgrade").is_some() || get("expect").is_some() {
        return Err(Refusal::Malformed);
    }
    if get("host") != Some(host) {
        return Err(Refusal::Misdirected);
    }
    if method != "GET" {
        return Err(Refusal::Method);
    }
    Ok(Some(Request { path, authorization: get("authorization") }))
}

/// The headers with their names in lower case. None may be there twice, and none may go on in another line.
fn headers<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Vec<(String, &'a str)>, Refusal> {
    let mut headers: Vec<(String, &str)> = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(Refusal::Malformed)?;
        let value = value.trim_matches([' ', '\t']);
        let plain = !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if !plain || value.contains(|c: char| c.is_control()) || headers.len() == MAX_HEADERS {
            return Err(Refusal::Malformed);
        }
        // Some programs read both spellings as one.
        let name = name.to_ascii_lowercase().replace('_', "-");
        if headers.iter().any(|(known, _)| *known == name) {
            return Err(Refusal::Malformed);
        }
        headers.push((name, value));
    }
    Ok(headers)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use super::*;

    const HOST: &str = "127.0.0.1:4711";

    fn with(headers: &str) -> Result<(), Refusal> {
        let text = format!("GET /a HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: t\r\n{headers}\r\n");
        parse(text.as_bytes(), HOST).map(|request| assert!(request.is_some()))
    }

    #[test]
    fn what_sdks_send() {
        let text = "GET /v1/aws/db HTTP/1.1\r\nHost: 127.0.0.1:4711\r\nUser-Agent: Boto3/1 md/x#y\r\n\
            Accept: application/json\r\naccept-encoding: identity\r\nAUTHORIZATION:  abc \r\nContent-Length: 0\r\n\r\n";
        let want = Request { path: "/v1/aws/db", authorization: Some("abc") };
        assert_eq!(parse(text.as_bytes(), HOST), Ok(Some(want)));
        for cut in 0..text.len() {
            assert_eq!(parse(text.get(..cut).unwrap().as_bytes(), HOST), Ok(None), "{cut}");
        }
        assert_eq!(with("Connection: keep-alive\r\nX-Amz-User-Agent: a\r\n"), Ok(()));
    }

    #[test]
    fn proxies_and_browsers_are_refused() {
        for header in [
            "X-Forwarded-For: 127.0.0.1",
            "x-forwarded-host: a",
            "X_Forwarded_For: 1",
            "Via: 1.1 proxy",
            "Forwarded: for=1",
            "X-Real-IP: 1",
            "Proxy-Connection: keep-alive",
            "Origin: http://a",
            "Sec-Fetch-Mode: cors",
            "Cookie: a=b",
        ] {
            assert_eq!(with(&format!("{header}\r\n")), Err(Refusal::Forwarded), "{header}");
        }
    }

    #[test]
    fn what_could_mean_two_things_is_refused() {
        for header in [
            "Host: 127.0.0.1:4711",
            "authorization: u",
            "Accept: a\r\nAccept: b",
            "Transfer-Encoding: chunked",
            "Transfer-Encoding: identity",
            "Content-Length: 3",
            "Content-Length: 00",
            "Content-Length : 0",
            "A: b\r\n c",
            "no colon",
            ": x",
            "A: b\nC: d",
            "A: \u{7f}",
            "Upgrade: websocket",
            "Expect: 100-continue",
        ] {
            assert_eq!(with(&format!("{header}\r\n")), Err(Refusal::Malformed), "{header:?}");
        }
        assert_eq!(
            with(
                &"A".repeat(MAX_HEADERS)
                    .bytes()
                    .enumerate()
                    .fold(String::new(), |all, (at, _)| { format!("{all}H{at}: x\r\n") })
            ),
            Err(Refusal::Malformed)
        );
    }

    #[test]
    fn lines_and_hosts() {
        let head = |line: &str, host: &str| {
            let text = format!("{line}\r\nHost: {host}\r\n\r\n");
            parse(text.as_bytes(), HOST).map(drop)
        };
        assert_eq!(head("GET /a HTTP/1.1", HOST), Ok(()));
        for line in
            ["GET /a HTTP/1.0", "GET /a", "GET  /a HTTP/1.1", "GET /a HTTP/1.1 x", "GET /a HTTP/2", ""]
        {
            assert_eq!(head(line, HOST), Err(Refusal::Malformed), "{line}");
        }
        for line in ["POST /a HTTP/1.1", "HEAD /a HTTP/1.1", "get /a HTTP/1.1", "OPTIONS * HTTP/1.1"] {
            assert_eq!(head(line, HOST), Err(Refusal::Method), "{line}");
        }
        for host in ["localhost:4711", "127.0.0.1", "127.0.0.1:4712", "127.0.0.1:4711.", "evil.example", ""] {
            assert_eq!(head("GET /a HTTP/1.1", host), Err(Refusal::Misdirected), "{host}");
        }
        assert_eq!(parse(b"GET /a HTTP/1.1\r\n\r\n", HOST), Err(Refusal::Misdirected));
        assert_eq!(parse(b"GET /a HTTP/1.1\r\nHost: 127.0.0.1:4711\r\n\r\nx", HOST), Err(Refusal::Malformed));
        assert_eq!(parse(b"\xff\r\n\r\n", HOST), Err(Refusal::Malformed));
        assert_eq!(parse(&vec![b'a'; MAX_HEAD], HOST), Err(Refusal::Malformed));
    }
}

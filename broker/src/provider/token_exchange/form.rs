//! The body of a request, `application/x-www-form-urlencoded` (RFC 6749 appendix B), in memory that is wiped.

use hyper::body::Bytes;
use mcp_broker_proto::Secret;
use reqwest::RequestBuilder;
use reqwest::header::CONTENT_TYPE;
use zeroize::Zeroizing;

/// Room at first; most bodies fit.
const ROOM: usize = 4 << 10;

/// A body that grows by pairs. Not `Debug`: it holds secrets.
pub(super) struct Form(Zeroizing<Vec<u8>>);

impl Form {
    pub(super) fn new() -> Self {
        Self(Zeroizing::new(Vec::with_capacity(ROOM)))
    }

    pub(super) fn put(&mut self, name: &str, value: &str) {
        // Three for each byte at most, and the two signs. A buffer that grew by itself would leave one unwiped.
        self.reserve(3 * (name.len() + value.len()) + 2);
        if !self.0.is_empty() {
            self.0.push(b'&');
        }
        encode(&mut self.0, name);
        self.0.push(b'=');
        encode(&mut self.0, value);
    }

    pub(super) fn put_secret(&mut self, name: &str, value: &Secret) {
        // EXPOSE: the body of the request, wiped when it was sent.
        value.expose(|text| self.put(name, text));
    }

    pub(super) fn on(self, call: RequestBuilder) -> RequestBuilder {
        let body = Bytes::from_owner(self.0);
        call.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body)
    }

    fn reserve(&mut self, more: usize) {
        let need = self.0.len() + more;
        if need > self.0.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(need.next_power_of_two()));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
    }
}

/// One text in that form, for HTTP Basic (RFC 6749 section 2.3.1).
pub(super) fn encoded(text: &str) -> Zeroizing<String> {
    let mut bytes = Vec::with_capacity(3 * text.len());
    encode(&mut bytes, text);
    // Nothing but ASCII was written.
    Zeroizing::new(String::from_utf8(bytes).unwrap_or_default())
}

fn encode(to: &mut Vec<u8>, text: &str) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |half: u8| DIGITS.get(usize::from(half)).copied().unwrap_or_default();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => to.push(byte),
            b' ' => to.push(b'+'),
            _ => to.extend([b'%', digit(byte >> 4), digit(byte & 15)]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of RFC 6749 appendix B.
    #[test]
    fn text_is_encoded_as_the_standard_shows() {
        assert_eq!(&**encoded(" %&+\u{a3}\u{20ac}"), "+%25%26%2B%C2%A3%E2%82%AC");
        assert_eq!(&**encoded("aZ09-._*~/"), "aZ09-._*%7E%2F");
    }

    #[test]
    fn pairs_are_parted_and_long_ones_are_whole() {
        let mut form = Form::new();
        form.put("grant_type", "urn:x");
        form.put("a", "1 2");
        let long = "~".repeat(2 * ROOM);
        form.put_secret("token", &Secret::new(long.clone()));
        let want = format!("grant_type=urn%3Ax&a=1+2&token={}", "%7E".repeat(long.len()));
        assert!(form.0.as_slice() == want.as_bytes());
    }
}

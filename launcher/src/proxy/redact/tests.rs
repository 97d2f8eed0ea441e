//! Masking, form by form.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

use serde_json::{Value, json};

use super::*;

/// Secrets with everything that any of the encodings writes otherwise.
const HARD: &[&str] = &[
    "hunter2-Zx9",
    "abcd",
    "p\"a\\ss/wö\u{1f511}rd\n+1 %41",
    "postgres://v-approle:5f/Kx%2Bq@db.internal:5432/orders?a=b&c",
    "\u{1f511}\u{1f512}",
    "{\"type\":\"service_account\",\"key\":\"-----BEGIN KEY-----\\nMIIE\\n\"}",
];

fn redactor(secrets: &[&str]) -> Redactor {
    let mut redactor = Redactor::default();
    for (instance, secret) in (0..).zip(secrets) {
        let mut known = Secrets::default();
        known.add(secret.as_bytes());
        redactor.learn(instance, known);
    }
    redactor
}

fn base64(bytes: &[u8], url: bool, pad: bool) -> String {
    let last = if url { "-_" } else { "+/" };
    let alphabet: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(last.chars()).collect();
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte))
            << (8 * (3 - group.len()));
        out.extend((0..=group.len()).filter_map(|i| alphabet.get(bits >> (18 - 6 * i) & 63)));
        out.push_str("=".repeat(if pad { 3 - group.len() } else { 0 }).as_str());
    }
    out
}

fn percent(text: &str, keep: impl Fn(char) -> bool, upper: bool) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if keep(c) {
            out.push(c);
            continue;
        }
        for byte in c.to_string().bytes() {
            out.push_str(&if upper { format!("%{byte:02X}") } else { format!("%{byte:02x}") });
        }
    }
    out
}

fn hexadecimal(text: &str, upper: bool) -> String {
    text.bytes().map(|b| if upper { format!("{b:02X}") } else { format!("{b:02x}") }).collect()
}

/// The inside of a JSON string, as serde_json writes it.
fn escaped(text: &str) -> String {
    let quoted = serde_json::to_string(text).unwrap();
    quoted.trim_start_matches('"').trim_end_matches('"').to_owned()
        + if text.ends_with('"') { "\"" } else { "" }
}

/// The inside of a JSON string in which every n-th character is written as `\u`.
fn numbered(text: &str, every: usize) -> String {
    let mut out = String::new();
    for (i, c) in text.chars().enumerate() {
        match i % every {
            0 => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}"))),
            _ => out.push_str(&escaped(&c.to_string())),
        }
    }
    out
}

/// Everything that a secret may be written as, as text (not yet in JSON).
fn forms(secret: &str) -> Vec<String> {
    let unreserved = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
    let mut all = vec![secret.to_owned(), hexadecimal(secret, false), hexadecimal(secret, true)];
    for upper in [true, false] {
        all.push(percent(secret, unreserved, upper));
        all.push(percent(secret, |_| false, upper));
        all.push(percent(
            secret,
            |c| c != '%' && (c.is_ascii_alphanumeric() || "-_.!~*'();/?:@&=+$,#".contains(c)),
            upper,
        ));
    }
    all.push(percent(secret, unreserved, true).replace("%20", "+"));
    for (url, pad) in [(false, true), (false, false), (true, true), (true, false)] {
        for (before, after) in
            [("", ""), ("x", ""), ("xy", "z"), ("", "yz"), ("xyz", "xyz"), ("\u{e9}", "\n")]
        {
            all.push(base64(format!("{before}{secret}{after}").as_bytes(), url, pad));
        }
    }
    all
}

/// Whether what is left tells the secret in any of its forms.
fn tells(text: &str, forms: &[String]) -> bool {
    let decoded = percent_decoded(text);
    forms.iter().any(|form| text.contains(form.as_str()) || decoded.contains(form.as_str()))
}

fn percent_decoded(text: &str) -> String {
    String::from_utf8_lossy(&escapes::Escape::Percent.decode(text.as_bytes())).into_owned()
}

#[track_caller]
fn check_message(redactor: &Redactor, line: &str, forms: &[String], why: &str) {
    let masked = redactor.message(line.as_bytes());
    assert!(masked.count >= 1, "{why}: not found in {line}");
    let text = std::str::from_utf8(&masked.text).unwrap();
    let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{why}: {error}: {text}"));
    let left = value.to_string();
    assert!(left.contains(MASK), "{why}: {left}");
    assert!(!tells(&left, forms), "{why}: {text}");
}

#[test]
fn every_form_in_a_message() {
    for secret in HARD {
        let redactor = redactor(&[secret]);
        let forms = forms(secret);
        for form in &forms {
            for around in [["", ""], ["\n", "\""], ["é", " y"]] {
                let text = around.join(form);
                let twice = json!({ "a": [&text] }).to_string();
                let thrice = json!({ "b": &twice }).to_string();
                for inner in [&text, &twice, &thrice] {
                    let line = json!({ "id": 1, "result": { "content": [{ "text": inner }] } }).to_string();
                    check_message(&redactor, &line, &forms, form);
                    let slashes = line.replace('/', "\\/");
                    check_message(&redactor, &slashes, &forms, form);
                }
                for every in [1, 3] {
                    let line = format!(r#"{{"a":"{}"}}"#, numbered(&text, every));
                    check_message(&redactor, &line, &forms, form);
                    let line = json!({ "a": line }).to_string();
                    check_message(&redactor, &line, &forms, form);
                }
            }
        }
        let key = json!({ *secret: { *secret: 1 } }).to_string();
        check_message(&redactor, &key, &forms, "as a key");
    }
}

#[test]
fn every_form_in_diagnostics() {
    for secret in HARD {
        let redactor = redactor(&[secret]);
        let forms = forms(secret);
        for form in forms.iter().filter(|form| !form.contains('\n')) {
            for text in [form.clone(), format!("{form:?}"), escaped(form), numbered(form, 1)] {
                let line = format!("error: {text} was refused");
                let masked = redactor.diagnostic(&mut Across::default(), line.as_bytes(), 1 << 16).unwrap();
                let left = std::str::from_utf8(&masked.text).unwrap();
                assert!(masked.count == 1 && !tells(left, &forms), "{line}: {left}");
                assert!(left.starts_with("error: ") && left.ends_with(" was refused"), "{left}");
            }
        }
    }
}

/// What is no secret is not touched, and not copied.
#[test]
fn everything_else_stays() {
    let redactor = redactor(HARD);
    for line in [
        r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"abc hunter2-Zx postgres://"}]}}"#,
        r#"{"a":"\u0061bc \\ \\\" \/ %41 %4 % \ud83d \ud83d\ude00 100%","b":[1.5e3,true,null]}"#,
        r#"{"text":"YWJ jZA== YWJj 616263 61 62 63 64"}"#,
        "no JSON \\",
        "\\u00",
        "%",
        "",
    ] {
        let masked = redactor.message(line.as_bytes());
        assert_eq!((masked.count, &*masked.text), (0, line.as_bytes()));
        assert!(matches!(masked.text, Cow::Borrowed(_)), "{line}");
        let masked = redactor.diagnostic(&mut Across::default(), line.as_bytes(), 1 << 16).unwrap();
        assert_eq!((masked.count, &*masked.text), (0, line.as_bytes()));
    }
    assert_eq!(Redactor::default().message(b"abcd").count, 0);
    let mut short = Secrets::default();
    short.add(b"abc");
    let mut redactor = Redactor::default();
    redactor.learn(0, short);
    assert_eq!(redactor.message(b"\"abc\"").count, 0, "too short");
}

/// (secrets, line, what is left, how many were found)
#[test]
fn a_message_stays_one() {
    for (secrets, line, want, count) in [
        // Numbers and words become strings.
        (&["12345678"][..], r#"{"a":12345678,"b":[112345678.5]}"#, r#"{"a":"[masked]","b":["[masked]"]}"#, 2),
        (&["true"], r#"{"a":true,"true":"x"}"#, r#"{"a":"[masked]","[masked]":"x"}"#, 2),
        // A secret that is JSON itself, written as such: signs stay.
        (
            &[r#"{"key":"value"}"#],
            r#"{"a":{"key":"value"},"b":1}"#,
            r#"{"a":{"[masked]":"[masked]"},"b":1}"#,
            1,
        ),
        (&[r#"1234,"abc"#], r#"[1234,"abcdef",7]"#, r#"["[masked]","[masked]def",7]"#, 1),
        // An escape is not split: `nabc` is not what this says, but it looks like it.
        (&["nabc"], r#"{"a":"x\nabc"}"#, r#"{"a":"x[masked]"}"#, 1),
        (&["bcd\\"], r#"{"a":"abcd\\","b":"x"}"#, r#"{"a":"a[masked]","b":"x"}"#, 1),
        (&["abc\\"], r#"{"a":"abc\"x"}"#, r#"{"a":"[masked]x"}"#, 1),
        (&["00e9"], r#"{"a":"\u00e9"}"#, r#"{"a":"[masked]"}"#, 1),
        // One beside the other, one in the other, one over the other.
        (&["abcd", "efgh"], r#"{"a":"xabcdefghx"}"#, r#"{"a":"x[masked][masked]x"}"#, 2),
        (
            &["abcd", "abcdefgh"],
            r#"{"a":"abcdefgh abcdefg abcd"}"#,
            r#"{"a":"[masked] [masked]efg [masked]"}"#,
            3,
        ),
        (&["abcdef", "defghijklm"], r#"{"a":"xabcdefghijklmx"}"#, r#"{"a":"x[masked]x"}"#, 1),
        (&["aaaa"], r#"{"a":"baaaaaaaab"}"#, r#"{"a":"b[masked]b"}"#, 1),
        // Base64 takes its padding and its neighbours' shared characters along, and nothing else.
        (&["abcd"], r#"{"a":"YWJjZA==","b":"YWJjZA x"}"#, r#"{"a":"[masked]","b":"[masked] x"}"#, 2),
        (&["abcd"], r#"{"a":"\nYWJjZA\n"}"#, r#"{"a":"\n[masked]\n"}"#, 1),
        (&["abcd"], r#"{"a":"eGFiY2R5"}"#, r#"{"a":"e[masked]5"}"#, 1),
    ] {
        let masked = redactor(secrets).message(line.as_bytes());
        let got = std::str::from_utf8(&masked.text).unwrap();
        assert_eq!((got, masked.count), (want, count), "{secrets:?} in {line}");
        serde_json::from_str::<Value>(got).unwrap();
    }
}

/// A long line comes in pieces, of any size and cut anywhere.
#[test]
fn secrets_across_pieces() {
    for secret in HARD.iter().filter(|secret| !secret.contains('\n')) {
        let redactor = redactor(&[secret]);
        for form in [
            (*secret).to_owned(),
            escaped(secret),
            numbered(secret, 1),
            base64(secret.as_bytes(), false, true),
        ] {
            let line = format!("{}{form}{}", "a line ".repeat(30), " goes on".repeat(30));
            for piece in (1..line.len() + 2).filter(|piece| *piece < 20 || piece % 7 == 0) {
                let mut across = Across::default();
                let (mut out, mut count) = (Vec::new(), 0);
                let mut take = |masked: Option<Masked<'_>>| {
                    let Some(masked) = masked else { return };
                    out.extend_from_slice(&masked.text);
                    count += masked.count;
                };
                for part in line.as_bytes().chunks(piece) {
                    take(redactor.diagnostic(&mut across, part, piece));
                }
                take(redactor.rest(&mut across));
                assert!(across.held.is_empty());
                let want = line.replace(&form, MASK);
                assert_eq!((String::from_utf8(out).unwrap(), count), (want, 1), "{form} by {piece}");
            }
        }
    }
}

#[test]
fn little_is_held_back() {
    let redactor = redactor(&["hunter2-Zx9"]);
    let mut across = Across::default();
    let piece = vec![b'x'; 1 << 16];
    let masked = redactor.diagnostic(&mut across, &piece, piece.len()).unwrap();
    assert_eq!(masked.text.len() + across.held.len(), piece.len());
    assert!(across.held.len() < 200, "{}", across.held.len());
    assert_eq!(
        redactor.diagnostic(&mut across, b"", piece.len()).unwrap().text.len(),
        piece.len() - masked.text.len()
    );
    assert_eq!(redactor.rest(&mut across), None);
    // Without a secret nothing is.
    let masked = Redactor::default().diagnostic(&mut across, &piece, piece.len()).unwrap();
    assert!(matches!(masked.text, Cow::Borrowed(_)));
}

/// Diagnostics come line by line, and so does a key that is printed.
#[test]
fn lines_of_a_secret_of_several() {
    let key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\nshort\r\n-----END PRIVATE KEY-----\n";
    let redactor = redactor(&[key]);
    for (line, want) in [
        ("-----BEGIN PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----"),
        ("> MIIEvQIBADANBgkqhkiG9w0B", "> [masked]"),
        ("short", "short"),
    ] {
        let masked = redactor.diagnostic(&mut Across::default(), line.as_bytes(), 1 << 16).unwrap();
        assert_eq!(String::from_utf8_lossy(&masked.text), want);
    }
    assert_eq!(redactor.message(b"\"MIIEvQIBADANBgkqhkiG9w0B\"").count, 1, "logs come line by line as well");
    check_message(&redactor, &json!([key]).to_string(), &forms(key), "whole");
}

#[test]
fn secrets_are_shared_and_forgotten() {
    let mut redactor = redactor(&["first-one", "second-one", "first-one"]);
    let found = |redactor: &Redactor| redactor.message(b"\"first-one second-one\"").count;
    assert_eq!(found(&redactor), 2);
    redactor.forget(0);
    assert_eq!(found(&redactor), 2, "another instance has it too");
    redactor.forget(1);
    assert_eq!(found(&redactor), 1);
    redactor.forget(2);
    redactor.forget(2);
    assert_eq!(found(&redactor), 0);
    assert!(redactor.search.is_none(), "nothing is kept");
}

/// More secrets than one vector search takes.
#[test]
fn many_secrets() {
    let secrets: Vec<String> =
        (0..100_u32).map(|n| format!("{:08x}-secret", n.wrapping_mul(2_654_435_761))).collect();
    let redactor = redactor(&secrets.iter().map(String::as_str).collect::<Vec<_>>());
    for secret in &secrets {
        let forms = forms(secret);
        for form in &forms {
            check_message(&redactor, &json!([form]).to_string(), &forms, form);
        }
    }
}

/// A linear congruential generator, so that a run can be repeated.
struct Chance(u64);

impl Chance {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    /// Text in which everything that is special to anybody is common.
    fn text(&mut self, longest: usize) -> String {
        const PIECES: &[&str] =
            &["1", "2", "\"", "\\", "/", "%", "\n", "é", "\u{1f511}", "n", "u00", "25", ",", "{"];
        (0..self.roll(longest)).map(|_| PIECES[self.roll(PIECES.len())]).collect()
    }

    fn value(&mut self, secret: &str, depth: usize) -> Value {
        let inside = |chance: &mut Self| match chance.roll(3) {
            0 => format!("{}{secret}{}", chance.text(4), chance.text(4)),
            1 => json!([format!("{}{secret}", chance.text(3))]).to_string(),
            _ => chance.text(8),
        };
        match self.roll(if depth == 0 { 3 } else { 5 }) {
            0 => json!(self.roll(3000) + 1000),
            1 | 2 => inside(self).into(),
            3 => (0..self.roll(4)).map(|_| self.value(secret, depth - 1)).collect(),
            _ => (0..self.roll(3)).map(|_| (inside(self), self.value(secret, depth - 1))).collect(),
        }
    }

    /// The same JSON with some characters of its strings written as numbers.
    fn respelled(&mut self, line: &str) -> String {
        let mut out = String::new();
        let mut escaped = false;
        for c in line.chars() {
            let may = !escaped && !"\"\\{}[],: ".contains(c) && !c.is_ascii_digit();
            escaped = !escaped && c == '\\';
            match may && c != 'u' && self.roll(3) == 0 {
                true => out.push_str(&numbered(&c.to_string(), 1)),
                false => out.push(c),
            }
        }
        out
    }
}

/// Whether a string of the value says the secret, at any depth.
fn says(value: &Value, secret: &str) -> bool {
    match value {
        Value::String(text) => text.contains(secret),
        Value::Array(items) => items.iter().any(|item| says(item, secret)),
        Value::Object(members) => {
            members.iter().any(|(name, item)| name.contains(secret) || says(item, secret))
        }
        other => other.to_string().contains(secret),
    }
}

#[test]
fn whatever_is_said() {
    let mut found = 0;
    for seed in 0..1000 {
        let mut chance = Chance(seed);
        let secret = loop {
            let secret = chance.text(7);
            if secret.len() >= SHORTEST {
                break secret;
            }
        };
        let redactor = redactor(&[&secret]);
        for _ in 0..4 {
            let plain = chance.value(&secret, 3);
            let line = chance.respelled(&plain.to_string());
            let Ok(value) = serde_json::from_str::<Value>(&line) else { continue };
            let masked = redactor.message(line.as_bytes());
            let text = std::str::from_utf8(&masked.text).unwrap();
            let left: Value =
                serde_json::from_str(text).unwrap_or_else(|e| panic!("{seed} {e}: {line} {text}"));
            assert!(!says(&left, &secret), "{seed} {secret:?}: {line} became {text}");
            assert!(masked.count > 0 || !says(&value, &secret), "{seed} {secret:?}: {line}");
            assert!(masked.count == 0 || text.contains(MASK), "{seed}: {text}");
            found += masked.count;
        }
    }
    assert!(found > 300, "{found}");
}

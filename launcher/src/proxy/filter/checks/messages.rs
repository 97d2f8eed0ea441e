//! Clean messages as peers send them, made by a generator: from a seed, or from what a fuzzer chooses.

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers on every machine.
pub struct Dice<'b> {
    /// What the first numbers are made of, if it is not for the seed.
    bytes: &'b [u8],
    seed: u64,
}

impl<'b> Dice<'b> {
    /// From this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { bytes: &[], seed }
    }

    /// By these bytes, and any numbers when they are used up.
    #[must_use]
    pub fn of(bytes: &'b [u8]) -> Self {
        Self { bytes, seed: 0 }
    }

    pub(in super::super) fn next(&mut self) -> u64 {
        if let Some((first, rest)) = self.bytes.split_first() {
            self.bytes = rest;
            return u64::from(*first);
        }
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(in super::super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub(in super::super) fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    pub(in super::super) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

const WORDS: [&str; 12] =
    ["a", "Name", "uri", "x/y", "ä", "é ", "😀", "tab\t", "quote\"", "back\\", "\u{1}", "\u{2028}"];

/// Any JSON, in one of its spellings.
pub(in super::super) fn value(dice: &mut Dice<'_>, depth: usize, out: &mut String) {
    blank(dice, out);
    match dice.below(if depth == 0 { 6 } else { 8 }) {
        0 => out.push_str(dice.one(&["null", "true", "false"])),
        1 => out.push_str(dice.one(&[
            "0",
            "-0",
            "1.0",
            "1e2",
            "-12.5E-3",
            "9007199254740993",
            "123456789012345678901234567890",
        ])),
        2..=5 => text(dice, out),
        6 => {
            out.push('[');
            for n in 0..dice.below(4) {
                if n > 0 {
                    out.push(',');
                }
                value(dice, depth - 1, out);
            }
            out.push(']');
        }
        _ => object(dice, depth - 1, out),
    }
    blank(dice, out);
}

pub(in super::super) fn object(dice: &mut Dice<'_>, depth: usize, out: &mut String) {
    out.push('{');
    for n in 0..dice.below(5) {
        if n > 0 {
            out.push(',');
        }
        blank(dice, out);
        out.push_str(&format!("\"k{n}{}\"", dice.one(&["", "é", "_x"])));
        blank(dice, out);
        out.push(':');
        value(dice, depth, out);
    }
    blank(dice, out);
    out.push('}');
}

fn blank(dice: &mut Dice<'_>, out: &mut String) {
    if dice.chance(20) {
        out.push_str(dice.one(&[" ", "\t", "  "]));
    }
}

fn text(dice: &mut Dice<'_>, out: &mut String) {
    let plain: String = (0..dice.below(4)).map(|_| dice.one(&WORDS)).collect();
    let mut written = serde_json::to_string(&plain).unwrap();
    if dice.chance(30) {
        written = written.replace('a', "\\u0061").replace('/', "\\/").replace('😀', "\\ud83d\\ude00");
    }
    out.push_str(&written);
}

const REQUESTS: [(&str, &str); 18] = [
    ("tools/call", r#""name":"query""#),
    ("tools/call", r#""name":"write_row","task":{"ttl":1}"#),
    ("tools/call", r#""inputResponses":{},"requestState":"x","name":"list_a""#),
    ("prompts/get", r#""name":"explain_x""#),
    ("resources/read", r#""uri":"file:///logs/ä""#),
    ("resources/subscribe", r#""uri":"demo:\/\/a""#),
    (
        "completion/complete",
        r#""ref":{"type":"ref/prompt","name":"change"},"argument":{"name":"x","value":""}"#,
    ),
    (
        "initialize",
        r#""protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}"#,
    ),
    ("server/discover", ""),
    ("tools/list", r#""cursor":"""#),
    ("resources/templates/list", ""),
    ("logging/setLevel", r#""level":"debug""#),
    ("tasks/get", r#""taskId":"t""#),
    ("tasks/list", ""),
    ("ping", ""),
    ("subscriptions/listen", r#""notifications":{"toolsListChanged":true}"#),
    ("x/custom", ""),
    ("", ""),
];

/// A message as peers send them: a request, a notification or an answer, its members in any order.
pub(in super::super) fn valid(dice: &mut Dice<'_>) -> String {
    let mut some = |depth| {
        let mut out = String::new();
        object(dice, depth, &mut out);
        out
    };
    let (extra, meta) = (some(3), some(2));
    let id = dice.one(&["0", "-1", "9007199254740993", "1.0", r#""""#, r#""a\u0062/ä""#, "1000.00"]);
    let more = extra.strip_prefix('{').unwrap().strip_suffix('}').unwrap().trim().to_owned();
    let mut members = vec![r#""jsonrpc":"2.0""#.to_owned()];
    match dice.below(10) {
        0..=5 => {
            let (method, params) = REQUESTS[dice.below(REQUESTS.len())];
            let mut all = vec![params.to_owned(), format!(r#""_meta":{meta}"#), more];
            if method == "tools/call" {
                let mut arguments = String::new();
                object(dice, 3, &mut arguments);
                all.push(format!(r#""arguments" : {arguments}"#));
            }
            all.retain(|one| !one.is_empty());
            shuffle(dice, &mut all);
            members
                .push(format!(r#""method":"{}""#, method.replace('/', dice.one(&["/", "\\/", "\\u002f"]))));
            members.push(format!(r#""params":{{{}}}"#, all.join(" ,")));
            members.push(format!(r#""id": {id}"#));
        }
        6..=7 => {
            let method = dice.one(&["notifications/initialized", "notifications/message", "x"]);
            members.push(format!(r#""method":"{method}""#));
            members.push(format!(r#""params":{}"#, dice.one(&[extra.as_str(), "null", "[1]"])));
        }
        _ => {
            let answer = dice.one(&["result", "error"]);
            members.push(format!(r#""{answer}":{extra}"#));
            members.push(format!(r#""id": {id}"#));
        }
    }
    shuffle(dice, &mut members);
    let mut line = String::new();
    blank(dice, &mut line);
    line.push_str(&format!("{{{}}}", members.join(",")));
    blank(dice, &mut line);
    line
}

fn shuffle(dice: &mut Dice<'_>, of: &mut [String]) {
    for at in (1..of.len()).rev() {
        of.swap(at, dice.below(at + 1));
    }
}

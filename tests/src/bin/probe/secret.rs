//! How the probe tells what was injected into it: in each form that an encoding gives a value, and by each way on
//! which a server's words reach a client. It writes the answer itself where that is no plain result.

use std::io::{Write, stderr, stdout};
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

/// Between the pieces of one message, so that a reader sees them one by one.
const PAUSE: Duration = Duration::from_millis(15);

/// Tells it as `arguments` say (`variable`, `after`, `form`, `way`), as the answer to the request `id`.
pub(crate) fn tell(id: &Value, arguments: &Value) {
    let text = |key: &str| arguments[key].as_str().unwrap_or_default();
    let value = std::env::var(text("variable")).unwrap_or_default();
    let told = format!("before {} after", form(value.as_bytes(), text("form")));
    let result = |result: Value| json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string();
    let plain = result(json!({ "content": [{ "type": "text", "text": told }] }));
    let said = result(json!({ "content": [{ "type": "text", "text": "said" }] }));
    match text("way") {
        "result" => line(&plain),
        "structured" => line(&result(
            json!({ "content": [], "structuredContent": { "deep": [{ told.as_str(): told }] } }),
        )),
        "resource" => line(&result(json!({ "contents": [{ "uri": "secret://it", "text": told }] }))),
        "error" => line(&error(id, "it failed", &json!({ "data": [told] }))),
        "message" => line(&error(id, &told, &Value::Null)),
        "notification" => {
            let params = json!({ "level": "info", "data": { "told": told } });
            line(
                &json!({ "jsonrpc": "2.0", "method": "notifications/message", "params": params }).to_string(),
            );
            line(&said);
        }
        "stderr" => {
            pieces(&mut stderr(), &format!("probe: {told}\n"));
            line(&said);
        }
        "junk" => {
            line(&told);
            line(&said);
        }
        "split" => pieces(&mut stdout(), &format!("{plain}\n")),
        _ => line(&error(id, "no such way", &Value::Null)),
    }
}

fn error(id: &Value, message: &str, data: &Value) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -32000, "message": message, "data": data } })
        .to_string()
}

fn line(text: &str) {
    super::say(&format!("{text}\n"));
}

/// Writes it in three pieces whose ends lie inside of what follows `before`.
fn pieces(out: &mut dyn Write, text: &str) {
    let at = text.find("before ").map_or(0, |at| at + "before ".len());
    let ends = [(at + 3).min(text.len()), (at + 9).min(text.len()), text.len()];
    let mut from = 0;
    for end in ends {
        // A client that is gone is noticed at the end of the input.
        let _ = out.write_all(&text.as_bytes()[from..end]).and_then(|()| out.flush());
        from = end;
        sleep(PAUSE);
    }
}

fn form(value: &[u8], form: &str) -> String {
    const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const FOR_URLS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let hex = |upper: bool| -> String {
        value.iter().map(|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") }).collect()
    };
    match form {
        "base64" => base64(STANDARD, value),
        "base64 after one byte" => base64(STANDARD, &[b"=", value].concat()),
        "base64 after two bytes" => base64(STANDARD, &[b"==", value].concat()),
        "base64 for urls" => base64(FOR_URLS, value),
        "percent" => value.iter().map(|byte| percent(*byte)).collect(),
        "json" => json!(String::from_utf8_lossy(value)).to_string(),
        "hex" => hex(false),
        "HEX" => hex(true),
        _ => String::from_utf8_lossy(value).into_owned(),
    }
}

fn percent(byte: u8) -> String {
    let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if plain { char::from(byte).to_string() } else { format!("%{byte:02X}") }
}

fn base64(alphabet: &[u8; 64], bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let word = at(0) << 16 | at(1) << 8 | at(2);
        for (place, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let digit = alphabet[(word >> shift & 63) as usize];
            out.push(if place > chunk.len() { '=' } else { char::from(digit) });
        }
    }
    out
}

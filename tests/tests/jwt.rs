//! The broker as an issuer: a launch gets a token that another library verifies with the published keys alone, with
//! its person, audience and scope, and until when it lives is told at the end.
//!
//! Not proved here: rotation while tokens are in use (a unit of its own moves the time), and a web server in front of
//! the published files.

use std::process::Command;

use e2e::accounts::ALICE;
use e2e::parts::{repository, seen};
use e2e::tempdir::write;
use e2e::{World, eventually};

/// Verifies the token in TOKEN with the set of keys in the file JWKS, and prints its claims.
const VERIFY: &str = r#"
import json, os, jwt
keys = jwt.PyJWKSet.from_dict(json.load(open(os.environ["JWKS"])))
token = os.environ["TOKEN"]
key = keys[jwt.get_unverified_header(token)["kid"]]
alg = os.environ["ALG"]
claims = jwt.decode(token, key, algorithms=[alg], audience="https://api.example.com", issuer="https://broker.example.com",
                    options={"require": ["exp", "iat", "nbf", "aud", "iss", "sub", "jti"]})
try:
    jwt.decode(token, key, algorithms=[alg], audience="https://other.example.com")
    raise SystemExit("taken by another audience")
except jwt.InvalidAudienceError:
    pass
print(json.dumps(claims))
"#;

fn world(algorithm: &str) -> World {
    let world = World::user();
    let publish = world.state_dir().join("public");
    let provider = format!(
        "\n[provider.own]\nkind = \"jwt\"\nissuer = \"https://broker.example.com\"\nalgorithm = \"{algorithm}\"\npublish = {publish:?}\n"
    );
    let text = format!(
        r#"description = "An API"
owner = "platform"
tier = "development"
command = [{:?}]
env = {{ E2E_MARK = "{}" }}

[access]
users = ["alice"]

[scope.read]
tools = ["*"]
credential.api = {{ provider = "own", audience = "https://api.example.com", scope = "orders:read", ttl = "5m" }}
inject = [{{ env = "TOKEN", value = "{{api.token}}" }}]
"#,
        seen::PROBE,
        world.mark
    );
    world.config(&provider).file("api", &text).start()
}

fn check(algorithm: &str) {
    let mut world = world(algorithm);
    let mut client = world.launch(ALICE, "api");
    let token = eventually("the token was injected", || world.injected("TOKEN").pop());
    let printed = world.admin(&["jwks", "own"]);
    printed.assert_code(0);
    let text = String::from_utf8_lossy(&printed.stdout).into_owned();
    assert!(!text.contains("\"d\"") && !text.contains("private"), "{text}");
    let file = world.path().join("printed.json");
    write(&file, &text, 0o600, 0, 0);
    let published = world.state_dir().join("public/.well-known/jwks.json");
    let published = world.inside(&published);
    assert_eq!(std::fs::read_to_string(published).unwrap(), text);

    let mut python = Command::new(repository().join(".parts/mcp-2/bin/python"));
    python.args(["-c", VERIFY]).env("JWKS", &file).env("TOKEN", &token).env("ALG", algorithm);
    let output = python.output().expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let claims: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(claims["sub"], "alice");
    assert_eq!(claims["scope"], "orders:read");
    assert_eq!(claims["server"], "api");
    assert_eq!(claims["jti"], world.leases()[0].id.to_string());
    let life = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert_eq!(life, 300);

    client.close();
    client.outcome().assert_code(0);
    world.assert_settled();
    let audit = world.admin(&["audit", "show", "--json"]);
    let text = String::from_utf8_lossy(&audit.stdout).into_owned();
    assert!(text.contains("credential_withheld") && text.contains("lives_until"), "{text}");
    assert!(!text.contains(&token));
}

#[test]
fn another_library_verifies_an_eddsa_token() {
    check("EdDSA");
}

#[test]
fn another_library_verifies_an_es256_token() {
    check("ES256");
}

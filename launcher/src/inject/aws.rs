//! Injection for AWS SDKs: they ask for the credential each time, at an endpoint on loopback or by a command, and find
//! nothing else that they could take instead.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use mcp_broker_proto::launch::{AwsWay, Injection};
use mcp_broker_proto::names::Label;
use zeroize::Zeroizing;

use super::{Building, Injector, command};
use crate::desk::Form;
use crate::failure::{CONFIG, Failure};

/// Sets the variables of the SDKs.
pub(super) struct Aws;

const FULL_URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
const CONFIG_FILE: &str = "AWS_CONFIG_FILE";
const PROFILE: &str = "AWS_PROFILE";
/// Names of files; no variable is called so.
const TOKEN: &str = "aws.token";
const CONFIGURATION: &str = "aws.config";
const EMPTY: &str = "aws.none";
const CAPABILITY: &str = "aws.capability";

/// What SDKs would take before the endpoint or the profile, or what would send them elsewhere.
const RIVALS: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_ACCESS_KEY",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SECRET_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_CREDENTIAL_EXPIRATION",
    "AWS_CREDENTIAL_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_DEFAULT_PROFILE",
];
/// Files that they would read: an empty one takes the place of each. `BOTO_CONFIG` is the old one of Python's.
const FILES: &[&str] = &["AWS_SHARED_CREDENTIALS_FILE", "BOTO_CONFIG"];

impl Injector for Aws {
    fn takes(&self, injection: &Injection) -> bool {
        matches!(injection, Injection::Aws { .. })
    }

    fn inject(&self, injection: &Injection, mut into: Building<'_>) -> Result<(), Failure> {
        let Injection::Aws { credential, by } = injection else { return Ok(()) };
        if into.plan.environment.contains_key(CONFIG_FILE) {
            let what = format!("`{}` is injected beside another setting of AWS", injection.name());
            return Err(Failure::new(
                CONFIG,
                what,
                "ask the owner of the server to keep one `aws` in its `inject`",
            ));
        }
        RIVALS.iter().for_each(|name| drop(into.plan.environment.remove(*name)));
        let empty = into.write(EMPTY, b"")?;
        for name in FILES {
            into.set(name, empty.clone());
        }
        into.set("AWS_EC2_METADATA_DISABLED", Zeroizing::new(b"true".to_vec()));
        // Without this the older SDKs of JavaScript and Go do not read the configuration.
        into.set("AWS_SDK_LOAD_CONFIG", Zeroizing::new(b"1".to_vec()));
        region(&mut into);
        match by {
            AwsWay::Endpoint => endpoint(credential, &mut into),
            AwsWay::CredentialProcess => process(credential, &mut into),
        }
    }
}

/// Python reads one of the two, the others the other.
fn region(into: &mut Building<'_>) {
    for [have, lack] in [["AWS_REGION", "AWS_DEFAULT_REGION"], ["AWS_DEFAULT_REGION", "AWS_REGION"]] {
        if let Some(region) = into.plan.environment.get(have).cloned() {
            into.plan.environment.entry(lack.to_owned()).or_insert(region);
        }
    }
}

fn endpoint(credential: &Label, into: &mut Building<'_>) -> Result<(), Failure> {
    let endpoint = into.desk()?.endpoint(credential)?;
    let token = into.write(TOKEN, endpoint.token.as_bytes())?;
    into.set(TOKEN_FILE, token);
    into.set(FULL_URI, Zeroizing::new(endpoint.url.into_bytes()));
    // Programs that name a profile find it, and nothing in it.
    let configuration = profiles(into, "")?;
    let configuration = into.write(CONFIGURATION, configuration.as_bytes())?;
    into.set(CONFIG_FILE, configuration);
    Ok(())
}

fn process(credential: &Label, into: &mut Building<'_>) -> Result<(), Failure> {
    let (desk, dir) = into.desk_and_dir()?;
    let capability = desk.counter(dir, credential, Form::AwsProcess)?;
    let capability = into.write(CAPABILITY, &capability)?;
    let command = command::own()?;
    let [command, capability] = [command.as_os_str().as_bytes(), &capability].map(quoted);
    let line = format!("credential_process = {} credential aws --from {}\n", command?, capability?);
    let configuration = profiles(into, &line)?;
    let configuration = into.write(CONFIGURATION, configuration.as_bytes())?;
    into.set(CONFIG_FILE, configuration);
    Ok(())
}

/// A configuration whose profiles have this line: the default one, and the one that the definition names.
fn profiles(into: &Building<'_>, line: &str) -> Result<String, Failure> {
    let mut text = format!("[default]\n{line}");
    if let Some(name) = into.plan.environment.get(PROFILE) {
        let name = std::str::from_utf8(name).ok().filter(|name| {
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        });
        let name = name.ok_or_else(|| {
            let what = format!("`{PROFILE}` is no name that a profile can be made for");
            Failure::new(
                CONFIG,
                what,
                "ask the owner of the server for a name of letters, digits, `-`, `_` and `.`",
            )
        })?;
        if name != "default" {
            text.push_str(&format!("[profile {name}]\n{line}"));
        }
    }
    Ok(text)
}

/// A path inside quotes that mean the same to a shell, to Python's `shlex` and to readers of the file.
fn quoted(path: &[u8]) -> Result<String, Failure> {
    let text = std::str::from_utf8(path).ok();
    let plain = |c: char| !c.is_control() && !"\"'\\$`%#;!".contains(c);
    let text = text.filter(|text| text.chars().all(plain)).ok_or_else(|| {
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        let what = format!("the path {} cannot be written into an AWS profile", path.display());
        Failure::new(
            CONFIG,
            what,
            "use a path without quotes and other signs of a shell, or `aws = \"endpoint\"`",
        )
    })?;
    Ok(format!("\"{text}\""))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn quotes() {
        assert_eq!(quoted(b"/opt/a b/mcp-run").unwrap(), "\"/opt/a b/mcp-run\"");
        for bad in ["/a\"b", "/a\\b", "/$HOME", "/`x`", "/a\nb", "/a#b", "/100%"] {
            assert_eq!(quoted(bad.as_bytes()).unwrap_err().exit, CONFIG, "{bad}");
        }
        assert!(quoted(b"/\xff").is_err());
    }
}

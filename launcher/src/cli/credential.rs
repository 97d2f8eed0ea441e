//! `mcp-run credential`: hands a credential of a running server to a program of that server, as AWS profiles
//! (`credential_process`) and kubeconfigs (`exec`) ask for it. Not for people: it prints a secret.

use std::path::Path;

use super::{Call, Command, usage};
use crate::client::counter;
use crate::desk::Form;
use crate::failure::Failure;
use crate::{harden, say};

/// The command.
pub(super) const COMMAND: Command = Command {
    name: "credential",
    arguments: "aws|kubernetes --from FILE",
    about: "hand a credential to a program of a server (generated profiles and kubeconfigs call it)",
    json: false,
    run,
};

/// The option that names the private file.
pub(super) const FROM: &str = "--from";

fn run(call: &Call<'_>) -> Result<u8, Failure> {
    let (form, file) = parse(call.arguments)?;
    harden::now()?;
    let document = counter::ask(file, form)?;
    let text = std::str::from_utf8(&document)
        .map_err(|_not_text| Failure::system("read the credential", std::io::ErrorKind::InvalidData))?;
    say::answer(text);
    Ok(0)
}

fn parse(arguments: &[String]) -> Result<(Form, &Path), Failure> {
    let hint = "it is called by the profile or kubeconfig that mcp-run generates for a server";
    let (form, file) = match arguments {
        [kind, from, file] | [from, file, kind] if from == FROM => (kind.as_str(), file),
        _ => return Err(usage("`credential` takes a kind, aws or kubernetes, and --from FILE", hint)),
    };
    let form = match form {
        "aws" => Form::AwsProcess,
        "kubernetes" => Form::Kubernetes,
        _ => return Err(usage("there are the kinds aws and kubernetes", hint)),
    };
    Ok((form, Path::new(file)))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let parsed = |line: &str| {
            let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
            parse(&words).map(|(form, file)| (form, file.to_owned()))
        };
        assert_eq!(parsed("aws --from /f").unwrap(), (Form::AwsProcess, "/f".into()));
        assert_eq!(parsed("--from /f kubernetes").unwrap(), (Form::Kubernetes, "/f".into()));
        for line in ["aws", "--from /f", "aws /f --from", "gcp --from /f", "aws --from /f x", ""] {
            assert_eq!(parsed(line).unwrap_err().exit, 64, "{line}");
        }
    }
}

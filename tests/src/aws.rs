//! A server that uses AWS, as an admin would define it, over the emulator.

use crate::World;
use crate::ministack::Ministack;
use crate::parts::seen;
use crate::tempdir::write;

/// What the server `notes` is.
#[derive(Debug, Clone, Copy)]
pub struct Server<'a> {
    /// Further lines of the provider.
    pub provider: &'a str,
    /// Further keys of the credential.
    pub credential: &'a str,
    /// How the server gets at it.
    pub by: &'a str,
    /// What is started.
    pub command: &'a [&'a str],
    /// Further variables, each with a comma before it.
    pub environment: &'a str,
    /// What it may do, and with what.
    pub allowed: [&'a str; 2],
    /// The port of STS, where that is not the emulator's.
    pub sts: Option<u16>,
    /// Whether the broker has keys of its own for it.
    pub keys: bool,
}

/// It may read one bucket.
pub const READER: Server<'_> = Server {
    provider: "",
    credential: "",
    by: "endpoint",
    command: &[seen::PYTHON_AWS, seen::USES_AWS],
    environment: "",
    allowed: ["s3:GetObject", "arn:aws:s3:::notes/*"],
    sts: None,
    keys: true,
};

impl Server<'_> {
    /// A world with that server, not started.
    #[must_use]
    pub fn world(&self, aws: &Ministack) -> World {
        let world = World::user();
        let definition = self.definition(aws, &world.mark);
        let provider = self.provider(aws, &world);
        world.config(&provider).file("notes", &definition)
    }

    fn provider(&self, aws: &Ministack, world: &World) -> String {
        let owner = world.owner().uid;
        let kept = |name: &str, text: &str| {
            let path = world.config_dir().join(name);
            write(&path, text, 0o600, owner, owner);
            path
        };
        let (id, secret) = (kept("aws.id", &aws.access_key_id), kept("aws.secret", &aws.secret_access_key));
        let (port, more) = (self.sts.unwrap_or(aws.port), self.provider);
        let source = format!(
            "source = {{ access_key_id = {{ file = {id:?} }}, secret_access_key = {{ file = {secret:?} }} }}"
        );
        let source = if self.keys { &source } else { "" };
        format!(
            r#"
[provider.aws]
kind = "aws-sts"
region = "us-east-1"
endpoint = "http://127.0.0.1:{port}"
{source}
{more}
"#
        )
    }

    fn definition(&self, aws: &Ministack, mark: &str) -> String {
        let Self { credential, by, command, environment, allowed: [action, resource], .. } = self;
        let (url, role) = (&aws.url, &aws.role_arn);
        let statement = format!(r#"{{ Effect = "Allow", Action = "{action}", Resource = "{resource}" }}"#);
        format!(
            r#"description = "Notes in a bucket"
owner = "platform"
tier = "development"
command = {command:?}
env = {{ E2E_MARK = "{mark}", AWS_ENDPOINT_URL = "{url}", AWS_REGION = "us-east-1", HOME = "/nowhere"{environment} }}

[access]
users = ["alice"]

[scope.read]
tools = ["*"]
inject = [{{ aws = "{by}" }}]

[scope.read.credential.aws]
provider = "aws"
role_arn = "{role}"
policy = {{ Version = "2012-10-17", Statement = [{statement}] }}
{credential}
"#
        )
    }
}

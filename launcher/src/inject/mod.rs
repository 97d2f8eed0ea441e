//! How rendered values reach a server: one file a way, one line in [`INJECTORS`]. Turns a ticket into a
//! [`ChildPlan`]; reads no file, starts no process.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStringExt;

use mcp_broker_proto::Secret;
use mcp_broker_proto::launch::{Injection, IssuedCredential, SecretsTicket};
use mcp_broker_proto::names::Label;
use mcp_broker_proto::template::Template;
use rustix::process::Pid;
use zeroize::Zeroizing;

use crate::desk::Desk;
use crate::environment::Environment;
use crate::failure::{CONFIG, Failure, UNAVAILABLE};
use crate::proxy::redact::Secrets;
use crate::spawn::plan::ChildPlan;
use crate::spawn::private::PrivateDir;

mod aws;
mod command;
pub mod delivered;
mod env;
mod fd;
mod file;
mod kubeconfig;

use delivered::Delivered;

/// The fields of the credentials, by name.
type Credentials = BTreeMap<Label, BTreeMap<String, Secret>>;

/// Makes the private directory of a launch, known to its keeper before anything is in it.
pub type MakeDir<'a> = dyn Fn() -> Result<PrivateDir, Failure> + 'a;

/// One way in which a value reaches the server.
trait Injector: Sync {
    /// Whether this way is the one that the injection asks for.
    fn takes(&self, injection: &Injection) -> bool;

    /// Writes what the injection hands over into the plan.
    fn inject(&self, injection: &Injection, into: Building<'_>) -> Result<(), Failure>;
}

/// Every way that is built.
const INJECTORS: &[&dyn Injector] = &[&env::Env, &file::File, &fd::Fd, &aws::Aws, &kubeconfig::Kubeconfig];

/// A plan in the making.
struct Building<'a> {
    plan: &'a mut ChildPlan,
    credentials: &'a Credentials,
    delivered: &'a mut Delivered,
    make_dir: &'a MakeDir<'a>,
}

impl Building<'_> {
    /// The value of a variable.
    fn set(&mut self, name: &str, value: Zeroizing<Vec<u8>>) {
        self.plan.environment.insert(name.to_owned(), value);
    }

    /// Writes a private file; answers with its path.
    fn write(&mut self, name: &str, content: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let path = self.directory()?.write(name, content)?;
        Ok(Zeroizing::new(path.into_os_string().into_vec()))
    }

    /// What is asked for credentials while the server runs.
    fn desk(&mut self) -> Result<&mut Desk, Failure> {
        self.desk_and_dir().map(|(desk, _)| desk)
    }

    /// Both.
    fn desk_and_dir(&mut self) -> Result<(&mut Desk, &PrivateDir), Failure> {
        self.directory()?;
        let Delivered { desk, files, .. } = &mut *self.delivered;
        match (desk, files) {
            (Some(desk), Some(files)) => Ok((desk, files)),
            _ => Err(Failure::system("serve the server's credentials", std::io::ErrorKind::NotConnected)),
        }
    }

    /// A template's value.
    fn render(&self, name: &str, template: &Template) -> Result<Secret, Failure> {
        render(name, template, self.credentials)
    }

    /// The private directory of the instance, made where there is none yet.
    fn directory(&mut self) -> Result<&PrivateDir, Failure> {
        let files = &mut self.delivered.files;
        Ok(match files {
            Some(files) => files,
            none => none.insert((self.make_dir)()?),
        })
    }
}

fn render(name: &str, template: &Template, credentials: &Credentials) -> Result<Secret, Failure> {
    template.render(credentials).map_err(|error| unmade(name, &error))
}

fn unmade(name: &str, error: &dyn std::fmt::Display) -> Failure {
    let hint = "ask the owner of the server to correct `inject` in its definition";
    Failure::new(CONFIG, format!("the value of `{name}` cannot be made: {error}"), hint)
}

/// The server's process as the ticket describes it. What was made for it is noted in `delivered` even where it
/// fails, so that the caller can remove it; with it what is served while it runs, only to the tree of `keeper`.
///
/// # Errors
/// Where a template does not fit the credentials, or a private file cannot be made.
pub fn plan(
    ticket: SecretsTicket,
    environment: &Environment,
    delivered: &mut Delivered,
    make_dir: &MakeDir<'_>,
    keeper: Pid,
) -> Result<ChildPlan, Failure> {
    let mut plan = ChildPlan { command: ticket.command, cwd: ticket.cwd, ..ChildPlan::default() };
    let inherited = environment.inherited();
    plan.environment.extend(inherited.map(|(name, value)| (name, Zeroizing::new(value))));
    let defined = ticket.env.into_iter();
    plan.environment.extend(defined.map(|(name, value)| (name, Zeroizing::new(value.into_bytes()))));
    delivered.desk = open_desk(keeper, &ticket.inject, &ticket.credentials)?;
    let credentials = fields(ticket.credentials);
    for injection in &ticket.inject {
        let injector = INJECTORS.iter().find(|injector| injector.takes(injection)).ok_or_else(|| {
            Failure::new(
                UNAVAILABLE,
                format!("this mcp-run cannot inject `{}` the way the broker asks", injection.name()),
                "install the mcp-run that belongs to the broker",
            )
        })?;
        let building = Building { plan: &mut plan, credentials: &credentials, delivered, make_dir };
        injector.inject(injection, building)?;
    }
    let (renewing, fixed): (Vec<_>, Vec<_>) = ticket.inject.into_iter().partition(Injection::refreshes);
    delivered.fixed = fixed.iter().flat_map(Injection::credentials).cloned().collect();
    delivered.renewing = renewing;
    Ok(plan)
}

/// A desk with the credentials that are handed out on request, where there are such.
fn open_desk(
    keeper: Pid,
    inject: &[Injection],
    credentials: &BTreeMap<Label, IssuedCredential>,
) -> Result<Option<Desk>, Failure> {
    let mut desk = None;
    for name in inject.iter().filter(|way| way.is_asked()).flat_map(Injection::credentials) {
        let desk = match &mut desk {
            Some(desk) => desk,
            none => none.insert(Desk::open(keeper)?),
        };
        // One that is not there is missed by what hands it out.
        credentials.get(name).map_or(Ok(()), |credential| desk.put(name, credential))?;
    }
    Ok(desk)
}

/// What a server that gets this ticket may not say: the secret fields of its credentials, and each value that is
/// made of them. To be called before the server can say anything; the ticket is as it was afterwards.
#[must_use]
pub fn secrets(ticket: &mut SecretsTicket) -> Secrets {
    secrets_in(&mut ticket.credentials, &ticket.inject)
}

/// The same of these credentials, and of what is made of them alone.
fn secrets_in(issued: &mut BTreeMap<Label, IssuedCredential>, inject: &[Injection]) -> Secrets {
    let mut found = Secrets::default();
    let credentials = lend(issued);
    // A server may well tell as whom it works.
    let secret = |credential: &Label, field: &str| {
        issued.get(credential).is_none_or(|known| !known.plain.iter().any(|plain| plain == field))
    };
    for (credential, fields) in &credentials {
        for (_, value) in fields.iter().filter(|(field, _)| secret(credential, field)) {
            // EXPOSE: the patterns of the launch's search, wiped when no instance can say them any more.
            value.expose(|text| found.add(text.as_bytes()));
        }
    }
    let made = inject.iter().flat_map(Injection::templates);
    for template in made.filter(|template| template.fields().any(|(name, field)| secret(name, field))) {
        // Where it cannot be made no server gets it, and the plan says so.
        if let Ok(value) = template.render(&credentials) {
            // EXPOSE: as above.
            value.expose(|text| found.add(text.as_bytes()));
        }
    }
    give_back(issued, credentials);
    found
}

/// The fields as templates take them; no copy is made.
fn lend(issued: &mut BTreeMap<Label, IssuedCredential>) -> Credentials {
    issued
        .iter_mut()
        .map(|(name, credential)| (name.clone(), std::mem::take(&mut credential.fields)))
        .collect()
}

/// Where they came from.
fn give_back(issued: &mut BTreeMap<Label, IssuedCredential>, credentials: Credentials) {
    for (name, fields) in credentials {
        if let Some(credential) = issued.get_mut(&name) {
            credential.fields = fields;
        }
    }
}

fn fields(credentials: BTreeMap<Label, IssuedCredential>) -> Credentials {
    credentials.into_iter().map(|(name, credential)| (name, credential.fields)).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use super::*;
    use crate::proxy::redact::Redactor;

    fn ticket(inject: &str) -> SecretsTicket {
        let id = "0199f3a8-0000-7000-8000-000000000000";
        let text = format!(
            r#"{{"launch":"{id}","instance":0,"idle_secs":0,"server":"s","scope":"read","command":["/bin/s","-x"],"cwd":"/tmp",
            "env":{{"MODE":"prod","HOME":"/elsewhere"}},
            "credentials":{{"db":{{"lease":"{id}","fields":{{"pw":"pass w"}},"expires_at":null,"revocability":"immediate"}}}},
            "inject":[{inject}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn planned(inject: &str) -> Result<ChildPlan, Failure> {
        let ours = [("HOME", "/home/a"), ("PATH", "/bin"), ("VAULT_TOKEN", "t"), ("LD_PRELOAD", "x")];
        let no_file = || Err(Failure::new(CONFIG, "no file is asked for", ""));
        plan(ticket(inject), &ours.into(), &mut Delivered::default(), &no_file, Pid::INIT)
    }

    #[test]
    fn environment_is_list_then_definition_then_injection() {
        let inject = r#"{"way":"env","name":"DSN","value":"x:{db.pw|url}"},
                        {"way":"env","name":"MODE","value":"{db.pw}"}"#;
        let plan = planned(inject).unwrap();
        let got: Vec<_> = plan.environment.iter().map(|(k, v)| (k.as_str(), v.as_slice())).collect();
        let want: [(&str, &[u8]); 4] =
            [("DSN", b"x:pass%20w"), ("HOME", b"/elsewhere"), ("MODE", b"pass w"), ("PATH", b"/bin")];
        assert_eq!(got, want);
        assert_eq!(plan.command, ["/bin/s", "-x"]);
    }

    #[test]
    fn a_template_that_does_not_fit_is_a_configuration_error() {
        let failure = planned(r#"{"way":"env","name":"A","value":"{db.nope}"}"#).err().unwrap();
        assert_eq!(failure.exit, CONFIG);
        assert!(failure.what.contains("`A`") && !failure.what.contains("pass w"), "{failure:?}");
    }

    fn found(inject: &str, line: &str) -> String {
        let mut ticket = ticket(inject);
        let mut redactor = Redactor::default();
        redactor.learn(0, secrets(&mut ticket));
        assert_eq!(
            ticket.credentials.values().map(|credential| credential.fields.len()).collect::<Vec<_>>(),
            [1],
            "the ticket is as it was"
        );
        String::from_utf8(redactor.message(line.as_bytes()).text.into_owned()).unwrap()
    }

    #[test]
    fn what_a_server_may_not_say() {
        let inject = r#"{"way":"env","name":"DSN","value":"x://u:{db.pw|url}@host"},
                        {"way":"file","name":"MODE","content":{"format":"text","value":"mode: production"},"reread":false},
                        {"way":"env","name":"BAD","value":"{db.nope}"}"#;
        for (line, want) in [
            (r#"["pass w"]"#, r#"["[masked]"]"#),
            (r#"["x://u:pass%20w@host/y"]"#, r#"["[masked]/y"]"#),
            (r#"["mode: production"]"#, r#"["mode: production"]"#),
        ] {
            assert_eq!(found(inject, line), want);
        }
    }

    #[test]
    fn a_server_may_say_whose_credential_it_has() {
        let mut ticket = ticket(r#"{"way":"env","name":"USER_NAME","value":"{db.username}"}"#);
        let credential = ticket.credentials.values_mut().next().unwrap();
        credential.fields.insert("username".into(), Secret::new("v-approle-orders".into()));
        credential.plain.push("username".into());
        let mut redactor = Redactor::default();
        redactor.learn(0, secrets(&mut ticket));
        assert_eq!(redactor.message(br#"["v-approle-orders", "pass w"]"#).count, 1);
    }
}

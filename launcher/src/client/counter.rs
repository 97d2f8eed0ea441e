//! The desk of the launcher above, asked by a program of its server: what `mcp-run credential` does. The private file
//! that it is given has to be one's own, and so has the socket.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::geteuid;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::http::Wire;
use crate::desk::capability::{self, Capability, MAX_FILE};
use crate::desk::{COUNTER_HOST, Form};
use crate::failure::{AGAIN, CONFIG, Failure, REFUSED, UNAVAILABLE};

/// How long the answer may take; it comes from memory.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause before another try while the queue of connections is full.
const PAUSE: Duration = Duration::from_millis(5);

/// What a refusal says.
#[derive(Deserialize)]
struct Told {
    code: String,
    message: String,
    hint: String,
}

/// Asks for the credential that the file gives a right to.
///
/// # Errors
/// Where the file is another's or of another kind, where nobody is there, or where the answer is no.
pub fn ask(file: &Path, form: Form) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let content = read(file)?;
    let capability = capability::read(&content).ok_or_else(|| {
        let what = format!("{} is not a file that mcp-run has made", file.display());
        Failure::new(CONFIG, what, "do not call this by hand; it is for the programs of a server")
    })?;
    if !capability.path.starts_with(form.prefix()) {
        let what = format!("{} is for a credential of another kind", file.display());
        return Err(Failure::new(CONFIG, what, "name the kind that the generated file names"));
    }
    let (status, body) = exchange(&capability).map_err(|error| unreachable(&error))?;
    match status {
        200 => Ok(body),
        _ => Err(refused(&body)),
    }
}

fn exchange(capability: &Capability<'_>) -> io::Result<(u16, Zeroizing<Vec<u8>>)> {
    let until = Instant::now() + PATIENCE;
    let stream = dial(&capability.socket, until)?;
    let Capability { path, token, .. } = capability;
    let request = Zeroizing::new(format!(
        "GET {path} HTTP/1.1\r\nHost: {COUNTER_HOST}\r\nAuthorization: {token}\r\nConnection: close\r\n\r\n"
    ));
    let mut wire = Wire::over(stream, until);
    let head = wire.ask(request.as_bytes(), false)?;
    Ok((head.status, Zeroizing::new(wire.body(&head)?)))
}

fn dial(path: &Path, until: Instant) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let held = open(path, flags, Mode::empty())?;
    // Not the kernel's word on the connection: of a process outside one's own PID namespace it names none.
    if fstat(&held)?.st_uid != geteuid().as_raw() {
        return Err(Errno::PERM.into());
    }
    let stream = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    // An address holds 107 bytes, and a runtime directory may be deeper (unix(7)).
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}", held.as_raw_fd()))?;
    loop {
        match connect(&stream, &address) {
            Ok(()) => return Ok(stream),
            Err(Errno::AGAIN | Errno::INTR) if Instant::now() < until => std::thread::sleep(PAUSE),
            Err(error) => return Err(error.into()),
        }
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let shown = path.display();
    let opened =
        open(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
    let file = opened.map_err(|error| match error {
        Errno::NOENT => over(),
        error => Failure::new(CONFIG, format!("cannot read {shown}: {error}"), "run it as the server does"),
    })?;
    let stat = fstat(&file).map_err(|e| Failure::system("look at the file of the launch", e))?;
    let private = stat.st_uid == geteuid().as_raw() && stat.st_mode & 0o077 == 0;
    if !private || FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        let what = format!("{shown} is not a private file of yours");
        return Err(Failure::new(
            CONFIG,
            what,
            "do not call this by hand; it is for the programs of a server",
        ));
    }
    let mut content = Zeroizing::new(Vec::with_capacity(MAX_FILE));
    let read = File::from(file).take(MAX_FILE as u64).read_to_end(&mut content);
    read.map_err(|e| Failure::system("read the file of the launch", e))?;
    Ok(content)
}

fn unreachable(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => over(),
        _ => {
            let what = format!("the launcher of the server does not answer: {error}");
            Failure::new(UNAVAILABLE, what, "try again; if it stays so, run `mcp-run doctor`")
        }
    }
}

fn over() -> Failure {
    let hint = "see `mcp-run status`; call a tool of the server, which starts it again";
    Failure::new(REFUSED, "the credential is withheld: the session is locked or the launch is over", hint)
}

fn refused(body: &[u8]) -> Failure {
    let Ok(told) = serde_json::from_slice::<Told>(body) else {
        return Failure::new(UNAVAILABLE, "the launcher of the server answers otherwise than it should", "");
    };
    let exit = if told.code == "CredentialEnded" { AGAIN } else { REFUSED };
    Failure::new(exit, told.message, told.hint)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_that_are_not_asked_with() {
        let path = std::env::temp_dir().join(format!("capability-{}", std::process::id()));
        let with = |content: &str, mode: u32| {
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            ask(&path, Form::AwsProcess).map(drop).unwrap_err()
        };
        let good = "mcp-run capability 1\n/v1/aws-process/db\nt\n/nonexistent/socket\n";
        for (content, mode, exit, word) in [
            (good, 0o644, CONFIG, "not a private file"),
            ("nothing", 0o600, CONFIG, "has made"),
            (&good.replace("aws-process", "kubernetes"), 0o600, CONFIG, "another kind"),
            (good, 0o600, REFUSED, "the launch is over"),
        ] {
            let failure = with(content, mode);
            assert!(failure.exit == exit && failure.what.contains(word), "{failure:?}");
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(ask(&path, Form::AwsProcess).map(drop).unwrap_err().exit, REFUSED);
        assert_eq!(ask("/dev/null".as_ref(), Form::Kubernetes).map(drop).unwrap_err().exit, CONFIG);
    }

    #[test]
    fn refusals() {
        let body = |code: &str| format!(r#"{{"code":"{code}","message":"no","hint":"do"}}"#);
        assert_eq!(refused(body("CredentialEnded").as_bytes()), Failure::new(AGAIN, "no", "do"));
        assert_eq!(refused(body("NotOfThisServer").as_bytes()), Failure::new(REFUSED, "no", "do"));
        assert_eq!(refused(b"<html>").exit, UNAVAILABLE);
    }
}

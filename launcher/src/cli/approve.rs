//! `mcp-run approve`: what the person says to a call that waits for that. The same session only, as the broker
//! knows it; a call that nobody answers is refused.

use mcp_broker_proto::names::CallId;
use mcp_broker_proto::session::ConfirmationInfo;

use super::{Call, Command, shown, usage};
use crate::failure::Failure;
use crate::say;

/// The command.
pub(super) const COMMAND: Command = Command {
    name: "approve",
    arguments: "ID [--no]",
    about: "let a call go on that waits for you, or refuse it with --no",
    json: false,
    run,
};

/// The option that refuses.
pub(super) const NO: &str = "--no";

fn run(call: &Call<'_>) -> Result<u8, Failure> {
    let (id, yes) = parse(call.arguments)?;
    let broker = call.broker()?;
    // What it is about is only for the words: that it cannot be seen must not keep anybody from answering.
    let waiting = broker.status().map(|status| status.confirmations).unwrap_or_default();
    broker.confirm(id, yes)?;
    say::answer(&outcome(waiting.iter().find(|one| one.id == id), yes));
    Ok(0)
}

fn parse(arguments: &[String]) -> Result<(CallId, bool), Failure> {
    let hint = "`mcp-run status` shows the calls that wait, each with the command to type";
    let ids: Vec<_> = arguments.iter().filter(|argument| *argument != NO).collect();
    let [id] = ids[..] else { return Err(usage("`approve` takes the id of one call", hint)) };
    let id = id.parse().map_err(|_no_id| usage(format!("`{}` is not the id of a call", shown(id)), hint))?;
    Ok((id, ids.len() == arguments.len()))
}

fn outcome(call: Option<&ConfirmationInfo>, yes: bool) -> String {
    let done = if yes { "approved" } else { "refused" };
    match call {
        Some(call) => format!("{done}: the call of `{}` of {}\n", shown(&call.tool), call.server),
        None => format!("{done}\n"),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use super::super::samples::{confirmation, id};
    use super::*;

    #[test]
    fn arguments() {
        let parsed = |words: &[&str]| parse(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        let one: CallId = id(7).parse().unwrap();
        assert_eq!(parsed(&[&id(7)]).unwrap(), (one, true));
        assert_eq!(parsed(&[NO, &id(7)]).unwrap(), (one, false));
        assert_eq!(parsed(&[&id(7), NO]).unwrap(), (one, false));
        for words in [&[][..], &[NO], &[&id(7), &id(8)], &["x"], &["-"], &["../x"]] {
            let failure = parsed(words).unwrap_err();
            assert_eq!(failure.exit, 64, "{words:?}");
            assert!(failure.hint.contains("mcp-run status"), "{words:?}");
        }
    }

    #[test]
    fn words() {
        let call = confirmation(7, "write\u{1b}[2J");
        assert_eq!(outcome(Some(&call), true), "approved: the call of `write\\u{1b}[2J` of orders-db\n");
        assert_eq!(outcome(None, false), "refused\n");
    }
}

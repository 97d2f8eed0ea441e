//! Lists of a server, and what of them the client may see: allowed elements byte for byte, and the rest of the
//! result as it is. What is no clean list does not pass at all.

use super::Filter;
use crate::proxy::message::Method;

/// The lists of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum List {
    /// `tools/list`.
    Tools,
    /// `prompts/list`.
    Prompts,
    /// `resources/list`.
    Resources,
    /// `resources/templates/list`.
    Templates,
}

/// What becomes of a server's answer to a list request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Listed {
    /// It passes as it is: everything in it is allowed, or it is an error.
    Same,
    /// This line passes in its place.
    Line(String),
    /// It does not pass; the client gets [`super::refusal::unclear_list`].
    Unclear,
}

impl List {
    /// The list that a method asks for.
    #[must_use]
    pub fn of(method: Method) -> Option<Self> {
        match method {
            Method::Tools => Some(Self::Tools),
            Method::Prompts => Some(Self::Prompts),
            Method::Resources => Some(Self::Resources),
            Method::Templates => Some(Self::Templates),
            _ => None,
        }
    }

    /// Where the elements stand in a result.
    #[must_use]
    pub fn member(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
        }
    }
}

impl Filter {
    /// What of an answer of lane 0 to a list request of the client passes: on the last page with what other lanes
    /// list of their own tools. `line` is a response that [`crate::proxy::rule::from_server`] took.
    pub fn list(&self, list: List, line: &str) -> Listed {
        let _ = (list, line);
        Listed::Unclear
    }
}

/// What of an answer to `tasks/list` passes: the tasks that are known (raw ids).
pub fn tasks(line: &str, known: impl Fn(&str) -> bool) -> Listed {
    let _ = (line, known("\"\""));
    Listed::Unclear
}

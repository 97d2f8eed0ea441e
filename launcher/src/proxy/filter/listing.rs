//! How an instance is asked for its tools on the relay's own account: page by page, in the era that is in use, under
//! ids that no client has. Answers are taken here and seen by nobody else.

use super::page::Page;
use super::{Client, List};
use crate::proxy::message::{Message, text};

/// The most pages that are asked for.
pub const MAX_PAGES: usize = 64;
/// The most tools that an instance may list.
pub const MAX_TOOLS: usize = 4096;
/// The most bytes of their definitions.
const MAX_LISTED: usize = 4 << 20;
/// How the ids of these requests begin, within their quotes.
pub const ID: &str = "mcp-run:list:";

/// A tool as an instance lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// Its name.
    pub name: Box<str>,
    /// Its definition, as it stands in the list.
    pub text: Box<str>,
}

/// The listing of one instance, under way.
pub struct Listing {
    meta: Option<Box<str>>,
    /// The id of the open request, as raw JSON.
    id: Box<str>,
    pages: usize,
    tools: Vec<Tool>,
    /// Bytes of their definitions.
    weight: usize,
}

/// What came of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Took {
    /// There is more: this line goes to the instance.
    Next(String),
    /// These are all its tools; none where it has no such list.
    Done(Vec<Tool>),
    /// What it lists cannot be taken: nothing is known of its tools, and a record has to count them all as missing
    /// ([`super::Filter::heard`] with none).
    Failed,
}

impl Listing {
    /// Begins one: with the line that goes to the instance. `counter` numbers the requests of a launch. A client of
    /// the stateless era is spoken for in each request.
    #[must_use]
    pub fn begin(client: Option<&Client>, counter: &mut u64) -> (Self, String) {
        let meta = client.filter(|client| client.stateless).map(|client| meta(client).into());
        let mut listing = Self { meta, id: "".into(), pages: 0, tools: Vec::new(), weight: 0 };
        let line = listing.ask(None, counter);
        (listing, line)
    }

    /// Whether a response under this id (raw JSON) is for it.
    #[must_use]
    pub fn waits_for(&self, id: &str) -> bool {
        *self.id == *id
    }

    /// Takes the answer that it waits for.
    pub fn take(&mut self, line: &str, message: &Message<'_>, counter: &mut u64) -> Took {
        if message.failed {
            // A server without tools has no such list.
            return if self.pages == 1 { Took::Done(Vec::new()) } else { Took::Failed };
        }
        let Ok(Some(page)) = Page::read(line, List::Tools.shape()) else { return Took::Failed };
        for element in &page.elements {
            let Some(name) = text(element.name) else { return Took::Failed };
            self.weight += element.text.len();
            self.tools.push(Tool { name: name.as_ref().into(), text: element.text.into() });
        }
        let more = page.next.is_some();
        if self.tools.len() > MAX_TOOLS || self.weight > MAX_LISTED || (more && self.pages >= MAX_PAGES) {
            return Took::Failed;
        }
        match page.next {
            Some(cursor) => Took::Next(self.ask(Some(cursor), counter)),
            None => Took::Done(std::mem::take(&mut self.tools)),
        }
    }

    fn ask(&mut self, cursor: Option<&str>, counter: &mut u64) -> String {
        *counter += 1;
        self.pages += 1;
        self.id = format!("\"{ID}{counter}\"").into();
        let meta = self.meta.as_ref().map(|meta| format!(r#""_meta":{meta}"#));
        let cursor = cursor.map(|cursor| format!(r#""cursor":{cursor}"#));
        let params: Vec<String> = [meta, cursor].into_iter().flatten().collect();
        let params = params.join(",");
        format!(r#"{{"jsonrpc":"2.0","id":{},"method":"tools/list","params":{{{params}}}}}"#, self.id)
    }
}

/// `_meta` of a request of the stateless era.
fn meta(client: &Client) -> String {
    let revision = serde_json::Value::from(client.revision.as_ref());
    format!(
        r#"{{"io.modelcontextprotocol/protocolVersion":{revision},"io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{{"name":"mcp-run","version":"{}"}}}}"#,
        client.capabilities,
        env!("CARGO_PKG_VERSION"),
    )
}

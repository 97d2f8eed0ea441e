//! `tasks/list` (MCP 2025-11-25) over all instances that run tasks, one after the other: where the list of one ends, the
//! client gets a cursor of ours that leads to the next. Each request still goes to one instance.

use serde_json::{Map, Value};

use super::Talk;
use crate::proxy::message::{Message, Method, text};

/// How our cursors begin: then comes the instance, and its own cursor behind another colon.
const CURSOR: &str = "mcp-run:tasks:";

/// Where a page of the list is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Where {
    /// At the first scope's instance, as it is asked.
    First,
    /// At this instance.
    At(u32),
    /// Nowhere: the cursor leads to nobody any more.
    Nowhere,
}

impl Talk {
    /// Where the page is that a request asks for.
    pub fn page_of_tasks(&self, message: &Message<'_>) -> Where {
        if message.method != Method::TaskList {
            return Where::First;
        }
        match own(message) {
            Some((number, _)) if self.lane_of(number).is_some() => Where::At(number),
            Some((number, _)) => self.tasks_after(number).map_or(Where::Nowhere, Where::At),
            None if self.current(0).is_some() || message.params.cursor.is_some() => Where::First,
            None => self.tasks_from(0).map_or(Where::First, Where::At),
        }
    }

    /// A request for a page as this instance is to get it, where it is not as the client wrote it.
    pub(super) fn page_request(&self, number: u32, line: &str, message: &Message<'_>) -> Option<String> {
        let (named, cursor) = own(message).filter(|_| message.method == Method::TaskList)?;
        let mut whole: Map<String, Value> = serde_json::from_str(line).ok()?;
        let params = whole.get_mut("params")?.as_object_mut()?;
        params.remove("cursor");
        if let Some(cursor) = cursor.filter(|_| named == number) {
            params.insert("cursor".into(), cursor.into());
        }
        Some(Value::Object(whole).to_string())
    }

    /// The cursor that the client gets with a page of an instance, as JSON; nothing where it is as the instance says.
    pub(super) fn next_page(&self, number: u32, cursor: Option<&str>) -> Option<String> {
        let next = match cursor {
            Some(_) if self.current(0) == Some(number) => return None,
            Some(raw) => format!("{CURSOR}{number}:{}", text(raw)?),
            None => format!("{CURSOR}{}", self.tasks_after(number)?),
        };
        Some(Value::from(next).to_string())
    }

    /// The instance whose tasks are listed after those of this one: the first scope's comes first of all.
    fn tasks_after(&self, number: u32) -> Option<u32> {
        let from = if self.current(0) == Some(number) { 0 } else { number.saturating_add(1) };
        self.tasks_from(from)
    }

    fn tasks_from(&self, number: u32) -> Option<u32> {
        let numbers = self.seats.iter().map(|seat| seat.number).filter(|one| Some(*one) != self.current(0));
        numbers.filter(|one| *one >= number && self.tasks.busy(*one)).min()
    }
}

/// The instance that a cursor of ours leads to, and that one's own.
fn own(message: &Message<'_>) -> Option<(u32, Option<String>)> {
    let cursor = text(message.params.cursor?)?;
    let rest = cursor.strip_prefix(CURSOR)?;
    let (number, theirs) = rest.split_once(':').map_or((rest, None), |(one, other)| (one, Some(other)));
    Some((number.parse().ok()?, theirs.map(str::to_owned)))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at the first surprise")]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::{CLIENT, Scene};
    use super::*;
    use crate::proxy::talk::Otherwise;

    /// Two scopes, whose instances both run a task `t`.
    fn scene() -> Scene {
        let mut scene = Scene::new();
        scene.0.plan(&[Some(0), None], false);
        scene.0.join(1, 1, false);
        scene.0.settle(1);
        for lane in [0, 1] {
            let call =
                format!(r#"{{"id":{lane},"method":"tools/call","params":{{"name":"q","task":{{}}}}}}"#);
            let message = Message::parse(&call).unwrap();
            scene.0.client_line(&call, &message, lane, Otherwise::Hold).unwrap();
            let number = u32::try_from(lane).unwrap();
            scene
                .server(number, &format!(r#"{{"id":{lane},"result":{{"task":{{"taskId":"t"}}}}}}"#))
                .unwrap();
        }
        scene.clear();
        scene
    }

    fn ask(scene: &mut Scene, cursor: Option<&Value>) {
        let params =
            cursor.map_or_else(|| json!({}), |cursor| json!({ "cursor": cursor, "_meta": { "a": 1 } }));
        scene.client(&json!({ "id": 7, "method": "tasks/list", "params": params }).to_string()).unwrap();
    }

    fn answer(scene: &mut Scene, number: u32, result: &str) -> Value {
        scene.server(number, &format!(r#"{{"id":7,"result":{result}}}"#)).unwrap();
        scene.json(CLIENT)[0]["result"].clone()
    }

    #[test]
    fn every_instance_s_tasks_are_listed() {
        let mut scene = scene();
        ask(&mut scene, None);
        assert_eq!(scene.json(0)[0]["params"], json!({}));
        let page = answer(&mut scene, 0, r#"{"tasks":[{"taskId":"x"}],"nextCursor":"c"}"#);
        assert_eq!(page, json!({ "tasks": [], "nextCursor": "c" }), "there is more where it comes from");
        ask(&mut scene, Some(&json!("c")));
        assert_eq!(scene.json(0)[0]["params"]["cursor"], "c");
        let page = answer(&mut scene, 0, r#"{"tasks":[{"taskId":"t"}] ,"nextCursor":null}"#);
        assert_eq!(page, json!({ "tasks": [{ "taskId": "t" }], "nextCursor": "mcp-run:tasks:1" }));
        ask(&mut scene, Some(&page["nextCursor"]));
        assert_eq!(scene.json(1)[0]["params"], json!({ "_meta": { "a": 1 } }));
        let page = answer(&mut scene, 1, r#"{"tasks":[{"taskId":"t"},{"taskId":"x"}],"nextCursor":"d\"e"}"#);
        assert_eq!(page["tasks"], json!([{ "taskId": "mcp-run:task:1" }]), "as the client knows it");
        ask(&mut scene, Some(&page["nextCursor"]));
        assert_eq!(scene.json(1)[0]["params"]["cursor"], "d\"e");
        assert_eq!(answer(&mut scene, 1, r#"{"tasks":[]}"#), json!({ "tasks": [] }), "that was all");
    }

    #[test]
    fn one_that_is_gone_is_passed_over() {
        let mut scene = scene();
        let line =
            |cursor: &str| format!(r#"{{"id":7,"method":"tasks/list","params":{{"cursor":"{cursor}"}}}}"#);
        let at = |scene: &Scene, line: &str| scene.0.page_of_tasks(&Message::parse(line).unwrap());
        assert_eq!(at(&scene, &line("mcp-run:tasks:1:x")), Where::At(1));
        assert_eq!(at(&scene, &line("mcp-run:tasks:2")), Where::Nowhere);
        assert_eq!(at(&scene, &line("mcp-run:tasks:x")), Where::First);
        scene.0.gone(0, None);
        assert_eq!(at(&scene, r#"{"id":7,"method":"tasks/list"}"#), Where::At(1));
        ask(&mut scene, None);
        assert_eq!(answer(&mut scene, 1, r#"{"tasks":[{"taskId":"t"}]}"#)["nextCursor"], Value::Null);
        scene.0.gone(1, None);
        assert_eq!(at(&scene, &line("mcp-run:tasks:1:x")), Where::Nowhere);
    }
}

//! A page as most servers write it, read in one pass over its bytes. Answers nothing where anything in it is rare or
//! wrong: then the careful way, through serde_json, says what it is.

use std::ops::Range;

use super::{ANSWER, Element, Page, Shape};
use crate::proxy::message::{Seen, Skim};

/// The page of an answer; nothing where it has to be read carefully.
pub(super) fn page(line: &str, shape: Shape) -> Option<Option<Page<'_>>> {
    let (mut skim, mut seen, mut page) = (Skim::new(line), Seen::new(ANSWER), None);
    skim.object(|skim, name| {
        seen.note_plain(name)?;
        match name {
            "result" => page = Some(body(skim, shape)?),
            _ => drop(skim.value()?),
        }
        Some(())
    })?;
    skim.ends().then_some(page)
}

fn body<'a>(skim: &mut Skim<'a>, shape: Shape) -> Option<Page<'a>> {
    let (mut seen, mut page, mut has_list) = (Seen::new(shape.members), Page::default(), false);
    let member = shape.members.first().copied();
    skim.object(|skim, name| {
        seen.note_plain(name)?;
        if member == Some(name) {
            (page.elements, page.inside) = list(skim, shape)?;
            has_list = true;
            return Some(());
        }
        let value = skim.value()?;
        if let Some(field) = page.field(name) {
            *field = Some(value);
        }
        Some(())
    })?;
    has_list.then(|| page.with_next())
}

fn list<'a>(skim: &mut Skim<'a>, shape: Shape) -> Option<(Vec<Element<'a>>, Range<usize>)> {
    let _bracket = skim.peek()?;
    let start = skim.at() + 1;
    let (mut elements, mut end, named) = (Vec::new(), start, shape.name.first().copied());
    skim.array(|skim| {
        let _brace = skim.peek()?;
        let (begin, mut seen, mut name) = (*skim, Seen::new(shape.name), None);
        skim.object(|skim, member| {
            seen.note_plain(member)?;
            let value = skim.value()?;
            if named == Some(member) {
                name = Some(value);
            }
            Some(())
        })?;
        end = skim.at();
        elements.push(Element { name: name?, text: begin.upto(skim)? });
        Some(())
    })?;
    Some((elements, start..end))
}

#[cfg(test)]
mod tests {
    use super::super::super::List;
    use super::*;

    /// Whatever is taken is what the careful way makes of it.
    fn agrees(line: &str) -> bool {
        let shape = List::Tools.shape();
        let Some(quick) = page(line, shape) else { return false };
        assert_eq!(Page::carefully(line, shape).ok(), Some(quick), "{line}");
        true
    }

    const PAGE: &str = r#"{"jsonrpc":"2.0","id":7,"result":{ "tools" : [ {"name":"a","x":{"name":1}} , {"y":[2],"name" : "b\u0062"} ] ,"nextCursor":null,"ttlMs":5,"cacheScope":"public"}}"#;

    #[test]
    fn takes_what_most_servers_write() {
        for line in [
            PAGE,
            r#"{"result":{"tools":[]}}"#,
            r#"{"result":{"tools":[ ],"nextCursor":"x"},"id":1}"#,
            r#"{"id":1,"error":{"code":1}}"#,
            r#"{"result":{"tools":[{"name":7}]}} "#,
        ] {
            assert!(agrees(line), "{line}");
        }
    }

    #[test]
    fn leaves_the_rest() {
        for line in [
            r#"{"result":{"tools":[{"n":1}]}}"#,
            r#"{"result":{"tools":[{}]}}"#,
            r#"{"result":{"tools":[1]}}"#,
            r#"{"result":{"tools":{}}}"#,
            r#"{"result":{}}"#,
            r#"{"result":[]}"#,
            r#"{"result":{"tools":[],"tools":[]}}"#,
            r#"{"result":{"tools":[{"name":"a","name":"b"}]}}"#,
            r#"{"result":{"tools":[{"name":"a","Name":"b"}]}}"#,
            r#"{"result":{"tools":[]},"Result":1}"#,
            r#"{"result":{"tools":[{"\u006eame":"a"}]}}"#,
            r#"{"result":{"tools":[]}} {}"#,
            "[]",
        ] {
            assert!(!agrees(line), "{line}");
        }
    }

    /// The same, on a page that is damaged in one place.
    #[test]
    fn takes_no_damaged_page() {
        let mut taken = 0;
        for at in 0..PAGE.len() {
            for with in ["", "\"", "\\", "0", ",", ":", "}", "]", "{", "[", " ", "name", "\"name\":1,"] {
                for width in [0, 1, 2] {
                    let text = format!("{}{with}{}", &PAGE[..at], PAGE.get(at + width..).unwrap_or_default());
                    taken += u32::from(agrees(&text));
                }
            }
        }
        assert!(taken > 100, "{taken}");
    }
}

//! A message as most peers write it, read in one pass over its bytes. Answers nothing where anything in it is rare or
//! wrong: then the careful way, through serde_json, says what it is.

use super::keys::{Key, Place, Seen};
use super::params::{Params, field};
use super::reply::Reply;
use super::skim::Skim;
use super::{Fields, Method, Word};

/// The fields of a message; nothing where it has to be read carefully.
pub(super) fn fields(line: &str) -> Option<Fields<'_>> {
    let (mut skim, mut fields) = (Skim::new(line), Fields::default());
    let mut seen = Seen::new(Place::Message.names());
    skim.object(|skim, name| {
        match seen.take(name)? {
            Key::Id => fields.id = Some(skim.value()?),
            Key::Method => fields.method = Some(Method::of(skim.plain()?)),
            Key::Params => members(skim, Place::Params, &mut fields.params)?,
            Key::Result => {
                fields.reply = Reply::quick(skim)?;
                fields.result = true;
            }
            key => {
                skim.value()?;
                fields.error |= key == Key::Error;
            }
        }
        Some(())
    })?;
    skim.ends().then_some(fields)
}

/// An object of parameters. What is none is rare.
fn members<'a>(skim: &mut Skim<'a>, place: Place, into: &mut Params<'a>) -> Option<()> {
    let mut seen = Seen::new(place.names());
    skim.object(|skim, name| {
        match (place, seen.take(name)?) {
            (Place::Params, Key::Meta) => {
                let mut meta = Params::default();
                members(skim, Place::Meta, &mut meta)?;
                into.of_meta(&meta);
            }
            (Place::Params, Key::Ref) => members(skim, Place::Reference, into)?,
            (Place::Params, Key::Arguments) => into.arguments = Some(arguments(skim)?),
            (place, key) => {
                let value = skim.value()?;
                if let Some(field) = field(into, place, key) {
                    *field = Some(value);
                }
            }
        }
        Some(())
    })
}

/// The value of `arguments`, with its names looked at where it has some.
fn arguments<'a>(skim: &mut Skim<'a>) -> Option<&'a str> {
    if skim.peek()? != b'{' {
        return skim.value();
    }
    let (start, mut seen) = (*skim, Seen::new(Place::Arguments.names()));
    skim.object(|skim, name| {
        seen.take(name)?;
        skim.value().map(|_| ())
    })?;
    start.upto(skim)
}

//! Admin commands. A command takes its parsed arguments and answers with what is to be printed and the
//! exit code; printing is done in one place above them.

pub(crate) mod check;
pub(crate) mod explain;
mod output;
pub(crate) mod schema;

pub(crate) use output::Output;

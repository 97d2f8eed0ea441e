//! `mcp-broker jwks`: the public keys of an issuer, for whoever verifies its tokens. Reads the broker's state, makes
//! nothing, and prints no private key.

use std::path::Path;

use mcp_broker_proto::names::Label;

use super::report::{EXIT_CONFIG, EXIT_OK, EXIT_USAGE, Report};
use crate::config::{KindReader, Mode, Places, load};
use crate::provider::jwt;

/// Arguments of `jwks`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A provider of broker.toml that signs tokens
    provider: Label,
}

/// Runs the command on the configuration directory `dir`.
pub(super) fn run(dir: &Path, mode: Mode, places: &Places, kinds: &[&KindReader], args: &Args) -> Report {
    let config = match load(dir, mode, places, kinds) {
        Ok(config) => config,
        Err(found) => return Report::refused_configuration(&found),
    };
    let own = jwt::KIND.reader.name;
    if config.providers.get(&args.provider).is_none_or(|section| section.kind != own) {
        let what = format!("`{}` is no provider of kind `{own}`", args.provider);
        return Report::failure(EXIT_USAGE, &what, "name one of broker.toml");
    }
    match jwt::published(&config.broker.state_dir, args.provider.as_str()) {
        Ok(text) => Report::data(text, EXIT_OK),
        Err(error) => Report::failure(EXIT_CONFIG, &error.what, &error.hint),
    }
}

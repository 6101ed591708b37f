//! The command line: argv and the environment become options of a verb, and what the verb found out becomes a table or JSON on standard
//! output. Everything else goes to standard error.

mod args;
mod print;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use serde_json::json;

use self::args::{Cli, Command, Global};
use crate::error::{Context, Error, Kind, Result};
use crate::location::Location;
use crate::ops::{self, Common};
use crate::platform::Platform;
use crate::progress::{Form, Progress};
use crate::reference::Reference;

/// Does what the command line asks for; the exit code is the [`Kind`] of what went wrong.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version are no errors; where they go is clap's to know, and a closed pipe nobody's.
            e.print().unwrap_or(());
            return ExitCode::from(if e.use_stderr() { Kind::Usage as u8 } else { 0 });
        }
    };
    let json_errors = cli.global.progress.as_deref() == Some("json");
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            match json_errors {
                true => eprintln!(
                    "{}",
                    json!({"event": "error", "message": e.to_string(), "code": e.kind() as u8})
                ),
                false => eprintln!("pintle-image: {e}"),
            }
            ExitCode::from(e.kind() as u8)
        }
    }
}

fn common(global: &Global) -> Result<Common> {
    let form = match (&global.progress, global.quiet) {
        (_, true) => Form::None,
        (Some(name), false) => Form::parse(name)?,
        (None, false) => Form::Auto,
    };
    Ok(Common {
        root: match &global.root {
            Some(root) => root.clone(),
            None => default_root()?,
        },
        platform: global.platform.as_deref().map_or_else(|| Ok(Platform::here()), Platform::parse)?,
        jobs: global
            .jobs
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(2, usize::from))
            .max(1),
        limit: global.max_layer_size,
        squash: global.squash_owners,
        progress: Progress::new(form),
    })
}

/// `/var/lib/pintle-image` for root, `~/.local/share/pintle-image` for others.
fn default_root() -> Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/pintle-image".into());
    }
    let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let data = variable("XDG_DATA_HOME").or_else(|| Some(variable("HOME")?.join(".local/share")));
    let data =
        data.ok_or_else(|| Error::new(Kind::Usage, "neither XDG_DATA_HOME nor HOME is set: give --root"))?;
    Ok(data.join("pintle-image"))
}

fn dispatch(cli: Cli) -> Result<()> {
    let common = common(&cli.global)?;
    let as_json = cli.global.json;
    match cli.command {
        Command::Load { input, name, blobs_only } => {
            let name = name.as_deref().map(Reference::parse).transpose()?;
            let loaded =
                ops::load::load(&common, &Location::parse(&input), &ops::load::Options { name, blobs_only })?;
            print::loaded(&loaded, as_json)
        }
        Command::Unpack { image, dir, rootfs_only, map, config } => {
            let options = ops::unpack::Options { rootfs_only, ids: map.ids()?, config: config.options() };
            ops::unpack::unpack(&common, &Location::parse(&image), &dir, &options)
        }
        Command::Mount { image, dir } => ops::mount::mount(&common, &Location::parse(&image), &dir),
        Command::Umount { dir, delete } => ops::umount::umount(&common, &dir, delete),
        Command::Bundle { image, dir, volatile, config } => {
            let options = ops::bundle::Options { volatile, config: config.options() };
            ops::bundle::bundle(&common, &Location::parse(&image), &dir, &options)
        }
        Command::Ls => print::list(&ops::ls::ls(&common)?, as_json),
        Command::Inspect { image, raw, config } => {
            let view = match (raw, config) {
                (true, _) => ops::inspect::View::Raw,
                (_, true) => ops::inspect::View::Config,
                _ => ops::inspect::View::Summary,
            };
            print::bytes(&ops::inspect::inspect(&common, &Location::parse(&image), view)?)
        }
        Command::History { image } => {
            print::history(&ops::history::history(&common, &Location::parse(&image))?, as_json)
        }
        Command::Tag { image, name } => ops::tag::tag(&common, &image, &Reference::parse(&name)?),
        Command::Rm { images } => print::collected(&ops::rm::rm(&common, &images)?, as_json),
        Command::Gc => print::collected(&ops::gc::gc(&common)?, as_json),
        Command::Fsck { repair } => {
            let problems = ops::fsck::fsck(&common, repair)?;
            print::problems(&problems, as_json)?;
            match problems.len() {
                0 => Ok(()),
                n => Err(Error::invalid(format!("{n} problems{}", if repair { ", removed" } else { "" })))
                    .context(common.root.display()),
            }
        }
    }
}

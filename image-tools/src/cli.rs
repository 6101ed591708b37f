//! The command line: argv and the environment become options of a verb, and what the verb found out becomes a table or JSON on standard
//! output. Everything else goes to standard error.

mod args;
mod print;

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use serde_json::json;

use self::args::{Cli, Command, Global};
use crate::error::{Context, Error, Kind, Result};
use crate::layer::compression::Compression;
use crate::location::Location;
use crate::manifest::Descriptor;
use crate::ops::insert::Change;
use crate::ops::{self, Common, Making};
use crate::platform::Platform;
use crate::progress::{Form, Progress, write_line};
use crate::reference::Reference;
use crate::registry::Settings;
use crate::registry::credentials::{Credentials, Environment};
use crate::rootless;

/// Layers at once where nobody says how many: each may need 128 MiB for its window.
const MOST_JOBS: usize = 4;

/// Does what the command line asks for; the exit code is the [`Kind`] of what went wrong.
pub fn run() -> ExitCode {
    let words: std::result::Result<Vec<String>, _> =
        std::env::args_os().map(std::ffi::OsString::into_string).collect();
    if let Ok([_, word, pid, users, groups]) = words.as_deref()
        && word == rootless::MAPPER
    {
        return match rootless::write_maps(pid, users, groups) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                println!("{e}");
                ExitCode::FAILURE
            }
        };
    }
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
            write_line(&match json_errors {
                true => {
                    json!({"event": "error", "message": e.to_string(), "code": e.kind() as u8}).to_string()
                }
                false => format!("pintle-image: {e}"),
            });
            ExitCode::from(e.kind() as u8)
        }
    }
}

/// Who calls, before any user namespace.
#[derive(Clone, Copy)]
struct Caller {
    uid: u32,
    gid: u32,
}

impl Caller {
    fn new() -> Self {
        Self { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
    }
}

fn common(global: &Global, caller: Caller, trees: bool) -> Result<Common> {
    let form = match (&global.progress, global.quiet) {
        (_, true) => Form::None,
        (Some(name), false) => Form::parse(name)?,
        (None, false) => Form::Auto,
    };
    Ok(Common {
        root: match &global.root {
            Some(root) => root.clone(),
            None => default_root(caller)?,
        },
        platform: global.platform.as_deref().map_or_else(|| Ok(Platform::here()), Platform::parse)?,
        jobs: global.jobs.unwrap_or_else(default_jobs).max(1),
        limit: global.max_layer_size,
        squash: global.squash_owners,
        rootless: match caller.uid {
            uid if uid != 0 && trees => Some(rootless::enter(uid, caller.gid, global.squash_owners)?),
            _ => None,
        },
        progress: Arc::new(Progress::new(form)),
    })
}

fn default_jobs() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).min(MOST_JOBS)
}

/// `/var/lib/pintle-image` for root, `~/.local/share/pintle-image` for others.
fn default_root(caller: Caller) -> Result<PathBuf> {
    if caller.uid == 0 {
        return Ok("/var/lib/pintle-image".into());
    }
    let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let data = variable("XDG_DATA_HOME").or_else(|| Some(variable("HOME")?.join(".local/share")));
    let data =
        data.ok_or_else(|| Error::new(Kind::Usage, "neither XDG_DATA_HOME nor HOME is set: give --root"))?;
    Ok(data.join("pintle-image"))
}

fn environment(caller: Caller) -> Environment {
    Environment::new(caller.uid, |name| std::env::var_os(name))
}

fn registry_settings(args: &args::Registry, caller: Caller, common: &Common) -> Result<Settings> {
    let mut settings = Settings::from_environment(&environment(caller));
    settings.credentials = args.creds.as_deref().map(Credentials::parse).transpose()?;
    if let Some(file) = &args.authfile {
        settings.auth_files = vec![file.clone()];
    }
    if let Some(file) = &args.registries_conf {
        settings.mirrors = Some(file.clone());
    }
    settings.insecure = args.insecure;
    settings.certificates.splice(..0, args.cert_dir.iter().cloned());
    settings.retries = args.retries;
    let progress = Arc::clone(&common.progress);
    settings.notice = Some(Arc::new(move |text| progress.say(text)));
    Ok(settings)
}

/// SOURCE_DATE_EPOCH is reproducible-builds.org's: one time for everything that is made.
fn source_date_epoch() -> Result<Option<u64>> {
    let Ok(text) = std::env::var("SOURCE_DATE_EPOCH") else { return Ok(None) };
    let wrong = |_| Error::new(Kind::Usage, format!("SOURCE_DATE_EPOCH: {text:?} is no number of seconds"));
    text.parse().map(Some).map_err(wrong)
}

fn making_of(args: args::Making, compress: Option<&str>) -> Result<Making> {
    let compression = compress.map_or(Ok(Compression::Gzip), Compression::parse)?;
    Ok(Making { compression, author: args.by, message: args.message, epoch: source_date_epoch()? })
}

fn made(name: &Reference, image: Descriptor, as_json: bool) -> Result<()> {
    print::loaded(&[ops::load::Loaded { name: Some(name.to_string()), digest: image.digest }], as_json)
}

/// Writes to a file, which appears when it is whole, or to standard output, which is no terminal. What is there and is no
/// regular file, a device or a pipe, is written to; a link stays a link.
fn into_file(path: Option<&Path>, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let Some(path) = path else {
        if std::io::IsTerminal::is_terminal(&std::io::stdout()) {
            return Err(Error::new(Kind::Usage, "an archive on a terminal? give --output or a pipe"));
        }
        return write(&mut std::io::stdout().lock());
    };
    let place = || path.display().to_string();
    let path = match path.metadata() {
        Ok(there) if there.is_file() => &path.canonicalize().with_context(place)?,
        Ok(_) => return write(&mut File::options().write(true).open(path).with_context(place)?),
        Err(_) => path,
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}", crate::layout::unique()));
    let mut file = File::create_new(&temporary).with_context(place)?;
    let written = write(&mut file).and_then(|()| std::fs::rename(&temporary, path).with_context(place));
    if written.is_err() {
        // The first error is the one that counts.
        std::fs::remove_file(&temporary).unwrap_or(());
    }
    written
}

fn dispatch(cli: Cli) -> Result<()> {
    let caller = Caller::new();
    // Credentials are the caller's own, and so are the programs that keep them.
    let trees = !matches!(cli.command, Command::Login { .. } | Command::Logout { .. });
    let common = common(&cli.global, caller, trees)?;
    let as_json = cli.global.json;
    match cli.command {
        Command::Pull { names, blobs_only, registry } => {
            let names = names.iter().map(|name| Reference::parse(name)).collect::<Result<Vec<_>>>()?;
            let mut pulled = Vec::new();
            for name in names {
                let settings = registry_settings(&registry, caller, &common)?;
                let image = ops::pull::pull(&common, settings, &name, blobs_only)?;
                pulled.push(ops::load::Loaded { name: Some(name.to_string()), digest: image.digest });
            }
            print::loaded(&pulled, as_json)
        }
        Command::Push { image, to, registry } => {
            let to = to.as_deref().map(Reference::parse).transpose()?;
            let settings = registry_settings(&registry, caller, &common)?;
            let pushed = ops::push::push(&common, settings, &Location::parse(&image), to.as_ref())?;
            print::loaded(&[pushed], as_json)
        }
        Command::Save { images, output } => {
            let images: Vec<Location> = images.iter().map(|image| Location::parse(image)).collect();
            into_file(output.as_deref(), |to| ops::save::save(&common, &images, to))
        }
        Command::Export { from, output } => {
            let epoch = source_date_epoch()?;
            into_file(output.as_deref(), |to| ops::export::export(&common, &from, to, epoch))
        }
        Command::Import { from, name, compress, making, changes } => {
            let (name, changes, making) =
                (Reference::parse(&name)?, changes.changes()?, making_of(making, compress.as_deref())?);
            let image = ops::import::import(&common, &from, &name, &changes, &making)?;
            made(&name, image, as_json)
        }
        Command::Commit { dir, name, mask, no_mask_volumes, compress, making, changes } => {
            let name = Reference::parse(&name)?;
            let options = ops::commit::Options {
                making: making_of(making, compress.as_deref())?,
                changes: changes.changes()?,
                mask,
                mask_volumes: !no_mask_volumes,
            };
            made(&name, ops::commit::commit(&common, &dir, &name, &options)?, as_json)
        }
        Command::Config { image, name, making, changes } => {
            let name = name.as_deref().map(Reference::parse).transpose()?;
            let (changes, making) = (changes.changes()?, making_of(making, None)?);
            let from = Location::parse(&image);
            let new = ops::config::config(&common, &from, name.as_ref(), &changes, &making)?;
            print::loaded(&[new], as_json)
        }
        Command::Insert { image, paths, replace, remove, name, compress, making } => {
            let name = name.as_deref().map(Reference::parse).transpose()?;
            let making = making_of(making, compress.as_deref())?;
            let (change, path) = match (&paths[..], remove, replace) {
                ([path], true, _) => (Change::Remove, path),
                ([source, path], false, true) => (Change::Replace(source.into()), path),
                ([source, path], false, false) => (Change::Add(source.into()), path),
                _ => {
                    let text =
                        "insert: a path of the host and one of the image, or --remove and one of the image";
                    return Err(Error::new(Kind::Usage, text));
                }
            };
            let from = Location::parse(&image);
            let new = ops::insert::insert(&common, &from, &change, path, name.as_ref(), &making)?;
            print::loaded(&[new], as_json)
        }
        Command::Login { registry, username, password_stdin, settings } => {
            if !password_stdin && std::io::IsTerminal::is_terminal(&std::io::stdin()) {
                let text = "the password is read from standard input: --password-stdin, and a pipe or file";
                return Err(Error::new(Kind::Usage, text));
            }
            let mut password = String::new();
            std::io::Read::read_to_string(&mut std::io::stdin().take(64 << 10), &mut password)?;
            let credentials = Credentials::password(&username, password.trim_end_matches(['\r', '\n']));
            let file = settings.authfile.clone().unwrap_or_else(|| environment(caller).login_file());
            ops::login::login(registry_settings(&settings, caller, &common)?, &registry, &credentials, &file)
        }
        Command::Logout { registry, authfile } => {
            let files = authfile.map_or_else(|| environment(caller).auth_files(), |file| vec![file]);
            match ops::login::logout(&registry, &files)? {
                true => Ok(()),
                false => Err(Error::not_found(format!("{registry}: no credentials are kept for it"))),
            }
        }
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

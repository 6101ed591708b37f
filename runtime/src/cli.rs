//! The command line: argv and the environment become the options of one verb, and what the verb returns is
//! printed. The surface is runc's (names, defaults, sentences, exit codes), read in Go's notation. Only the verb
//! that was asked for is built as a clap command.

use crate::error::{Error, Result};
use crate::log;
use crate::ops::Context;
use flags::{Arguments, Flag};
use std::ffi::{OsStr, OsString};
use std::path::Path;

mod create;
mod delete;
mod events;
mod exec;
mod features;
mod flags;
mod globals;
mod help;
mod kill;
mod list;
mod output;
mod pause;
mod plan;
mod ps;
mod resume;
mod run;
pub mod signal;
mod spec;
mod start;
mod state;
pub mod table;
mod update;
mod values;

pub use globals::context_for;

/// A verb as the command line knows it.
struct Verb {
    name: &'static str,
    /// One line for the list of commands.
    about: &'static str,
    /// The arguments, and what they are.
    usage: &'static str,
    description: &'static str,
    flags: &'static [Flag],
    /// How many words must stand beside the flags.
    count: Count,
    /// Flags end at the first word: what follows is somebody else's.
    stop_at_first: bool,
    hidden: bool,
    /// The exit code of a failure.
    failure: u8,
    /// Does it; returns the exit code.
    run: fn(&Context, &Arguments) -> Result<u8>,
}

impl Verb {
    /// What most verbs are: one container and no flags.
    const fn new(
        name: &'static str,
        about: &'static str,
        run: fn(&Context, &Arguments) -> Result<u8>,
    ) -> Self {
        Self {
            name,
            about,
            usage: "<container-id>",
            description: "",
            flags: &[],
            count: Count::Exactly(1),
            stop_at_first: false,
            hidden: false,
            failure: 1,
            run,
        }
    }
}

#[derive(Clone, Copy)]
enum Count {
    Exactly(usize),
    AtLeast(usize),
    Between(usize, usize),
}

impl Count {
    /// What is wrong with `count` words, in runc's words.
    fn complaint(self, count: usize) -> Option<String> {
        match self {
            Count::Exactly(want) if count != want => Some(format!("exactly {want}")),
            Count::AtLeast(least) | Count::Between(least, _) if count < least => {
                Some(format!("a minimum of {least}"))
            }
            Count::Between(_, most) if count > most => Some(format!("a maximum of {most}")),
            _ => None,
        }
    }
}

/// The verbs in the order of the help.
const VERBS: &[&Verb] = &[
    &create::VERB,
    &delete::VERB,
    &events::VERB,
    &exec::VERB,
    &kill::VERB,
    &list::VERB,
    &pause::VERB,
    &ps::VERB,
    &resume::VERB,
    &run::VERB,
    &spec::VERB,
    &start::VERB,
    &state::VERB,
    &update::VERB,
    &features::VERB,
    &plan::VERB,
];

/// runc's verbs that are not built yet, and what they are for.
const MISSING: [(&str, &str); 2] =
    [("checkpoint", "checkpoint a running container"), ("restore", "restore a container from a checkpoint")];

/// Why the program fails, and with which exit code.
#[derive(Debug)]
pub struct Failure {
    error: Error,
    /// How it is used, when that was the mistake.
    usage: Option<String>,
    /// The exit code.
    pub code: u8,
}

impl Failure {
    /// Tells the person: how it is used on stdout, what was wrong in the log.
    pub fn tell(&self) {
        if let Some(usage) = &self.usage {
            // What was wrong stays the error even if nobody reads the help.
            output::print(usage).ok();
        }
        log::error(&self.error);
    }

    fn misuse(error: Error, headline: &str, help: &str) -> Self {
        Self { error, usage: Some(format!("{headline}\n\n{help}")), code: 1 }
    }

    fn flags(error: Error, help: impl FnOnce() -> String) -> Self {
        let headline = format!("Incorrect Usage: {error}");
        Self::misuse(error, &headline, &help())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, usage: None, code: 1 }
    }
}

/// Does what `argv` asks for; returns the exit code.
pub fn run(argv: impl IntoIterator<Item = OsString>) -> std::result::Result<u8, Failure> {
    let mut argv = argv.into_iter();
    let program = argv.next().unwrap_or_else(|| "pintle".into());
    let name = Path::new(&program).file_name().unwrap_or_default().to_string_lossy();
    let globals = flags::parse(globals::FLAGS, argv, true)
        .map_err(|error| Failure::flags(error, || help::program(&name, VERBS)))?;
    globals::start_log(&globals)?;
    crate::log::phase("start");
    let mut words = globals.words().into_iter();
    let word = words.next().unwrap_or_default();
    if globals.switch("help") {
        return Ok(show(&help::program(&name, VERBS))?);
    }
    if globals.switch("version") || word == "version" {
        return Ok(show(&help::version())?);
    }
    if word.is_empty() || word == "help" || word == "h" {
        return helped(&name, words.next());
    }
    if let Some(missing) = missing(&word) {
        // Not for `checkpoint --help`: by its exit code podman asks whether there is a checkpoint.
        if words.any(|word| word == "-h") {
            return Ok(show(&help::missing(&name, missing))?);
        }
        let verb = missing.0;
        return Err(Error::new(format!("{verb} is not there yet: pintle can't checkpoint or restore")).into());
    }
    let verb = find(&word)?;
    let arguments = flags::parse(verb.flags, words, verb.stop_at_first)
        .map_err(|error| Failure::flags(error, || help::verb(&name, verb)))?;
    if arguments.switch("help") {
        return Ok(show(&help::verb(&name, verb))?);
    }
    if let Some(complaint) = verb.count.complaint(arguments.words().len()) {
        let program = program.display();
        let error = Error::new(format!("{program}: {:?} requires {complaint} argument(s)", verb.name));
        return Err(Failure::misuse(error, "Incorrect Usage.", &help::verb(&name, verb)));
    }
    let context = globals::context(&globals)?;
    log::debug(format_args!(
        "pintle {}: {} below {}",
        env!("CARGO_PKG_VERSION"),
        verb.name,
        context.root.display()
    ));
    (verb.run)(&context, &arguments).map_err(|error| Failure { error, usage: None, code: verb.failure })
}

fn missing(name: &OsStr) -> Option<(&'static str, &'static str)> {
    MISSING.into_iter().find(|(missing, _)| name == *missing)
}

fn find(name: &OsStr) -> std::result::Result<&'static Verb, Failure> {
    if let Some(verb) = VERBS.iter().find(|verb| name == verb.name) {
        return Ok(verb);
    }
    let name = name.display();
    Err(Failure { error: Error::new(format!("No help topic for '{name}'")), usage: None, code: 3 })
}

/// `help`, `help VERB`.
fn helped(program: &str, topic: Option<OsString>) -> std::result::Result<u8, Failure> {
    let text = match topic {
        Some(topic) => match missing(&topic) {
            Some(missing) => help::missing(program, missing),
            None => help::verb(program, find(&topic)?),
        },
        None => help::program(program, VERBS),
    };
    Ok(show(&text)?)
}

fn show(text: &str) -> Result<u8> {
    output::print(text)?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(line: &str) -> (String, u8) {
        let argv = std::iter::once("pintle").chain(line.split(' ')).map(OsString::from);
        let failure = run(argv).expect_err(line);
        (failure.error.to_string(), failure.code)
    }

    #[test]
    fn misuse_is_told_in_runcs_words_with_runcs_codes() {
        for (line, text, code) in [
            ("nosuch", "No help topic for 'nosuch'", 3),
            ("help nosuch", "No help topic for 'nosuch'", 3),
            ("--nosuch", "flag provided but not defined: -nosuch", 1),
            ("create", "pintle: \"create\" requires exactly 1 argument(s)", 1),
            ("create a b", "pintle: \"create\" requires exactly 1 argument(s)", 1),
            ("exec", "pintle: \"exec\" requires a minimum of 1 argument(s)", 1),
            ("exec --nosuch x", "flag provided but not defined: -nosuch", 1),
            ("kill", "pintle: \"kill\" requires a minimum of 1 argument(s)", 1),
            ("kill a b c", "pintle: \"kill\" requires a maximum of 2 argument(s)", 1),
            ("list x", "pintle: \"list\" requires exactly 0 argument(s)", 1),
            ("--log-format foo list", "invalid log-format: foo", 1),
            ("--log /nonexistent/x list", "open /nonexistent/x: no such file or directory", 1),
            ("--root / list", "Option --root argument should not be set to /", 1),
            ("checkpoint --help", "checkpoint is not there yet: pintle can't checkpoint or restore", 1),
            (
                "restore --lsm-mount-context",
                "restore is not there yet: pintle can't checkpoint or restore",
                1,
            ),
            ("kill x XX", "unknown signal \"XX\"", 1),
            ("exec -g -1 x y", "exec failed: additional-gids must be a positive number -1", 255),
        ] {
            assert_eq!(failure(line), (text.to_owned(), code), "{line}");
        }
    }

    #[test]
    fn every_table_of_flags_is_one_that_clap_accepts() {
        for verb in VERBS {
            assert!(
                flags::parse(verb.flags, std::iter::empty(), verb.stop_at_first).is_ok(),
                "{}",
                verb.name
            );
        }
    }
}

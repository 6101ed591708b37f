//! Help and version, in the shape of runc's, which people know and scripts look through. Help names the program as it was
//! called; the texts of the verbs have `{program}` there.

use super::Verb;
use super::flags::{Flag, HELP, Kind};
use super::globals;

/// The runc that this one stands in for: engines read it to know what they may ask.
pub const RUNC_VERSION: &str = "1.5.0";

/// The version of the runtime spec.
pub const SPEC_VERSION: &str = "1.3.0";

const ABOUT: &str = "\
{program} - Open Container Initiative runtime

pintle runs a container from a bundle: a directory with a root filesystem and a
specification file named \"config.json\". It is a low-level runtime that engines
call in place of runc, and has runc's command line.

To start a new instance of a container:

    # {program} run [ -b bundle ] <container-id>

Where \"<container-id>\" is a name of your choice that no other container on this
host has. Without \"-b\" the bundle is the current directory.";

/// `--version`. go-runc and Docker want the first line to begin so.
pub fn version() -> String {
    let commit = option_env!("PINTLE_COMMIT").unwrap_or("unknown");
    let own = env!("CARGO_PKG_VERSION");
    format!("runc version {RUNC_VERSION}\ncommit: {commit}\nspec: {SPEC_VERSION}\npintle version {own}\n")
}

/// The help of the whole program.
pub fn program(name: &str, verbs: &[&Verb]) -> String {
    let mut rows: Vec<(String, String)> = verbs
        .iter()
        .filter(|verb| !verb.hidden)
        .map(|verb| (verb.name.to_owned(), verb.about.to_owned()))
        .collect();
    rows.push(("help, h".to_owned(), "show a list of commands, or help for one command".to_owned()));
    format!(
        "NAME:\n   {}\n\nUSAGE:\n   {name} [global options] command [command options] [arguments...]\n\n\
         VERSION:\n   {}\n\nCOMMANDS:\n{}\nGLOBAL OPTIONS:\n{}",
        ABOUT.replace("{program}", name),
        env!("CARGO_PKG_VERSION"),
        table(&rows),
        options(globals::FLAGS.iter().chain([&HELP]))
    )
}

/// The help of one verb.
pub fn verb(program: &str, verb: &Verb) -> String {
    let Verb { name, about, .. } = verb;
    let mut text = format!("NAME:\n   {program} {name} - {about}\n\nUSAGE:\n   {program} {name}");
    let options = options(verb.flags.iter());
    if !options.is_empty() {
        text.push_str(" [command options]");
    }
    let usage = format!(" {}", verb.usage);
    text.push_str(&format!("{}\n", usage.trim_end()));
    if !verb.description.is_empty() {
        text.push_str(&format!("\nDESCRIPTION:\n   {}\n", verb.description));
    }
    if !options.is_empty() {
        text.push_str(&format!("\nOPTIONS:\n{options}"));
    }
    text.replace("{program}", program)
}

/// The help of a verb of runc's that is not built yet.
pub fn missing(program: &str, (name, about): (&str, &str)) -> String {
    format!(
        "NAME:\n   {program} {name} - {about} (not there yet)\n\nUSAGE:\n   {program} {name} <container-id>\n\n\
         DESCRIPTION:\n   pintle can't checkpoint or restore yet: this command does nothing and fails.\n"
    )
}

fn options<'a>(flags: impl Iterator<Item = &'a Flag>) -> String {
    let row = |flag: &Flag| {
        let value = if flag.kind == Kind::Switch { "" } else { " value" };
        let short = flag.short.map(|short| format!(", -{short}{value}")).unwrap_or_default();
        let default = match flag.default {
            "" => String::new(),
            default => format!(" (default: {default})"),
        };
        (format!("--{}{value}{short}", flag.name), format!("{}{default}", flag.help))
    };
    let rows: Vec<_> = flags.filter(|flag| !flag.hidden).map(row).collect();
    table(&rows)
}

fn table(rows: &[(String, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    rows.iter().map(|(name, text)| format!("   {name:<width$}  {text}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli;

    #[test]
    fn the_version_is_what_engines_parse() {
        let version = version();
        let lines: Vec<_> = version.lines().collect();
        assert_eq!(lines[0], "runc version 1.5.0");
        assert!(lines[1].starts_with("commit: "));
        assert_eq!(lines[2], "spec: 1.3.0");
        assert!(lines[3].starts_with("pintle version "));
    }

    #[test]
    fn help_names_the_program_as_it_was_called() {
        assert!(
            program("runc", cli::VERBS).starts_with("NAME:\n   runc - Open Container Initiative runtime\n")
        );
        for text in cli::VERBS.iter().map(|of| verb("runc", of)).chain([program("runc", cli::VERBS)]) {
            assert!(!text.contains("{program}"), "{text}");
            for command in ["# pintle", "   pintle ", "\"pintle "] {
                assert!(!text.contains(command), "{text}");
            }
        }
    }

    #[test]
    fn the_help_of_a_verb_has_runcs_headings() {
        let expect = "\
NAME:
   pintle delete - delete what a container holds

USAGE:
   pintle delete [command options] <container-id>

DESCRIPTION:
   Removes a container that has stopped, or that was created and never started.

OPTIONS:
   --force, -f  kill the container first if it is still running (uses SIGKILL)
";
        assert_eq!(verb("pintle", &cli::delete::VERB), expect);
        assert!(!verb("pintle", &cli::kill::VERB).contains("OPTIONS:"), "a hidden flag is hidden");
        assert!(!program("pintle", cli::VERBS).contains("   plan"), "a hidden verb is hidden");
        for verb in cli::VERBS.iter().filter(|verb| !verb.hidden) {
            assert!(
                program("pintle", cli::VERBS).contains(&format!("\n   {:<8}  {}\n", verb.name, verb.about))
            );
        }
    }
}

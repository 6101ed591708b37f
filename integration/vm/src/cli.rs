//! The command line of `cargo vm`: what was typed, as what to do.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, value_parser};

use crate::suite::{Place, Run, Subject, Suite};

/// What was asked.
pub enum Command {
    Build,
    Run(Request),
    Suite(Run),
    /// Write docs/conformance.md.
    Conformance,
}

/// One script for one machine.
#[derive(Clone)]
pub struct Request {
    pub shape: Shape,
    /// Boot, rather than restore a machine that was saved when it had booted.
    pub boot: bool,
    /// From the command to the script's end.
    pub timeout: Duration,
    /// Text for bash.
    pub script: String,
    /// The folder that is /results inside.
    pub results: Option<PathBuf>,
}

/// What kind of machine: machines of one shape can start from one saved state.
#[derive(Clone, Copy)]
pub struct Shape {
    pub init: Init,
    /// MiB.
    pub memory: u32,
    pub cpus: u32,
    /// With SELinux in the place of AppArmor. It has no policy yet, and enforces none.
    pub selinux: bool,
}

impl Shape {
    /// A folder's name.
    pub fn name(self) -> String {
        let security = if self.selinux { "-selinux" } else { "" };
        format!("{}-{}m-{}c{security}", self.init.name(), self.memory, self.cpus)
    }
}

/// The machine's first process.
#[derive(Clone, Copy)]
pub enum Init {
    Systemd,
    /// A shell script that mounts what runtimes expect, and no more.
    Minimal,
}

impl Init {
    pub fn name(self) -> &'static str {
        match self {
            Init::Systemd => "systemd",
            Init::Minimal => "minimal",
        }
    }

    /// The program in the machine.
    pub fn path(self) -> &'static str {
        match self {
            Init::Systemd => "/usr/lib/systemd/systemd",
            Init::Minimal => "/usr/lib/pintle/minimal",
        }
    }
}

/// Reads argv; ends the process on a mistake, or after --help.
pub fn parse() -> Command {
    match command().get_matches().remove_subcommand().expect("clap asks for a subcommand") {
        (name, _) if name == "build" => Command::Build,
        (name, matches) if name == "run" => Command::Run(request(matches)),
        (name, matches) if name == "suite" => Command::Suite(suite(matches)),
        _ => Command::Conformance,
    }
}

fn suite(mut matches: ArgMatches) -> Run {
    let mut word = |name: &str| matches.remove_one::<String>(name);
    let subject = Subject {
        suite: if word("suite").as_deref() == Some("pintle") { Suite::Pintle } else { Suite::Runc },
        runtime: word("runtime").expect("has a default"),
        driver: word("driver").expect("has a default"),
        user: word("user").filter(|user| user != "root"),
        place: if matches.get_flag("native") { Place::Native } else { Place::Machine },
    };
    Run {
        subject,
        shape: shape(&matches),
        machines: *matches.get_one::<u32>("machines").expect("has a default") as usize,
        again: matches.get_flag("again"),
        files: matches.remove_many("file").map(Iterator::collect).unwrap_or_default(),
    }
}

fn request(mut matches: ArgMatches) -> Request {
    let words: Vec<String> = matches.remove_many("command").map(Iterator::collect).unwrap_or_default();
    let script = match matches.remove_one::<PathBuf>("script") {
        Some(file) => std::fs::read_to_string(&file).unwrap_or_else(|error| {
            command().error(clap::error::ErrorKind::Io, format!("read {}: {error}", file.display())).exit()
        }),
        // One word is a line for the shell; several are a program and its arguments.
        None if words.len() == 1 => words[0].clone(),
        None => words.iter().map(|word| format!("'{}' ", word.replace('\'', r"'\''"))).collect(),
    };
    Request {
        shape: shape(&matches),
        boot: matches.get_flag("boot"),
        timeout: Duration::from_secs(*matches.get_one("timeout").expect("has a default")),
        script,
        results: matches.remove_one("results"),
    }
}

fn shape(matches: &ArgMatches) -> Shape {
    let init = match matches.get_one::<String>("init").map(String::as_str) {
        Some("minimal") => Init::Minimal,
        _ => Init::Systemd,
    };
    Shape {
        init,
        memory: *matches.get_one("memory").expect("has a default"),
        cpus: *matches.get_one("cpus").expect("has a default"),
        selinux: matches.get_flag("selinux"),
    }
}

fn command() -> clap::Command {
    clap::Command::new("cargo vm")
        .about("A throw-away Debian machine: pure cgroup v2, systemd, the newest kernel and engines")
        .subcommand_required(true)
        .subcommand(clap::Command::new("build").about("Make the machine: once, then it is cached in target/vm"))
        .subcommand(
            clap::Command::new("run")
                .about("Run a script in a fresh machine, as root in the checkout (read-only); ends with its status")
                .args(shape_args())
                .arg(number("timeout", "SECONDS", "600", "From the command to the script's end"))
                .arg(flag("boot", "Boot, rather than restore a saved machine"))
                .arg(path("results", "DIR", "The folder that is /results inside, writable"))
                .arg(path("script", "FILE", "A script for bash").conflicts_with("command"))
                .arg(
                    Arg::new("command")
                        .last(true)
                        .action(ArgAction::Append)
                        .required_unless_present("script")
                        .help("One word: a line for the shell. Several: a program and its arguments"),
                ),
        )
        .subcommand(
            clap::Command::new("suite")
                .about("Run a test suite, a fresh machine for each file; results are kept, an interrupted run goes on")
                .arg(Arg::new("suite").required(true).value_parser(["runc", "pintle"]).help("runc's own, or pintle's"))
                .arg(Arg::new("file").action(ArgAction::Append).help("Files of the suite, such as exec; all"))
                .arg(word("runtime", "NAME", "pintle", "pintle, a command of the machine (runc, crun), or a binary's path"))
                .arg(word("driver", "DRIVER", "cgroupfs", "The cgroup driver").value_parser(["cgroupfs", "systemd"]))
                .arg(word("user", "NAME", "root", "Who runs the tests; tester is an ordinary user of the machine"))
                .arg(number("machines", "N", "2", "Machines side by side"))
                .arg(flag("native", "On this host's kernel, without emulation, and without most controllers"))
                .arg(flag("again", "Forget the recorded results"))
                .args(shape_args()),
        )
        .subcommand(clap::Command::new("conformance").about("Write docs/conformance.md from the recorded runs"))
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn word(name: &'static str, unit: &'static str, default: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(unit).default_value(default).help(help)
}

fn shape_args() -> [Arg; 4] {
    [
        Arg::new("init")
            .long("init")
            .value_parser(["systemd", "minimal"])
            .default_value("systemd")
            .help("First process"),
        number("memory", "MIB", "4096", "Memory"),
        number("cpus", "N", "2", "Processors"),
        flag("selinux", "SELinux in the place of AppArmor, without a policy"),
    ]
}

fn number(name: &'static str, unit: &'static str, default: &'static str, help: &'static str) -> Arg {
    let arg = word(name, unit, default, help);
    if name == "timeout" {
        arg.value_parser(value_parser!(u64))
    } else {
        arg.value_parser(value_parser!(u32))
    }
}

fn path(name: &'static str, unit: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(unit).value_parser(value_parser!(PathBuf)).help(help)
}

//! What can be written on the command line of pintle-keep.

use super::restart::Restart;
use clap::{Args, Parser, Subcommand};
use pintle::error::{Context as _, Error, Result};
use std::path::{Path, PathBuf};

/// What the exit codes mean, below the list of commands.
const CODES: &str =
    "wait and attach exit with the container's status; 125 says that pintle-keep itself failed.";

/// Containers kept in the background, without an engine: logged, waited for, attached to, restarted.
#[derive(Debug, Parser)]
#[command(name = "pintle-keep", version, disable_help_subcommand = true, after_help = CODES)]
pub struct Cli {
    /// Where is kept what is known of containers [default: /run/pintle-keep, or $XDG_RUNTIME_DIR/pintle-keep]
    #[arg(long, global = true, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// What is asked for.
    #[command(subcommand)]
    pub command: Command,
}

/// A verb and what belongs to it.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a container in the background, under a supervisor of its own
    Run(Run),
    /// Show what a container prints from now on, and send it what is typed; ctrl-p ctrl-q leaves a terminal
    Attach {
        /// Send nothing
        #[arg(long)]
        no_stdin: bool,
        /// Which container
        id: String,
    },
    /// Wait for a container's end, and exit with its status
    Wait {
        /// Which container
        id: String,
    },
    /// Print what a container has printed
    Logs {
        /// Go on until the container ends
        #[arg(long, short)]
        follow: bool,
        /// Only the last lines
        #[arg(long, value_name = "N")]
        tail: Option<usize>,
        /// Which container
        id: String,
    },
    /// List containers
    List {
        /// table or json
        #[arg(long, short, default_value = "table", value_parser = ["table", "json"])]
        format: String,
    },
    /// End a container: by its stop signal, and by SIGKILL if that is not enough
    Stop {
        /// Seconds between the two
        #[arg(long, short, value_name = "S", default_value_t = super::PATIENCE)]
        time: u32,
        /// Which container
        id: String,
    },
    /// Forget a container that has ended
    Rm {
        /// Kill it first if it has not; also clears away after a supervisor that was killed
        #[arg(long, short)]
        force: bool,
        /// Which container
        id: String,
    },
}

/// What `run` is told.
#[derive(Debug, Args)]
pub struct Run {
    /// The runtime's directory for the state of containers [default: pintle's own]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Let systemd make the cgroup
    #[arg(long)]
    pub systemd_cgroup: bool,
    /// The bundle
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// Where its output goes [default: beside its state, to be removed with it]
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// How long the log grows before a new file is begun, in bytes, or with K, M or G
    #[arg(long, value_name = "SIZE", default_value = "1M", value_parser = size)]
    pub log_size: u64,
    /// How many files of the log are kept
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub log_files: u16,
    /// When it is started again: no, on-failure[:TIMES] or always
    #[arg(long, value_name = "WHEN", default_value = "no")]
    pub restart: Restart,
    /// Keep its standard input open for attach; a container with a terminal always has one
    #[arg(long, short)]
    pub interactive: bool,
    /// A name of your choice
    pub id: String,
}

/// Makes a path independent of the working directory.
///
/// # Errors
/// No working directory.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| path.display().to_string())
}

fn size(text: &str) -> Result<u64> {
    let (digits, unit) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (text.get(..at), 1 << 10),
        Some((at, 'm' | 'M')) => (text.get(..at), 1 << 20),
        Some((at, 'g' | 'G')) => (text.get(..at), 1 << 30),
        _ => (Some(text), 1),
    };
    let number = digits.and_then(|digits| digits.parse::<u64>().ok()).and_then(|n| n.checked_mul(unit));
    number.filter(|n| *n > 0).ok_or_else(|| Error::new("no size: a number of bytes, or one with K, M or G"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn run(line: &str) -> std::result::Result<Run, String> {
        let words = ["pintle-keep", "run"].into_iter().chain(line.split(' '));
        match Cli::try_parse_from(words).map_err(|error| error.to_string())?.command {
            Command::Run(run) => Ok(run),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn run_has_defaults_and_takes_sizes_with_units() {
        let plain = run("c1").unwrap();
        assert_eq!((plain.id.as_str(), plain.bundle.as_path()), ("c1", Path::new(".")));
        assert_eq!((plain.log_size, plain.log_files, plain.restart), (1 << 20, 4, Restart::No));
        for (text, bytes) in [("1", 1), ("64k", 65_536), ("10M", 10 << 20), ("2G", 2 << 30)] {
            assert_eq!(run(&format!("--log-size {text} c1")).unwrap().log_size, bytes, "{text}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for line in [
            "--log-size 0 c1",
            "--log-size M c1",
            "--log-size -1 c1",
            "--log-size 99999999999G c1",
            "--log-files 0 c1",
            "--restart never c1",
            "--restart on-failure: c1",
            "--nosuch c1",
            "c1 c2",
        ] {
            assert!(run(line).is_err(), "{line}");
        }
    }
}

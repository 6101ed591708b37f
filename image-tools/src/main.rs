//! The command line's entry: parse, run, report, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    pintle_image::cli::run()
}

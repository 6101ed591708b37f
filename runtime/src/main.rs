//! The command line's entry: parse, run, report, exit code.
#![no_main]

use pintle::cli;

pintle_sys::main!(run);

fn run() -> u8 {
    match cli::run(std::env::args_os()) {
        Ok(code) => code,
        Err(failure) => {
            failure.tell();
            failure.code
        }
    }
}

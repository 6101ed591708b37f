//! The command line's entry.
#![no_main]

use pintle_shim::cli;

pintle_sys::main!(run);

fn run() -> u8 {
    cli::run(std::env::args_os())
}

//! The command line's entry.
#![no_main]

use pintle_shim::keep;

pintle_sys::main!(run);

fn run() -> u8 {
    keep::run(std::env::args_os())
}

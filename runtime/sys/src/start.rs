//! How the runtime begins: `main` as the C library calls it, without what Rust's runtime does before (a stack guard read
//! from /proc/self/maps, alternate stacks, handlers): nothing that a program of one thread needs, and a tenth of its start.

/// Defines `main`, which opens standard streams that are closed, gives signals the actions that the runtime relies on, and returns what `$run` returns.
#[macro_export]
macro_rules! main {
    ($run:path) => {
        #[unsafe(no_mangle)]
        extern "C" fn main(_count: i32, _arguments: *const *const u8) -> i32 {
            if $crate::fd::open_streams().is_err() || $crate::signal::prepare().is_err() {
                return 1;
            }
            i32::from($run())
        }
    };
}

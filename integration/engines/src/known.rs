//! What the Go shim is known to get wrong, by check: it is run all the same, and counts as what it is, not as a failure.

use crate::place::{Shim, containerd};

/// A fault of containerd-shim-runc-v2 or runc that a check finds.
pub struct Fault {
    /// The check.
    pub check: &'static str,
    /// `host`, `newest`, or empty for both daemons, each with its own shim.
    pub containerd: &'static str,
    /// A race or a time limit: it may also pass.
    pub sometimes: bool,
    /// What is wrong, and where that is told.
    pub why: &'static str,
}

/// All of them.
pub const FAULTS: &[Fault] = &[
    Fault {
        check: "exec::an_empty_stdin_ends_though_all_start_at_once",
        containerd: "",
        sometimes: true,
        why: "CloseIO of an exec that is not started yet does nothing: its stdin never ends",
    },
    Fault {
        check: "attach::close_before_the_start_is_not_lost",
        containerd: "",
        sometimes: false,
        why: "CloseIO of an exec that is not started yet does nothing: its stdin never ends",
    },
    Fault {
        check: "events::the_end_of_the_first_process_is_last",
        containerd: "host",
        sometimes: true,
        why: "the exit of the first process overtakes those of execs (containerd 10651, fixed in 2.0)",
    },
];

/// The fault that a check is expected to show on the shim under test.
pub fn fault(check: &str) -> Option<&'static Fault> {
    let own = |fault: &&Fault| {
        fault.check == check && (fault.containerd.is_empty() || fault.containerd == containerd())
    };
    FAULTS.iter().find(own).filter(|_| Shim::under_test() == Shim::Runc)
}

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
    fault_of("attach::close_before_the_start_is_not_lost", "", false, NOT_CLOSED),
    fault_of(
        "events::the_end_of_the_first_process_is_last",
        "host",
        true,
        "the exit of the first process overtakes those of execs (containerd 10651, fixed in 2.0)",
    ),
    fault_of("events::short_runs_have_four_events_each_in_order", "newest", true, UNSENT),
    fault_of("events::the_end_of_the_first_process_is_last", "newest", true, UNSENT),
    fault_of("events::execs_have_theirs_in_order", "newest", true, UNSENT),
    fault_of("events::pause_and_resume_are_told", "newest", true, UNSENT),
    fault_of(
        "restart::shims_are_killed_at_random_moments",
        "",
        true,
        "sockets of killed shims stay, and cgroups of containers that were being created",
    ),
    fault_of(
        "restart::the_daemon_is_killed_at_random_moments",
        "",
        true,
        "a shim whose daemon died before it wrote down the address is never ended (containerd 6860)",
    ),
    fault_of("restart::a_killed_shim_takes_execs_and_a_pod_along", "", true, SOCKET),
    fault_of("restart::a_shim_that_died_with_the_daemon_down_is_cleaned_up", "", true, SOCKET),
    fault_of("wire::delete_cleans_up_after_a_dead_shim", "", true, SOCKET),
    fault_of("wire::the_next_start_clears_away_after_one_that_was_killed_at_birth", "", true, SOCKET),
    fault_of("nothing_is_left_at_the_end", "", true, SOCKET),
    fault_of(
        "restart::what_ends_while_the_daemon_is_down_is_seen_afterwards",
        "newest",
        true,
        "Pids of a stopped container is empty, which containerd 2 takes for a leaked shim: its exit status is lost",
    ),
    fault_of("pod::ten_containers_have_one_shim", "newest", true, POD),
    fault_of("pod::runcs_own_annotation_groups_too", "newest", true, POD),
    fault_of("pod::the_first_may_end_first", "newest", true, POD),
    fault_of("pod::one_containers_trouble_is_not_anothers", "newest", true, POD),
    fault_of("faults::a_runtime_that_hangs_in_kill_hangs_alone", "newest", true, POD),
    fault_of("faults::a_runtime_that_hangs_in_delete_hangs_alone", "newest", true, POD),
    fault_of("loggers::a_logger_that_is_never_ready_holds_up_nobody_else", "", false, LOCKED),
    fault_of("faults::a_runtime_that_hangs_in_create_hangs_alone", "", false, LOCKED),
    fault_of("faults::a_runtime_that_hangs_in_exec_hangs_alone", "host", false, LOCKED),
    fault_of("faults::a_runtime_that_hangs_in_exec_hangs_alone", "newest", true, POD),
    fault_of(
        "rootfs::what_another_process_mounts_is_the_same",
        "host",
        false,
        "the shim of 1.6 knows no id maps of root file systems",
    ),
    fault_of("rootfs::a_source_that_does_not_answer_holds_up_nobody_else", "", false, UNLIMITED),
    fault_of("rootfs::a_source_that_is_waited_for_and_not_even_killed", "", false, UNLIMITED),
    fault_of("faults::stderr_may_be_flooded_in_create", "", false, FLOODED),
    fault_of("faults::stderr_may_be_flooded_in_a_create_that_fails", "", false, FLOODED),
    fault_of("wire::without_a_container_it_leaves_by_itself", "", false, UNUSED),
    fault_of("faults::a_create_ends_with_its_daemon", "host", true, UNUSED),
    fault_of(
        "wire::delete_of_nothing_is_fine",
        "host",
        false,
        "delete wants the file `runtime`, which only Create writes: exit status 1",
    ),
    fault_of(
        "wire::a_full_log_holds_nothing_up",
        "",
        false,
        "writes its log to a pipe that blocks: a daemon that hangs freezes the shim",
    ),
    fault_of(
        "wire::a_pause_while_execs_start_is_answered",
        "",
        true,
        "runc exec into a container that is being frozen waits for ever, and the shim with it",
    ),
];

const UNUSED: &str = "a shim whose daemon died, or has no use for it, stays for ever (containerd 6860)";
const NOT_CLOSED: &str = "CloseIO of an exec that is not started yet does nothing: its stdin never ends";
const SOCKET: &str = "delete leaves the socket of a killed shim";
const POD: &str = "the socket of a pod's shim stays when the shim ends";
const UNSENT: &str =
    "a shim that is told to end does not always wait until its last event is sent: no delete";
const LOCKED: &str = "a lock of all containers is held while the runtime or a logger is waited for";
const UNLIMITED: &str =
    "mounts a root file system while it holds a lock of all containers, and waits for it without a limit";
const FLOODED: &str =
    "stderr of create is a pipe that is read only after it: more than 64 KiB hang (containerd 4434)";

const fn fault_of(
    check: &'static str,
    containerd: &'static str,
    sometimes: bool,
    why: &'static str,
) -> Fault {
    Fault { check, containerd, sometimes, why }
}

/// The fault that a check is expected to show on the shim under test.
pub fn fault(check: &str) -> Option<&'static Fault> {
    let own = |fault: &&Fault| {
        fault.check == check && (fault.containerd.is_empty() || fault.containerd == containerd())
    };
    FAULTS.iter().find(own).filter(|_| Shim::under_test() == Shim::Runc)
}

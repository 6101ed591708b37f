//! Another process in a container: the same parts as a birth, in namespaces that are there already. What `create`
//! decided is read from the saved state and never decided again.

use super::net_devices::Moves;
use super::process::{Bounds, Decided, Sync};
use super::steps::{Slot, Steps, c_string};
use super::{Birth, Saved, affinity, namespaces};
use crate::error::Result;
use crate::host::Host;
use crate::spec::Process;
use pintle_init::order::{CHANNEL, Step};

/// What the command line says about an exec.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The container's id.
    pub id: String,
    /// Descriptors from 3 on that the program inherits.
    pub preserve_fds: u32,
    /// Of these, sockets by socket activation.
    pub listen_fds: u32,
    /// The caller stays and shares its standard streams.
    pub foreground: bool,
    /// The root of a container without a mount namespace.
    pub rootfs: std::path::PathBuf,
    /// A pidfd is sent to the caller.
    pub pidfd_socket: bool,
    /// Rows and columns of the caller's terminal.
    pub terminal_size: (u32, u32),
    /// Capabilities added by name, as bits.
    pub more_capabilities: u64,
    /// systemd puts the process into its cgroup.
    pub placed_later: bool,
    /// Who bears it must not sleep: init's first process bears a second one in the cgroup.
    pub by_turns: bool,
}

/// Decides an exec of `process` in the container that `saved` describes.
///
/// # Errors
/// What in `process` can't be done.
pub fn plan(
    saved: &Saved,
    process: &Process,
    host: &Host,
    options: &Options,
    warnings: &mut Vec<String>,
) -> Result<Birth> {
    let has = |kind| saved.namespaces & kind != 0;
    let capabilities = if has(namespaces::USER) { u64::MAX } else { host.capabilities };
    let bounds = Bounds {
        capabilities,
        set_groups: saved.set_groups,
        keep_groups: super::process::keeps_groups(&saved.annotations),
        selinux: host.selinux,
        foreground: options.foreground,
    };
    let mut decided = Decided::new(process, bounds, &listen_environment(options.listen_fds), warnings)?;
    decided.capabilities.add(options.more_capabilities & capabilities);

    let affinity = affinity::Decided::of_exec(process.exec_cpu_affinity.as_ref())?;
    let mut steps = Steps::new();
    if options.by_turns {
        let cgroup = steps.slot(Slot::Cgroup);
        steps.push(&Step::ForkInto { kinds: 0, cgroup });
    }
    steps.push(&Step::Undumpable {});
    if options.placed_later {
        steps.push(&Step::AwaitGo {});
    }
    affinity.run_on(&mut steps);
    if saved.namespaces != 0 {
        let descriptor = steps.slot(Slot::ContainerInit);
        // A created container's init enters its time namespace only with the program.
        if has(namespaces::TIME) {
            let time = steps.slot(Slot::ContainerTime);
            // An ordinary user may enter it as root of its user namespace.
            let deferrable = has(namespaces::USER);
            steps.push(&Step::Join { kinds: namespaces::TIME, descriptor: time, deferrable });
        }
        let kinds = saved.namespaces & !namespaces::TIME;
        if kinds != 0 {
            steps.push(&Step::Join { kinds, descriptor, deferrable: false });
        }
    }
    if has(namespaces::USER) {
        steps.push(&Step::Become { uid: 0, gid: 0, set_groups: saved.set_groups });
    }
    if has(namespaces::PID) {
        steps.push(&Step::Fork { kinds: 0 });
    }
    steps.push(&Step::Session {});
    if saved.chroot {
        steps.push(&Step::EnterRoot { path: &c_string(&options.rootfs.to_string_lossy(), "root.path")? });
    }
    if saved.keyring {
        decided.keyring(&mut steps, &options.id)?;
    }
    if decided.has_label() && !(saved.keyring && decided.has_key_label()) {
        steps.push(&Step::Procfs {});
    }
    decided.console(&mut steps, false, options.terminal_size);
    if options.pidfd_socket {
        let socket = steps.slot(Slot::PidfdSocket);
        steps.push(&Step::SendPidfd { socket, word: b"setns" });
    }
    decided.attributes(&mut steps, saved.personality);
    saved.memory_policy.iter().for_each(|policy| policy.set(&mut steps));
    let filter = saved.seccomp_flags.map(|flags| (saved.seccomp_program.as_slice(), flags));
    let sync = if has(namespaces::USER) { Sync::Parent } else { Sync::Init };
    decided.become_user(&mut steps, sync, CHANNEL, filter);
    steps.push(&Step::Done { waits: false });
    decided.execute(&mut steps);
    Ok(Birth {
        steps,
        namespaces: 0,
        id_maps: None,
        keep_capabilities: false,
        first_private: 3 + options.listen_fds + options.preserve_fds,
        initial_affinity: affinity.initial,
        rlimits: decided.rlimits,
        oom_score_adj: decided.oom_score_adj,
        placed_later: options.placed_later,
        loopback: false,
        net_devices: Moves::default(),
        sync: Some(sync),
        mount_maps: Vec::new(),
        terminal: decided.terminal,
    })
}

/// sd_listen_fds(3)
pub fn listen_environment(listen_fds: u32) -> Vec<String> {
    match listen_fds {
        0 => Vec::new(),
        count => vec![format!("LISTEN_FDS={count}"), "LISTEN_PID=1".to_owned()],
    }
}

//! What the user's program is: its identity, its capabilities, its filter, its place.

use crate::Init;
use crate::channel::Message;
use crate::failure::{Failure, Result};
use crate::order::{Numbers, Step};
use core::ffi::CStr;
use pintle_sys::process::SchedulerAttributes;
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets, Gid, Uid};

/// Room for a memory policy's nodes: more than any machine has.
const NODE_WORDS: usize = 16;
/// Room for the processors that config.json may name: 0 to 1023.
const PROCESSOR_WORDS: usize = 16;

/// A session keyring of the container's own, which others may search as runc lets them.
pub fn keyring(name: &CStr) -> Result {
    /// Search permission for the user, keyctl_setperm(3): KEY_USR_SEARCH.
    const USER_SEARCH: u32 = 0x0008_0000;
    let serial = match pintle_sys::keyring::join_session(name) {
        // A kernel without keys has nothing to protect.
        Err(Errno::NOSYS) => return Ok(()),
        other => other.map_err(Failure::at("join session keyring"))?,
    };
    let mut text = [0u8; 512];
    let text =
        pintle_sys::keyring::describe(serial, &mut text).map_err(Failure::at("describe session keyring"))?;
    let mask = text.split(|byte| *byte == b';').nth(3).and_then(|field| core::str::from_utf8(field).ok());
    let mask = mask.and_then(|hex| u32::from_str_radix(hex, 16).ok());
    let mask = mask.ok_or(Failure::new("describe session keyring", Errno::INVAL))?;
    pintle_sys::keyring::set_permissions(serial, mask | USER_SEARCH)
        .map_err(Failure::at("session keyring permissions"))
}

/// sched_setattr(2)
pub fn scheduler(step: &Step<'_>) -> Result {
    let Step::Scheduler { policy, flags, nice, priority, runtime, deadline, period } = *step else {
        return Err(Failure::new("scheduler", Errno::INVAL));
    };
    let attributes = SchedulerAttributes {
        policy,
        flags,
        nice,
        priority,
        runtime,
        deadline,
        period,
        ..SchedulerAttributes::default()
    };
    pintle_sys::process::set_scheduler(&attributes).map_err(Failure::at("sched_setattr"))
}

/// sched_setaffinity(2); without a number, whatever the caller's caller had is undone: it is not the container's.
pub fn affinity(processors: Numbers<'_>) -> Result {
    if processors.0.is_empty() {
        return match pintle_sys::process::reset_affinity() {
            // A cpuset without a processor that is up: the kernel decides.
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(errno) => Err(Failure::new("sched_setaffinity", errno)),
        };
    }
    let mut mask = [0u64; PROCESSOR_WORDS];
    set_bits(&mut mask, processors).map_err(Failure::at("sched_setaffinity"))?;
    pintle_sys::process::set_affinity(&mask).map_err(Failure::at("sched_setaffinity"))
}

/// set_mempolicy(2)
pub fn memory_policy(mode: u32, nodes: Numbers<'_>) -> Result {
    let mut mask = [0u64; NODE_WORDS];
    let words = set_bits(&mut mask, nodes).map_err(Failure::at("set_mempolicy"))?;
    let mask = mask.get(..words).unwrap_or_default();
    pintle_sys::process::set_memory_policy(mode, mask).map_err(Failure::at("set_mempolicy"))
}

/// Sets the bit of each number; how many words that takes, or EINVAL when they are not there.
fn set_bits(mask: &mut [u64], numbers: Numbers<'_>) -> core::result::Result<usize, Errno> {
    let mut words = 0;
    for number in numbers.iter() {
        let place = number as usize / 64;
        *mask.get_mut(place).ok_or(Errno::INVAL)? |= 1 << (number % 64);
        words = words.max(place + 1);
    }
    Ok(words)
}

/// Drops every capability that is not in `set` from the bounding set.
pub fn bounding(set: u64) -> Result {
    for number in 0..64u32 {
        if set & (1 << number) != 0 {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(
            1 << number,
        )) {
            // Past the kernel's last capability.
            Err(Errno::INVAL) => break,
            other => other.map_err(Failure::at("drop from the bounding set"))?,
        }
    }
    Ok(())
}

/// Groups, group, user; the capabilities survive the change, to be set exactly in the next step.
pub fn identity(uid: u32, gid: u32, groups: Numbers<'_>, set_groups: bool) -> Result {
    rustix::thread::set_keep_capabilities(true).map_err(Failure::at("prctl"))?;
    if set_groups {
        match pintle_sys::process::set_groups(groups.0) {
            // A user namespace joined by path may deny it; then there is no way to drop groups.
            Err(Errno::PERM) if groups.0.is_empty() => {}
            other => other.map_err(Failure::at("setgroups"))?,
        }
    }
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    // As runc: with the capabilities held these set all three ids, and filters know them.
    rustix::thread::set_thread_gid(gid).map_err(Failure::at("setgid"))?;
    rustix::thread::set_thread_uid(uid).map_err(Failure::at("setuid"))?;
    rustix::thread::set_keep_capabilities(false).map_err(Failure::at("prctl"))
}

/// The four sets of the process.
pub fn capabilities(effective: u64, permitted: u64, inheritable: u64, ambient: u64) -> Result {
    let sets = CapabilitySets {
        effective: CapabilitySet::from_bits_retain(effective),
        permitted: CapabilitySet::from_bits_retain(permitted),
        inheritable: CapabilitySet::from_bits_retain(inheritable),
    };
    rustix::thread::set_capabilities(None, sets).map_err(Failure::at("capset"))?;
    rustix::thread::clear_ambient_capability_set().map_err(Failure::at("clear the ambient set"))?;
    for capability in CapabilitySet::from_bits_retain(ambient).iter() {
        rustix::thread::configure_capability_in_ambient_set(capability, true)
            .map_err(Failure::at("raise in the ambient set"))?;
    }
    Ok(())
}

impl Init<'_> {
    /// The user's filter. With a listener, the parent fetches its descriptor: init must not reach the host's sockets.
    pub(crate) fn seccomp(&mut self, program: &[u8], flags: u32, notify: bool) -> Result {
        let flags = if notify { flags | pintle_sys::seccomp::NEW_LISTENER } else { flags };
        let listener = pintle_sys::seccomp::load(program, flags).map_err(Failure::at("seccomp"))?;
        if !notify {
            return Ok(());
        }
        self.exchange_filtered(&Message::SeccompFd { fd: listener })?;
        // As long as anybody but the agent holds it, calls wait for an agent that is gone.
        drop(pintle_sys::fd::adopt(listener));
        Ok(())
    }

    /// The working directory, as root; refused to root (a network file system), the user tries.
    pub(crate) fn cwd(&mut self, path: &CStr) -> Result {
        match rustix::process::chdir(path) {
            Err(Errno::PERM | Errno::ACCESS) => {
                self.cwd_pending = true;
                Ok(())
            }
            other => other.map_err(Failure::at("chdir")).and_then(|()| verify_cwd()),
        }
    }

    /// The user's turn, and in any case a last look: the directory must lie inside the root (CVE-2024-21626).
    pub(crate) fn cwd_again(&mut self, path: &CStr) -> Result {
        if self.cwd_pending {
            rustix::process::chdir(path).map_err(Failure::at("chdir"))?;
        }
        verify_cwd()
    }
}

fn verify_cwd() -> Result {
    let mut buffer = [0u8; 4096];
    match pintle_sys::process::current_directory(&mut buffer) {
        Ok(path) if path.first() == Some(&b'/') => Ok(()),
        Err(Errno::NOENT) | Ok(_) => Err(Failure::new("getcwd", Errno::NOENT)),
        Err(errno) => Err(Failure::new("getcwd", errno)),
    }
}

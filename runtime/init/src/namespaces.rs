//! Namespaces: joining, leaving, and the second process that a pid namespace takes. See setns(2), unshare(2),
//! user_namespaces(7), pid_namespaces(7).

use crate::Init;
use crate::channel::{self, Message};
use crate::failure::{Failure, Result};
use pintle_sys::fork::{CLONE_PARENT, Side, fork, fork_into};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::thread::{CapabilitySet, CapabilitySets, Gid, Uid};

/// CLONE_NEWUSER
const USER: u32 = 0x1000_0000;

impl Init<'_> {
    /// setns(2); what the machine's root may not enter yet is entered as root of the user namespace.
    pub(crate) fn join(&mut self, kinds: u32, descriptor: u32, deferrable: bool) -> Result {
        let fd = self.descriptor(descriptor)?;
        match enter(fd, kinds) {
            Err(Failure { errno: Errno::PERM, .. }) if deferrable => {
                let slot = self.deferred.iter_mut().find(|slot| slot.is_none());
                *slot.ok_or(Failure::new("setns", Errno::INVAL))? = Some((kinds, fd));
                Ok(())
            }
            Ok(()) if kinds & USER != 0 => {
                self.deferred.iter_mut().filter_map(Option::take).try_for_each(|(kinds, fd)| enter(fd, kinds))
            }
            other => other,
        }
    }

    /// Goes on in a child that has the same parent as this process; this one leaves.
    pub(crate) fn fork(&mut self, kinds: u32) -> Result {
        self.go_on_in(|| fork(u64::from(kinds) | CLONE_PARENT))
    }

    /// The same, in the cgroup behind `cgroup`.
    pub(crate) fn fork_into(&mut self, kinds: u32, cgroup: u32) -> Result {
        let cgroup = self.descriptor(cgroup)?;
        self.go_on_in(|| fork_into(u64::from(kinds) | CLONE_PARENT, cgroup))
    }

    fn go_on_in(&self, fork: impl FnOnce() -> core::result::Result<Side, Errno>) -> Result {
        let (announced, announce) =
            rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(Failure::at("pipe2"))?;
        match fork().map_err(Failure::at("clone3"))? {
            // Whatever it says must come after the word of who it is.
            Side::Child => {
                drop(announce);
                let read = rustix::io::retry_on_intr(|| rustix::io::read(&announced, &mut [0; 1]));
                read.map(drop).map_err(Failure::at("read"))
            }
            Side::Parent { pid, pidfd } => {
                let sent = channel::send(self.channel, &Message::Forked { pid }, Some(pidfd.as_fd()));
                // Said by the end of the pipe, too, which comes with this process's own.
                drop(announce);
                // The child tells everything else; without it nobody does, and the parent sees a death.
                pintle_sys::exec::exit(if sent.is_ok() { 0 } else { crate::FAILED })
            }
        }
    }
}

fn enter(fd: BorrowedFd<'_>, kinds: u32) -> Result {
    pintle_sys::namespace::enter(fd, kinds).map_err(Failure::at("setns"))
}

/// unshare(2)
pub fn unshare(kinds: u32) -> Result {
    pintle_sys::namespace::unshare(kinds).map_err(Failure::at("unshare"))
}

/// Root of the user namespace, and nothing that was only kept for the way here: CVE-2022-29162.
pub fn become_root(uid: u32, gid: u32, set_groups: bool) -> Result {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    if set_groups {
        match rustix::thread::set_thread_groups(&[]) {
            // A user namespace joined by path may deny it; then there is no way to drop groups.
            Ok(()) | Err(Errno::PERM) => {}
            Err(errno) => return Err(Failure::new("setgroups", errno)),
        }
    }
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(Failure::at("setresgid"))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(Failure::at("setresuid"))?;
    rustix::thread::clear_ambient_capability_set().map_err(Failure::at("prctl"))?;
    let held = rustix::thread::capabilities(None).map_err(Failure::at("capget"))?;
    let sets = CapabilitySets { inheritable: CapabilitySet::empty(), ..held };
    rustix::thread::set_capabilities(None, sets).map_err(Failure::at("capset"))
}

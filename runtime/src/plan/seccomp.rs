//! From a seccomp profile to a BPF program, as a compiler: `front` reads the profile into rules, `lower` turns
//! them, per architecture, into one verdict for each range of system call numbers, `emit` makes instructions.
//! seccomp(2), and as the reference for every decision libseccomp as runc calls it. Pure: nothing is loaded here.
//!
//! **Who decides.** A rule whose action equals the default is dropped. Of the rest, for one system call: the first
//! rule without conditions, wherever it stands; otherwise the conditional rules in libseccomp's order, which is not
//! the profile's: conditions on a later argument first, then (in)equality before upper before lower bounds, then
//! greater values (smaller upper bounds) first, so the narrower rule comes first. The same conditions with two
//! actions are an error, as in runc. The conditions of a rule must all hold, but where two of them are about the same
//! argument each one is a rule of its own. libseccomp's programs sometimes apply rules whose conditions don't hold
//! (docs/compatibility.md); these don't.
//!
//! **Architectures.** The native one is always there. On 32-bit ABIs only the low half of an argument and of a value
//! counts. i386's `socketcall` and `ipc` also get the rules of the calls behind them; arguments behind a pointer
//! can't be seen, so such a rule loses its condition on argument 0, as with libseccomp (but the version in `ipc`'s
//! high half can't be used to get around a rule). A name of an architecture without a table here is accepted and
//! gives no branch: its calls, like every foreign call, get libseccomp's bad-arch action: the thread is killed, which
//! is never looser. So do x32 calls where the profile doesn't list x32.
//!
//! **ENOSYS.** Unless the default lets calls pass (ALLOW, LOG, TRACE), a number above the newest call that the
//! profile names gets ENOSYS, so that a libc falls back; runc prepends a stub for this, here it is one more range.
//! Two differences: i386's own numbers of socket calls count as named, and 32-bit Arm's private calls don't.
//!
//! **The seccompiler crate** gives the instruction ([`sock_filter`]), the operators, argument widths and actions.
//! Its filter doesn't fit: one match action per filter, no notify, a linear search, foreign architectures always
//! kill the process, and loading always sets no_new_privs. Its syscall tables are private; ours hold the same
//! numbers (a test of the tables' shape stands with them) and three more architectures.

mod arch;
mod emit;
mod front;
mod lower;
mod syscalls;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use seccompiler::sock_filter;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::spec::seccomp::Profile;

pub use arch::{ARCHITECTURES, Arch};
pub use front::{ACTIONS, FLAGS, OPERATORS};

/// What init loads, and what the parent does with the notify fd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The program, at most 4096 instructions.
    pub program: Vec<sock_filter>,
    /// `SECCOMP_FILTER_FLAG_*` for seccomp(2), `NEW_LISTENER` included where there is an agent.
    pub flags: u32,
    /// Whom some rule asks: seccomp(2) returns a notify fd.
    pub agent: Option<Agent>,
}

/// A program on the host that answers system calls, seccomp_unotify(2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Its socket: `linux.seccomp.listenerPath`.
    pub socket: PathBuf,
    /// What it is told beside the container's state: `linux.seccomp.listenerMetadata`.
    pub metadata: String,
}

impl Filter {
    /// The program as the kernel reads it: `struct sock_filter`, 8 bytes each, in native byte order.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.program.len() * 8);
        for instruction in &self.program {
            bytes.extend_from_slice(&instruction.code.to_ne_bytes());
            bytes.extend_from_slice(&[instruction.jt, instruction.jf]);
            bytes.extend_from_slice(&instruction.k.to_ne_bytes());
        }
        bytes
    }
}

/// Compiles a profile for a machine whose own programs are of the architecture `native`.
///
/// `None`: the profile has neither a default action nor rules, which means no seccomp.
pub fn compile(profile: &Profile, native: Arch) -> Result<Option<Filter>> {
    if profile.default_action.is_empty() && profile.syscalls.is_empty() {
        return Ok(None);
    }
    let rules = front::read(profile, native)?;
    let bodies = lower::lower(&rules)?;
    let program = emit::program(&bodies)?;
    let agent = rules.notify.then(|| Agent {
        socket: PathBuf::from(&profile.listener_path),
        metadata: profile.listener_metadata.clone(),
    });
    Ok(Some(Filter { program, flags: rules.flags, agent }))
}

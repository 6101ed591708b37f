//! Attributes of the calling process that rustix has no call for.

use crate::number::{
    GETCWD, IOPRIO_SET, PERSONALITY, PRCTL, PRLIMIT64, SCHED_SETAFFINITY, SCHED_SETATTR, SET_MEMPOLICY,
    SETGROUPS,
};
use crate::raw::syscall;
use core::ffi::CStr;
use rustix::io::Errno;

const PR_SET_NAME: usize = 15;
const IOPRIO_WHO_PROCESS: usize = 1;
const IOPRIO_CLASS_SHIFT: u32 = 13;

/// `struct sched_attr`, sched_setattr(2), with the utilisation clamps (Linux 5.3).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct SchedulerAttributes {
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
    pub util_min: u32,
    pub util_max: u32,
}

/// The name that ps shows for this process (15 bytes are kept), prctl(2).
///
/// # Errors
/// None that the manual page names.
pub fn set_name(name: &CStr) -> Result<(), Errno> {
    // SAFETY: the kernel reads at most 16 bytes and stops at the NUL.
    unsafe { syscall(PRCTL, [PR_SET_NAME, name.as_ptr() as usize, 0, 0, 0, 0]) }?;
    Ok(())
}

/// personality(2); the old value is dropped.
///
/// # Errors
/// EINVAL when the kernel could not change it.
pub fn set_personality(domain: u32) -> Result<(), Errno> {
    // SAFETY: the call takes a number and touches no memory.
    unsafe { syscall(PERSONALITY, [domain as usize, 0, 0, 0, 0, 0]) }?;
    Ok(())
}

/// sched_setattr(2) for the calling thread.
///
/// # Errors
/// Those of sched_setattr(2).
pub fn set_scheduler(attributes: &SchedulerAttributes) -> Result<(), Errno> {
    let complete = SchedulerAttributes { size: size_of::<SchedulerAttributes>() as u32, ..*attributes };
    // SAFETY: the kernel reads `size` bytes of a structure that outlives the call.
    unsafe { syscall(SCHED_SETATTR, [0, &raw const complete as usize, 0, 0, 0, 0]) }?;
    Ok(())
}

/// ioprio_set(2) for the calling process: class 1 (real time), 2 (best effort) or 3 (idle), level 0 to 7.
///
/// # Errors
/// Those of ioprio_set(2).
pub fn set_io_priority(class: u32, level: u32) -> Result<(), Errno> {
    let priority = (class << IOPRIO_CLASS_SHIFT) | level;
    // SAFETY: the call takes numbers and touches no memory.
    unsafe { syscall(IOPRIO_SET, [IOPRIO_WHO_PROCESS, 0, priority as usize, 0, 0, 0]) }?;
    Ok(())
}

/// set_mempolicy(2): `mode` with its flags, and the nodes as a bit mask.
///
/// # Errors
/// Those of set_mempolicy(2).
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> Result<(), Errno> {
    let bits = nodes.len() * u64::BITS as usize;
    // The kernel reads one bit less than it is told; that there are none is said by a null pointer.
    let (mask, count) = if nodes.is_empty() { (0, 0) } else { (nodes.as_ptr() as usize, bits + 1) };
    // SAFETY: the kernel reads `bits` bits of a slice that outlives the call, or nothing.
    unsafe { syscall(SET_MEMPOLICY, [mode as usize, mask, count, 0, 0, 0]) }?;
    Ok(())
}

/// setgroups(2) of the calling thread: `groups` are four bytes each, in the machine's order.
///
/// # Errors
/// Those of setgroups(2).
pub fn set_groups(groups: &[u8]) -> Result<(), Errno> {
    // SAFETY: the kernel copies `len / 4` numbers of four bytes out of a slice that outlives the call.
    unsafe { syscall(SETGROUPS, [groups.len() / 4, groups.as_ptr() as usize, 0, 0, 0, 0]) }?;
    Ok(())
}

/// The working directory as the kernel names it, without the final NUL: `(unreachable)…` when it lies outside the root.
///
/// # Errors
/// ENOENT when it was removed, ERANGE when it does not fit, getcwd(2).
pub fn current_directory(buffer: &mut [u8]) -> Result<&[u8], Errno> {
    // SAFETY: the kernel writes at most `len` bytes to a slice that is ours alone.
    let length = unsafe { syscall(GETCWD, [buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0, 0]) }?;
    buffer.get(..length.saturating_sub(1)).ok_or(Errno::INVAL)
}

/// setrlimit(2): `resource` by its number, limits as `struct rlimit64` has them (all ones: none).
///
/// # Errors
/// Those of setrlimit(2).
pub fn set_limit(resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    set_limit_of(0, resource, soft, hard)
}

/// The same for another process, prlimit(2).
///
/// # Errors
/// Those of prlimit(2).
pub fn set_limit_of(pid: i32, resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limits = [soft, hard];
    // SAFETY: the kernel reads one `struct rlimit64` (two numbers) that outlives the call, and writes none.
    unsafe { syscall(PRLIMIT64, [pid as usize, resource as usize, limits.as_ptr() as usize, 0, 0, 0]) }?;
    Ok(())
}

/// Lets the calling thread run on every processor that its cgroup allows, sched_setaffinity(2): an affinity of the
/// caller's is not the container's.
///
/// # Errors
/// Those of sched_setaffinity(2).
pub fn reset_affinity() -> Result<(), Errno> {
    // As many as a kernel can be built for (8192); it drops those that are not there.
    set_affinity(&[u64::MAX; 128])
}

/// Lets the calling thread run on the processors whose bits are set, sched_setaffinity(2).
///
/// # Errors
/// EINVAL when none of them is up and allowed by the cgroup.
pub fn set_affinity(processors: &[u64]) -> Result<(), Errno> {
    let length = size_of_val(processors);
    // SAFETY: the kernel reads `length` bytes of a slice that outlives the call.
    unsafe { syscall(SCHED_SETAFFINITY, [0, length, processors.as_ptr() as usize, 0, 0, 0]) }?;
    Ok(())
}

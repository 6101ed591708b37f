//! bpf(2), as far as the device rules of a cgroup need it: load a program, attach it to a cgroup, see which ones are
//! attached there. Nothing else of BPF: no maps, no helpers. bpf(2), linux/bpf.h.

use crate::raw::syscall;
use core::ffi::CStr;
use rustix::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use rustix::io::Errno;

/// bpf(2)'s number on x86_64.
use crate::number::BPF;

const PROG_LOAD: usize = 5;
const PROG_ATTACH: usize = 8;
const PROG_DETACH: usize = 9;
const PROG_GET_FD_BY_ID: usize = 13;
const PROG_QUERY: usize = 16;

const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 1 << 1;
const REPLACE: u32 = 1 << 2;

/// `union bpf_attr` for BPF_PROG_LOAD, up to the program's name.
#[repr(C)]
struct Load {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// `union bpf_attr` for BPF_PROG_ATTACH and BPF_PROG_DETACH.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replaced: u32,
}

/// `union bpf_attr` for BPF_PROG_QUERY, whole: kernels since 6.17 write the revision back whatever size is told.
#[repr(C)]
struct Query {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
    program_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// `union bpf_attr` for BPF_PROG_GET_FD_BY_ID.
#[repr(C)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

/// Loads a program that decides about devices: whole eBPF instructions, 8 bytes each. `name` is what bpftool shows:
/// at most 15 letters, digits, underscores.
///
/// # Errors
/// Those of bpf(2); E2BIG for more instructions than the kernel can count.
pub fn load_device_program(instructions: &[u64], license: &CStr, name: &CStr) -> Result<OwnedFd, Errno> {
    let mut attribute = Load {
        kind: PROG_TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(instructions.len()).map_err(|_| Errno::TOOBIG)?,
        instructions: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: [0; 16],
    };
    // The kernel wants a NUL at the end: one byte of the sixteen stays zero.
    for (to, from) in attribute.name.iter_mut().take(15).zip(name.to_bytes()) {
        *to = *from;
    }
    let arguments = [PROG_LOAD, &raw mut attribute as usize, size_of::<Load>(), 0, 0, 0];
    // SAFETY: the kernel copies `instruction_count` instructions of 8 bytes and the license up to its NUL during the
    // call; both outlive it. Without a log buffer it writes nothing back within these sizes.
    let fd = unsafe { syscall(BPF, arguments) }?;
    // SAFETY: the kernel has just made this descriptor for the caller; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Attaches `program` to the cgroup whose directory is open as `cgroup`, beside what is attached there, or in place
/// of `replaced` in one step.
///
/// # Errors
/// Those of bpf(2).
pub fn attach_device_program(
    cgroup: impl AsFd,
    program: impl AsFd,
    replaced: Option<&OwnedFd>,
) -> Result<(), Errno> {
    let attribute = Attach {
        target: number(&cgroup),
        program: number(&program),
        kind: ATTACH_CGROUP_DEVICE,
        flags: if replaced.is_some() { ALLOW_MULTI | REPLACE } else { ALLOW_MULTI },
        replaced: replaced.map_or(0, number),
    };
    let arguments = [PROG_ATTACH, &raw const attribute as usize, size_of::<Attach>(), 0, 0, 0];
    // SAFETY: the kernel only reads the attribute, which lives until the call returns; it takes its own references
    // to the cgroup and the programs.
    unsafe { syscall(BPF, arguments) }.map(|_| ())
}

/// Detaches `program` from the cgroup whose directory is open as `cgroup`.
///
/// # Errors
/// Those of bpf(2).
pub fn detach_device_program(cgroup: impl AsFd, program: impl AsFd) -> Result<(), Errno> {
    let attribute = Attach {
        target: number(&cgroup),
        program: number(&program),
        kind: ATTACH_CGROUP_DEVICE,
        flags: 0,
        replaced: 0,
    };
    let arguments = [PROG_DETACH, &raw const attribute as usize, size_of::<Attach>(), 0, 0, 0];
    // SAFETY: the kernel only reads the attribute, which lives until the call returns.
    unsafe { syscall(BPF, arguments) }.map(|_| ())
}

/// Writes the ids of the device programs attached to this very cgroup into `ids` and says how many there are.
///
/// # Errors
/// Those of bpf(2); ENOSPC when there are more than `ids` has room for (the kernel allows 64).
pub fn attached_device_programs(cgroup: impl AsFd, ids: &mut [u32]) -> Result<usize, Errno> {
    let mut attribute = Query {
        target: number(&cgroup),
        kind: ATTACH_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: u32::try_from(ids.len()).unwrap_or(u32::MAX),
        padding: 0,
        program_attach_flags: 0,
        link_ids: 0,
        link_attach_flags: 0,
        revision: 0,
    };
    let arguments = [PROG_QUERY, &raw mut attribute as usize, size_of::<Query>(), 0, 0, 0];
    // SAFETY: the kernel writes at most `count` ids, for which `ids` has room, and the counters of the attribute;
    // both live until the call returns.
    unsafe { syscall(BPF, arguments) }?;
    Ok(attribute.count as usize)
}

/// Opens the program with this id.
///
/// # Errors
/// Those of bpf(2): ENOENT when it is gone, EPERM or EACCES when it belongs to somebody stronger.
pub fn program_by_id(id: u32) -> Result<OwnedFd, Errno> {
    let attribute = ById { id, next: 0, flags: 0 };
    let arguments = [PROG_GET_FD_BY_ID, &raw const attribute as usize, size_of::<ById>(), 0, 0, 0];
    // SAFETY: the kernel only reads the attribute, which lives until the call returns.
    let fd = unsafe { syscall(BPF, arguments) }?;
    // SAFETY: the kernel has just made this descriptor for the caller; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn number(fd: &impl AsFd) -> u32 {
    fd.as_fd().as_raw_fd() as u32
}

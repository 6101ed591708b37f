//! The birth of init: clone3(2) in the manner of vfork, then execveat(2) of a sealed image.
//!
//! Between the two the child runs in its parent's memory while the parent sleeps. That stretch ([`child`]) touches
//! registers, its own small stack, the arguments it was given and the kernel; nothing else: no allocation, no libc,
//! no panic. It is what makes a birth as cheap from a large process as from a small one.

use crate::number::{CAPGET, CAPSET, CLONE3, CLOSE_RANGE, DUP3, EXECVEAT, EXIT, FCNTL, PRCTL};
use crate::raw::syscall;
use core::arch::asm;
use core::ffi::CStr;
use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use rustix::io::Errno;

/// clone3(2)'s argument, version 2 (CLONE_ARGS_SIZE_VER2, Linux 5.7).
#[repr(C)]
#[derive(Default)]
pub(crate) struct CloneArgs {
    pub(crate) flags: u64,
    pub(crate) pidfd: u64,
    pub(crate) child_tid: u64,
    pub(crate) parent_tid: u64,
    pub(crate) exit_signal: u64,
    pub(crate) stack: u64,
    pub(crate) stack_size: u64,
    pub(crate) tls: u64,
    pub(crate) set_tid: u64,
    pub(crate) set_tid_size: u64,
    pub(crate) cgroup: u64,
}

pub(crate) const CLONE_VM: u64 = 0x100;
pub(crate) const CLONE_PIDFD: u64 = 0x1000;
const CLONE_VFORK: u64 = 0x4000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
pub(crate) const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const SIGCHLD: u64 = 17;
const CLOSE_RANGE_CLOEXEC: usize = 4;
const F_SETFD: usize = 2;
const AT_EMPTY_PATH: usize = 0x1000;
const PR_CAP_AMBIENT: usize = 47;
const PR_CAP_AMBIENT_RAISE: usize = 2;
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// What the child is to become.
pub struct Birth<'a> {
    /// The sealed image to execute.
    pub image: BorrowedFd<'a>,
    /// Its argument list, without the final null.
    pub arguments: &'a [&'a CStr],
    /// Descriptors that the image gets, among those from `first_private` on.
    pub inherit: &'a [RawFd],
    /// From here on it gets no others, whatever the caller's caller left open.
    pub first_private: u32,
    /// What becomes its descriptors 0, 1 and 2; -1 leaves the caller's.
    pub stdio: [RawFd; 3],
    /// CLONE_NEW… flags.
    pub namespaces: u64,
    /// The cgroup to be born in.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Keep all capabilities over the execve. Needed in a new user namespace, whose maps are not written yet: there
    /// the program would lose them all. init clears the inheritable and ambient sets first thing.
    pub keep_capabilities: bool,
}

/// At most this many arguments.
const MAX_ARGUMENTS: usize = 7;
const STACK_SIZE: usize = 32 * 1024;

/// What [`child`] works on, in its parent's memory.
struct Errand<'a> {
    image: RawFd,
    arguments: [*const u8; MAX_ARGUMENTS + 1],
    inherit: &'a [RawFd],
    first_private: u32,
    stdio: [RawFd; 3],
    keep_capabilities: bool,
    /// The errno of a failure, for the parent to read after the child is gone.
    errno: i32,
}

#[repr(C, align(16))]
struct Stack([u8; STACK_SIZE]);

/// Starts the image; returns when it runs, with its process id and pidfd.
///
/// # Errors
/// Those of clone3(2), capset(2) and execveat(2); E2BIG for too many arguments. After an error there is no child,
/// except a zombie that waitid(P_PIDFD) or exit collects.
pub fn spawn(birth: &Birth<'_>) -> Result<(i32, OwnedFd), Errno> {
    let mut errand = Errand {
        image: birth.image.as_raw_fd(),
        arguments: [core::ptr::null(); MAX_ARGUMENTS + 1],
        inherit: birth.inherit,
        first_private: birth.first_private,
        stdio: birth.stdio,
        keep_capabilities: birth.keep_capabilities,
        errno: 0,
    };
    if birth.arguments.len() > MAX_ARGUMENTS {
        return Err(Errno::TOOBIG);
    }
    for (slot, argument) in errand.arguments.iter_mut().zip(birth.arguments) {
        *slot = argument.as_ptr().cast();
    }
    let mut stack = Stack([0; STACK_SIZE]);
    let mut pidfd: i32 = -1;
    let mut flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_CLEAR_SIGHAND | birth.namespaces;
    if birth.cgroup.is_some() {
        flags |= CLONE_INTO_CGROUP;
    }
    let arguments = CloneArgs {
        flags,
        pidfd: &raw mut pidfd as u64,
        exit_signal: SIGCHLD,
        stack: &raw mut stack as u64,
        stack_size: STACK_SIZE as u64,
        cgroup: birth.cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
        ..CloneArgs::default()
    };
    let pid = clone(&arguments, &raw mut errand)?;
    let pidfd = crate::fd::adopt(pidfd);
    // SAFETY: the child has left this memory (vfork ends with execve or exit), so this is the only access; volatile,
    // because the compiler saw nobody write.
    let errno = unsafe { (&raw const errand.errno).read_volatile() };
    if errno != 0 {
        rustix::process::waitid(
            rustix::process::WaitId::PidFd(rustix::fd::AsFd::as_fd(&pidfd)),
            rustix::process::WaitIdOptions::EXITED,
        )?;
        return Err(Errno::from_raw_os_error(errno));
    }
    Ok((pid, pidfd))
}

/// clone3(2) whose child calls [`child`] on the stack in `arguments`.
fn clone(arguments: &CloneArgs, errand: *mut Errand<'_>) -> Result<i32, Errno> {
    let result: isize;
    // SAFETY: the parent's side sees an ordinary system call: rax, rcx and r11 change. The child's side never comes
    // out of the block: on its own stack (aligned to 16, so the call leaves the alignment that functions expect) it
    // calls `child`, which does not return; `errand` outlives it, because CLONE_VFORK keeps the parent in this call
    // until the child has left this memory.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") CLONE3 as isize => result,
            in("rdi") arguments,
            in("rsi") size_of::<CloneArgs>(),
            in("r12") errand,
            in("r13") child as *const (),
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    if result < 0 { Err(Errno::from_raw_os_error(-result as i32)) } else { Ok(result as i32) }
}

/// The child's few lines in its parent's memory.
extern "C" fn child(errand: *mut Errand<'_>) -> ! {
    // SAFETY: the parent made `errand`, sleeps, and touches it again only when this process has left its memory.
    let errand = unsafe { &mut *errand };
    let errno = prepare(errand).and_then(|()| execute(errand)).err().unwrap_or(Errno::INVAL);
    errand.errno = errno.raw_os_error();
    loop {
        // SAFETY: exit(2) ends this process and touches no memory.
        let _never = unsafe { syscall(EXIT, [127, 0, 0, 0, 0, 0]) };
    }
}

#[inline(always)]
fn prepare(errand: &Errand<'_>) -> Result<(), Errno> {
    let range = [errand.first_private as usize, u32::MAX as usize, CLOSE_RANGE_CLOEXEC, 0, 0, 0];
    // SAFETY: close_range takes numbers and touches no memory; the descriptor table is the child's own copy.
    unsafe { syscall(CLOSE_RANGE, range) }?;
    for &fd in errand.inherit {
        // SAFETY: F_SETFD takes numbers and touches no memory; the descriptor table is the child's own copy.
        unsafe { syscall(FCNTL, [fd as usize, F_SETFD, 0, 0, 0, 0]) }?;
    }
    for (number, &fd) in errand.stdio.iter().enumerate() {
        if fd >= 0 {
            // SAFETY: dup3 takes numbers and touches no memory; the descriptor table is the child's own copy.
            unsafe { syscall(DUP3, [fd as usize, number, 0, 0, 0, 0]) }?;
        }
    }
    if errand.keep_capabilities {
        keep_capabilities()?;
    }
    Ok(())
}

#[inline(always)]
fn keep_capabilities() -> Result<(), Errno> {
    let header: [u32; 2] = [CAPABILITY_VERSION_3, 0];
    // effective, permitted, inheritable; low and high words.
    let mut sets: [u32; 6] = [0; 6];
    // SAFETY: version 3 reads 8 bytes of header and writes 24 bytes of sets.
    unsafe { syscall(CAPGET, [&raw const header as usize, &raw mut sets as usize, 0, 0, 0, 0]) }?;
    sets[2] = sets[1];
    sets[5] = sets[4];
    // SAFETY: version 3 reads 8 bytes of header and 24 bytes of sets.
    unsafe { syscall(CAPSET, [&raw const header as usize, &raw const sets as usize, 0, 0, 0, 0]) }?;
    let permitted = u64::from(sets[1]) | u64::from(sets[4]) << 32;
    for capability in 0..64usize {
        if permitted & (1 << capability) != 0 {
            // SAFETY: prctl takes numbers here and touches no memory.
            unsafe { syscall(PRCTL, [PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0, 0]) }?;
        }
    }
    Ok(())
}

#[inline(always)]
fn execute(errand: &Errand<'_>) -> Result<(), Errno> {
    let environment: [*const u8; 1] = [core::ptr::null()];
    let registers = [
        errand.image as usize,
        c"".as_ptr() as usize,
        errand.arguments.as_ptr() as usize,
        environment.as_ptr() as usize,
        AT_EMPTY_PATH,
        0,
    ];
    // SAFETY: the path is an empty C string and both lists end in a null pointer; the kernel only reads them.
    unsafe { syscall(EXECVEAT, registers) }?;
    Ok(())
}

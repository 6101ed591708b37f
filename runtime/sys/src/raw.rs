//! The door to the kernel for calls that rustix lacks. Everything here is x86_64; `number.rs` lists what a port to
//! another architecture has to change.

use core::arch::asm;
use rustix::io::Errno;

/// Issues system call `number` with up to six arguments.
///
/// # Safety
/// The caller guarantees what the manual page of that call asks for: pointers that are valid for the kernel's access
/// and the effect on memory and descriptors that the call has.
#[inline(always)]
pub(crate) unsafe fn syscall(number: usize, arguments: [usize; 6]) -> Result<usize, Errno> {
    let result: isize;
    // SAFETY: the kernel preserves all registers but rax, rcx and r11; the rest is the caller's guarantee.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") arguments[2],
            in("r10") arguments[3],
            in("r8") arguments[4],
            in("r9") arguments[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    // The kernel answers -4095..=-1 for an error, syscall(2).
    if (-4095..0).contains(&result) {
        Err(Errno::from_raw_os_error(-result as i32))
    } else {
        Ok(result as usize)
    }
}

//! What a program without libc needs to exist: `_start` and the four memory functions that compilers call.

use core::arch::{asm, global_asm};
use core::ffi::CStr;

// The kernel enters with rsp at argc, then argv (x86-64 psABI, "Initial Stack and Register State").
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {begin}",
    "ud2",
    begin = sym begin,
);

unsafe extern "Rust" {
    /// The program: gets its second argument, never returns. The image's main.rs defines it.
    safe fn pintle_main(argument: &'static CStr) -> !;
}

extern "C" fn begin(stack: *const usize) -> ! {
    // SAFETY: the kernel put argc at the initial stack pointer.
    let count = unsafe { stack.read() };
    if count < 2 {
        crate::exec::exit(126);
    }
    // SAFETY: argv follows argc, and argv[1] is there because argc is at least 2.
    let argument = unsafe { stack.wrapping_add(2).read() } as *const core::ffi::c_char;
    // SAFETY: the kernel ends every argument with NUL, and its pages stay for the life of the program.
    pintle_main(unsafe { CStr::from_ptr(argument) })
}

/// memcpy(3), by the string instruction that processors since 2013 run at full width.
///
/// # Safety
/// Both regions are `count` bytes and do not overlap.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: the caller's guarantee; the direction flag is clear by the ABI.
    unsafe {
        asm!("rep movsb", inout("rdi") to => _, inout("rsi") from => _, inout("rcx") count => _, options(nostack, preserves_flags));
    }
    to
}

/// memmove(3).
///
/// # Safety
/// Both regions are `count` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= count {
        // SAFETY: `to` is below `from` or past its end, so copying upwards never reads what it wrote.
        unsafe {
            asm!("rep movsb", inout("rdi") to => _, inout("rsi") from => _, inout("rcx") count => _, options(nostack, preserves_flags));
        }
    } else {
        // SAFETY: the regions overlap with `to` above: copied downwards; the direction flag is clear again after.
        unsafe {
            asm!("std", "rep movsb", "cld",
                inout("rdi") to.wrapping_add(count).wrapping_sub(1) => _,
                inout("rsi") from.wrapping_add(count).wrapping_sub(1) => _,
                inout("rcx") count => _, options(nostack));
        }
    }
    to
}

/// memset(3).
///
/// # Safety
/// The region is `count` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memset(to: *mut u8, byte: i32, count: usize) -> *mut u8 {
    // SAFETY: the caller's guarantee; the direction flag is clear by the ABI.
    unsafe {
        asm!("rep stosb", inout("rdi") to => _, in("al") byte as u8, inout("rcx") count => _, options(nostack, preserves_flags));
    }
    to
}

/// memcmp(3).
///
/// # Safety
/// Both regions are `count` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    for n in 0..count {
        // SAFETY: n is below `count`, which both regions have.
        let a = unsafe { left.wrapping_add(n).read_volatile() };
        // SAFETY: as above.
        let b = unsafe { right.wrapping_add(n).read_volatile() };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
    }
    0
}

/// bcmp(3).
///
/// # Safety
/// Both regions are `count` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    // SAFETY: the caller's guarantee is the same.
    unsafe { memcmp(left, right, count) }
}

/// strlen(3).
///
/// # Safety
/// The string ends in NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn strlen(string: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: every byte up to the NUL is readable by the caller's guarantee.
    while unsafe { string.wrapping_add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}

/// Defines the program that `_start` enters.
#[macro_export]
macro_rules! image {
    ($run:path) => {
        #[unsafe(no_mangle)]
        extern "Rust" fn pintle_main(argument: &'static ::core::ffi::CStr) -> ! {
            $run(argument)
        }
    };
}

//! The only unsafe code of pintle: system calls that rustix lacks, one kernel object per file, each behind a safe
//! function. Used by the runtime and, without std and libc, by init.
#![no_std]

pub mod bpf;
mod raw;

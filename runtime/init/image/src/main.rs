//! init's image: the panic handler, and the way from `_start` to the library.
#![no_std]
#![no_main]

use core::ffi::CStr;
use pintle_sys as _;

#[unsafe(no_mangle)]
extern "Rust" fn pintle_main(argument: &'static CStr) -> ! {
    pintle_init::main(argument)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    pintle_sys::exec::exit(254)
}

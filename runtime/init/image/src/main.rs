//! init's image: the panic handler, and the way from `_start` to the library.
#![no_std]
#![no_main]

pintle_sys::image!(pintle_init::main);

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    pintle_sys::exec::exit(254)
}

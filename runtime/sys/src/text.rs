//! This program's own code and constants, as the kernel mapped them from its file.

use rustix::io::Errno;
use rustix::mm::{Advice, madvise};

/// `struct Elf64_Ehdr` as far as it is read here, elf(5).
#[repr(C)]
struct FileHeader {
    identification: [u8; 16],
    kind_machine_version: [u32; 2],
    entry: u64,
    /// Where the program headers begin, from here.
    headers: u64,
    sections: u64,
    flags_sizes: [u16; 4],
    count: u16,
}

/// `struct Elf64_Phdr`, elf(5).
#[repr(C)]
struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    physical: u64,
    in_file: u64,
    length: u64,
    align: u64,
}

const PT_LOAD: u32 = 1;
const PF_W: u32 = 2;
const PAGE: usize = 4096;

unsafe extern "C" {
    /// The beginning of the file, in memory: the linker puts this name there.
    #[link_name = "__ehdr_start"]
    safe static FILE: FileHeader;
}

/// Takes this program's code and constants out of its memory. They stay in the page cache, and what is used again comes
/// back from there, by a fault for 64 KiB or so. Breakpoints of a debugger are lost.
///
/// # Errors
/// Those of madvise(2): EINVAL when the pages are locked.
pub fn release() -> Result<(), Errno> {
    let file = &raw const FILE;
    let first = file.wrapping_byte_add(FILE.headers as usize).cast::<ProgramHeader>();
    // SAFETY: the first segment that is loaded has the file's header and, behind it, the program headers, `count` of
    // them; read-only for the life of the program.
    let headers = unsafe { core::slice::from_raw_parts(first, FILE.count.into()) };
    let mut loaded = headers.iter().filter(|header| header.kind == PT_LOAD);
    // The file's beginning is where its first segment is: so much lies everything beside the addresses that the linker
    // chose.
    let Some(base) = loaded.clone().next().map(|first| file.addr().wrapping_sub(first.address as usize))
    else {
        return Ok(());
    };
    // What is made read-only after relocation lies in a segment that can be written.
    loaded.by_ref().filter(|header| header.flags & PF_W == 0).try_for_each(|header| {
        let begin = base.wrapping_add(header.address as usize);
        // Whole pages, so that no other segment's are among them.
        let (from, to) = (begin.next_multiple_of(PAGE), (begin + header.length as usize) / PAGE * PAGE);
        let start = file.with_addr(from).cast_mut().cast();
        // SAFETY: nothing in this program writes to these pages: they are as in the file, which the kernel keeps from
        // being written to while it is executed, and so they come back as they were.
        unsafe { madvise(start, to.saturating_sub(from), Advice::LinuxDontNeed) }
    })
}

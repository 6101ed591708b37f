//! Inside a container: makes and opens device nodes, and says what the device program let through. The kernel asks it at
//! mknod(2) and open(2); it answers EPERM, and any other failure comes from the device.

use std::path::PathBuf;

use anyhow::Result;
use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mknodat, open};
use rustix::io::Errno;

/// Devices that are asked for. There are no such blocks 8:0 and chars 7:5 and 9:9; no node needs a privilege beside.
pub const DEVICES: [(char, u32, u32); 16] = [
    ('c', 1, 3),
    ('c', 1, 5),
    ('c', 1, 7),
    ('c', 1, 8),
    ('c', 1, 9),
    ('c', 5, 0),
    ('c', 5, 2),
    ('c', 10, 200),
    ('c', 7, 5),
    ('c', 9, 9),
    ('c', 136, 200),
    ('b', 7, 0),
    ('b', 7, 1),
    ('b', 8, 0),
    ('b', 1, 3),
    ('b', 254, 200),
];

/// The node of a device that the host made.
pub fn node(kind: char, major: u32, minor: u32) -> PathBuf {
    format!("/nodes/{kind}-{major}-{minor}").into()
}

/// Prints a word a device: the accesses that are allowed, out of m, r, w and, for both at once, b.
pub fn run() -> Result<()> {
    let mut words = Vec::new();
    for (kind, major, minor) in DEVICES {
        words.push(format!("{kind}{major}:{minor}={}", allowed(kind, major, minor)));
    }
    println!("{}", words.join(" "));
    Ok(())
}

fn allowed(kind: char, major: u32, minor: u32) -> String {
    let mut letters = String::new();
    let file_type = if kind == 'c' { FileType::CharacterDevice } else { FileType::BlockDevice };
    let new = format!("/dev/new-{kind}-{major}-{minor}");
    if mknodat(CWD, &new, file_type, Mode::from_raw_mode(0o600), makedev(major, minor)) != Err(Errno::PERM) {
        letters.push('m');
    }
    let node = node(kind, major, minor);
    for (letter, access) in [('r', OFlags::RDONLY), ('w', OFlags::WRONLY), ('b', OFlags::RDWR)] {
        let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        if !matches!(open(&node, flags, Mode::empty()), Err(Errno::PERM)) {
            letters.push(letter);
        }
    }
    letters
}

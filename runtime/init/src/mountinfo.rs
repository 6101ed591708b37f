//! The mounts of this namespace, read from /proc/self/mountinfo a byte at a time: a line may be longer than any buffer.
//! See proc_pid_mountinfo(5).

use crate::failure::{Failure, Result};
use core::ffi::CStr;
use rustix::fd::BorrowedFd;
use rustix::io::Errno;

/// A mount as its line tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mount<'a> {
    /// What statx(2) calls its mount id.
    pub id: u64,
    /// What of the file system is mounted: `/` is all of it.
    pub root: &'a [u8],
    /// Where.
    pub point: &'a CStr,
    /// The file system's type.
    pub kind: &'a [u8],
}

/// Calls `visit` for every mount whose mount point is short enough for a system call. The list may change meanwhile: the
/// kernel keeps the reader's place in it. Not inlined: its buffers would be on the stack of every step.
#[inline(never)]
pub fn each(list: BorrowedFd<'_>, mut visit: impl FnMut(&Mount<'_>) -> Result) -> Result {
    let mut chunk = [0u8; 4096];
    let mut line = Line::new();
    loop {
        let length = match rustix::io::read(list, &mut chunk) {
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(Failure::new("read mountinfo", errno)),
            Ok(0) => return Ok(()),
            Ok(length) => length,
        };
        for byte in chunk.iter().take(length) {
            line.feed(*byte, &mut visit)?;
        }
    }
}

/// Whether `path` is `directory` or lies below it; both are absolute and clean.
pub fn is_below(path: &[u8], directory: &[u8]) -> bool {
    let directory = directory.strip_suffix(b"/").unwrap_or(directory);
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// A field as it is read. What does not fit is counted and not kept.
struct Text<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Text<N> {
    const EMPTY: Self = Self { bytes: [0; N], length: 0 };

    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.length) {
            *slot = byte;
        }
        self.length = self.length.saturating_add(1);
    }

    fn get(&self) -> Option<&[u8]> {
        self.bytes.get(..self.length)
    }
}

/// Which field a byte belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// One of the first six, of which some are of interest.
    Fixed(u8),
    /// Tags of propagation, up to a `-` alone.
    Tags,
    Kind,
    /// The source and the file system's own options.
    Rest,
}

/// The line being read.
struct Line {
    place: Place,
    id: u64,
    root: Text<2>,
    point: Text<4096>,
    tag: Text<2>,
    kind: Text<16>,
    /// Digits missing of `\040`, and its value so far.
    escape: (u8, u8),
}

impl Line {
    fn new() -> Self {
        Self {
            place: Place::Fixed(0),
            id: 0,
            root: Text::EMPTY,
            point: Text::EMPTY,
            tag: Text::EMPTY,
            kind: Text::EMPTY,
            escape: (0, 0),
        }
    }

    fn feed(&mut self, byte: u8, visit: &mut impl FnMut(&Mount<'_>) -> Result) -> Result {
        match (byte, self.place) {
            (b'\n', _) => {
                // `visit` wants a whole CStr: the NUL comes last.
                self.point.push(0);
                let outcome = self.mount().map_or(Ok(()), |mount| visit(&mount));
                *self = Self::new();
                return outcome;
            }
            (b' ', place) => self.place = self.after(place),
            (digit @ b'0'..=b'9', Place::Fixed(0)) => {
                self.id = self.id.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            }
            (byte, Place::Fixed(3)) => self.root.push(byte),
            (byte, Place::Fixed(4)) => self.unescaped(byte),
            (byte, Place::Tags) => self.tag.push(byte),
            (byte, Place::Kind) => self.kind.push(byte),
            (_, Place::Fixed(_) | Place::Rest) => {}
        }
        Ok(())
    }

    fn after(&mut self, place: Place) -> Place {
        match place {
            Place::Fixed(field @ 0..5) => Place::Fixed(field + 1),
            Place::Tags if self.tag.get() == Some(b"-") => Place::Kind,
            Place::Fixed(_) | Place::Tags => {
                self.tag = Text::EMPTY;
                Place::Tags
            }
            Place::Kind | Place::Rest => Place::Rest,
        }
    }

    /// The mount point, in which the kernel writes space, tab, line feed and backslash as three octal digits.
    fn unescaped(&mut self, byte: u8) {
        match (self.escape, byte) {
            ((0, _), b'\\') => self.escape = (3, 0),
            ((0, _), byte) => self.point.push(byte),
            ((missing, value), digit) => {
                let value = value.wrapping_mul(8).wrapping_add(digit.wrapping_sub(b'0'));
                self.escape = (missing - 1, value);
                if missing == 1 {
                    self.point.push(value);
                }
            }
        }
    }

    /// `None` for a mount point too long for any call. A root or type that did not fit is none that anybody looks for.
    fn mount(&self) -> Option<Mount<'_>> {
        let point = CStr::from_bytes_with_nul(self.point.get()?).ok()?;
        let (root, kind) = (self.root.get().unwrap_or_default(), self.kind.get().unwrap_or_default());
        Some(Mount { id: self.id, root, point, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mounts of `text`, each compared with the next of `expect`.
    fn check(text: &[u8], expect: &[(u64, &[u8], &CStr, &[u8])]) {
        let mut line = Line::new();
        let mut expect = expect.iter();
        let mut visit = |mount: &Mount<'_>| {
            let expected = expect.next().map(|&(id, root, point, kind)| Mount { id, root, point, kind });
            assert_eq!(Some(*mount), expected);
            Ok(())
        };
        for byte in text {
            assert_eq!(line.feed(*byte, &mut visit), Ok(()));
        }
        assert!(expect.next().is_none());
    }

    #[test]
    fn a_line_tells_id_root_mount_point_and_type() {
        check(
            b"22 1 0:21 / /proc rw,nosuid shared:12 master:3 - proc proc rw\n\
              1024 22 0:4 / /a\\040b\\134\\012c/- ro - sysfs none rw - proc\n\
              7 22 0:21 /sys /x rw - proc proc rw\n\
              8 22 0:9 / / rw - a-type-of-a-length-that-is-not-kept x rw\n",
            &[
                (22, b"/", c"/proc", b"proc"),
                (1024, b"/", c"/a b\\\nc/-", b"sysfs"),
                (7, b"", c"/x", b"proc"),
                (8, b"/", c"/", b""),
            ],
        );
    }

    #[test]
    fn of_long_lines_nothing_that_follows_is_lost() {
        let (head, tail): (&[u8], &[u8]) =
            (b"9 1 0:1 / /long", b" rw - proc proc rw\n5 1 0:1 / /p rw - proc p rw\n");
        let mut line = Line::new();
        let mut found = 0;
        for byte in head.iter().chain([b'x'; 20_000].iter()).chain(tail) {
            let visited = line.feed(*byte, &mut |mount| {
                assert_eq!((mount.id, mount.point), (5, c"/p"));
                found += 1;
                Ok(())
            });
            assert_eq!(visited, Ok(()));
        }
        assert_eq!(found, 1);
    }

    #[test]
    fn below_means_at_a_slash() {
        for (path, directory, below) in [
            ("/a/b", "/a", true),
            ("/a", "/a", true),
            ("/ab", "/a", false),
            ("/", "/a", false),
            ("/proc", "/", true),
        ] {
            assert_eq!(is_below(path.as_bytes(), directory.as_bytes()), below, "{path} {directory}");
        }
    }
}

//! The last steps: finding the program, waiting for `start`, becoming it. What can fail after the filter was loaded
//! is told with write(2) only.

use crate::Init;
use crate::failure::{Failure, Result};
use crate::order::Strings;
use core::ffi::CStr;
use pintle_sys::exec::{List, execve};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, accessat, fstat, openat, statat};
use rustix::io::Errno;

/// `HOME=` and a path, found in the container's /etc/passwd.
pub struct Home {
    bytes: [u8; 4096 + 8],
    length: usize,
}

impl Home {
    /// None yet.
    pub fn new() -> Self {
        Self { bytes: [0; 4096 + 8], length: 0 }
    }

    fn set(&mut self, home: &[u8]) {
        self.length = 0;
        // One byte is left for the NUL.
        let room = self.bytes.len() - 1;
        for (slot, byte) in self.bytes.iter_mut().take(room).zip(b"HOME=".iter().chain(home)) {
            *slot = *byte;
            self.length += 1;
        }
        if let Some(end) = self.bytes.get_mut(self.length) {
            *end = 0;
        }
    }

    /// The variable, if it was found.
    pub fn variable(&self) -> Option<&CStr> {
        let with_nul = self.bytes.get(..=self.length).filter(|_| self.length > 0)?;
        CStr::from_bytes_with_nul(with_nul).ok()
    }
}

impl<'a> Init<'a> {
    /// The first candidate that may be executed. A bare name that is nowhere in PATH has no better error than that.
    pub(crate) fn lookup(&mut self, name: &CStr, candidates: Strings<'a>, home_of: i64) -> Result {
        if let Ok(uid) = u32::try_from(home_of) {
            find_home(uid, &mut self.home);
        }
        let named_by_path = name.to_bytes().contains(&b'/');
        let mut last = Failure::new("not in $PATH", Errno::NOENT);
        for candidate in candidates.iter() {
            match executable(candidate) {
                Ok(()) => {
                    self.program = Some(candidate);
                    return Ok(());
                }
                Err(failure) if named_by_path => last = failure,
                Err(_) => {}
            }
        }
        Err(last)
    }

    /// Blocks until `start` opens the other end, and tells it that it did.
    pub(crate) fn await_start(&mut self, fifo: u32) -> Result {
        let writer = self.reopen(self.descriptor(fifo)?.as_raw_fd(), OFlags::WRONLY)?;
        self.proc = None;
        rustix::io::write(&writer, b"0").map_err(Failure::at("write exec fifo"))?;
        // Kept until execve closes it: for `start`, end of file is success, words are a failure.
        self.fifo = Some(writer);
        Ok(())
    }

    /// Becomes the user's program.
    pub(crate) fn execute(&mut self, arguments: Strings<'a>, environment: Strings<'a>) -> Result {
        let program = self.program.ok_or(Failure::new("exec", Errno::NOENT))?;
        self.proc = None;
        let list = |strings: Strings<'a>, more: usize| -> core::result::Result<List<'_>, Errno> {
            let mut list = List::with_capacity(strings.iter().count() + more)?;
            strings.iter().try_for_each(|string| list.push(string))?;
            Ok(list)
        };
        let arguments = list(arguments, 0).map_err(Failure::at("exec"))?;
        let mut environment = list(environment, 1).map_err(Failure::at("exec"))?;
        if let Some(home) = self.home.variable() {
            environment.push(home).map_err(Failure::at("exec"))?;
        }
        Err(Failure::new("exec", execve(program, &arguments, &environment)))
    }
}

/// What execvp(3) wants: a file that is no directory and that the user may execute.
fn executable(path: &CStr) -> Result {
    let mode = statat(CWD, path, AtFlags::empty()).map_err(Failure::at("stat"))?.st_mode;
    if FileType::from_raw_mode(mode).is_dir() {
        return Err(Failure::new("", Errno::ISDIR));
    }
    match accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        // A filter that does not know faccessat2(2): the mode must do, as in runc.
        Err(Errno::NOSYS | Errno::PERM) if mode & 0o111 != 0 => Ok(()),
        Err(Errno::NOSYS | Errno::PERM) => Err(Failure::new("", Errno::ACCESS)),
        other => other.map_err(Failure::at("")),
    }
}

/// The home of `uid` by the container's own /etc/passwd, else `/`. The file is the container's: it may be a fifo, have
/// endless lines or no end. Not inlined: its buffer would be on the stack of every step before, and count against the
/// container's memory limit.
#[inline(never)]
fn find_home(uid: u32, home: &mut Home) {
    /// More than any password file; a longer one is not read to its end.
    const READ_LIMIT: usize = 16 << 20;
    home.set(b"/");
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let Ok(file) = openat(CWD, c"/etc/passwd", flags, Mode::empty()) else { return };
    if !fstat(&file).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file()) {
        return;
    }
    let mut buffer = [0u8; 8192];
    let (mut kept, mut total, mut skipping) = (0, 0, false);
    loop {
        let Some(room) = buffer.get_mut(kept..) else { return };
        let length = match rustix::io::read(&file, room) {
            Ok(length) => length,
            Err(_) => return,
        };
        let filled = kept + length;
        let mut start = 0;
        while let Some(line) = next_line(buffer.get(start..filled).unwrap_or_default(), length == 0) {
            start += line.len() + 1;
            match home_in(line, uid) {
                Some(path) if !skipping => return home.set(path),
                _ => skipping = false,
            }
        }
        total += length;
        if length == 0 || total > READ_LIMIT {
            return;
        }
        let start = start.min(filled);
        kept = filled - start;
        if kept == buffer.len() {
            // A line that does not fit is no entry: drop what is here and what follows up to its end.
            (kept, skipping) = (0, true);
        } else {
            buffer.copy_within(start..filled, 0);
        }
    }
}

/// The first whole line of `bytes`; at the end of the file the last one needs no newline.
fn next_line(bytes: &[u8], at_end: bool) -> Option<&[u8]> {
    match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => bytes.get(..end),
        None if at_end && !bytes.is_empty() => Some(bytes),
        None => None,
    }
}

/// The home of an entry `name:password:uid:gid:comment:home:shell` of this user, passwd(5).
fn home_in(line: &[u8], uid: u32) -> Option<&[u8]> {
    let mut fields = line.split(|byte| *byte == b':');
    let number = core::str::from_utf8(fields.nth(2)?).ok()?;
    if number.parse::<u32>() != Ok(uid) {
        return None;
    }
    fields.nth(2).filter(|home| home.len() < 4096 && !home.contains(&0))
}

/// `exec PROGRAM: why`, on the container's own standard error, as runc's init says it.
pub fn print_failure(program: &CStr, errno: Errno) {
    let stderr = pintle_sys::fd::inherited(2);
    for part in [b"exec ".as_slice(), program.to_bytes(), b": ", describe(errno).as_bytes(), b"\n"] {
        // Nobody is left to tell when even this fails.
        let _unheard = rustix::io::write(stderr, part);
    }
}

/// A sentence on the container's own standard error.
pub fn print(sentence: &[u8]) {
    let stderr = pintle_sys::fd::inherited(2);
    for part in [sentence, b"\n"] {
        // Nobody is left to tell when even this fails.
        let _unheard = rustix::io::write(stderr, part);
    }
}

/// What `start` reads after the byte that releases it: a hook's sentence, or why the program could not be executed.
pub fn report_to_start(fifo: &OwnedFd, program: Option<&CStr>, failure: &Failure, note: &[u8]) {
    let why = describe(failure.errno).as_bytes();
    let words: [&[u8]; 4] = match (program, note.is_empty()) {
        (Some(program), _) => [b"exec ", program.to_bytes(), b": ", why],
        (None, true) => [failure.operation.as_bytes(), b": ", why, b""],
        (None, false) => [note, b"", b"", b""],
    };
    for part in words {
        // `start` may be gone: then nobody waits for these words.
        let _unheard = rustix::io::write(fifo.as_fd(), part);
    }
}

/// The few errors that execve(2) gives, in words.
pub fn describe(errno: Errno) -> &'static str {
    match errno {
        Errno::TOOBIG => "argument list too long",
        Errno::ACCESS => "permission denied",
        Errno::PERM => "operation not permitted",
        Errno::NOENT => "no such file or directory",
        Errno::NOEXEC => "exec format error",
        Errno::NOTDIR => "not a directory",
        Errno::ISDIR => "is a directory",
        Errno::LOOP => "too many levels of symbolic links",
        Errno::NAMETOOLONG => "file name too long",
        Errno::NOMEM => "cannot allocate memory",
        Errno::TXTBSY => "text file busy",
        Errno::INVAL => "invalid argument",
        Errno::AGAIN => "resource temporarily unavailable",
        Errno::LIBBAD => "accessing a corrupted shared library",
        Errno::MFILE => "too many open files",
        Errno::IO => "input/output error",
        Errno::TIMEDOUT => "timed out",
        _ => "failed",
    }
}

/// What commonly ends a process, in words.
pub fn describe_signal(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "hangup",
        2 => "interrupt",
        3 => "quit",
        4 => "illegal instruction",
        6 => "aborted",
        8 => "floating point exception",
        9 => "killed",
        11 => "segmentation fault",
        13 => "broken pipe",
        14 => "alarm clock",
        15 => "terminated",
        31 => "bad system call",
        _ => return None,
    })
}

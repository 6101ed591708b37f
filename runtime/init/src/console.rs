//! The terminal, and who owns the standard streams. The master is opened in the container's own devpts, verified, and
//! sent away; its peer is opened without a path (CVE-2025-52565). See pts(4), ioctl_tty(2).

use crate::Init;
use crate::channel::send_descriptor;
use crate::failure::{Failure, Note, Result};
use crate::mounts::clone_tree;
use crate::order::Step;
use crate::path::{self, Kind};
use pintle_sys::fd::inherited;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{Gid, Mode, OFlags, Uid, fchown, fstat, fstatfs, major, minor};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, OutputModes};

const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;
const PTMX_INODE: u64 = 2;
const NULL_DEVICE: (u32, u32) = (1, 3);

impl<'a> Init<'a> {
    /// A terminal of the container's own becomes its standard streams and controlling terminal.
    pub(crate) fn console(&mut self, step: &Step<'a>) -> Result {
        let Step::Console { socket, mount, keep_newlines, rows, columns, uid } = *step else {
            return Err(Failure::new("console", Errno::INVAL));
        };
        let master = match &self.root {
            Some(root) => path::open(root.as_fd(), c"/dev/pts/ptmx", OFlags::RDWR | OFlags::NOCTTY),
            None => rustix::fs::open(
                c"/dev/pts/ptmx",
                OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
                Mode::empty(),
            ),
        }
        .map_err(Failure::at("open /dev/pts/ptmx"))?;
        verify(master.as_fd())?;
        pintle_sys::tty::unlock(&master).map_err(Failure::at("TIOCSPTLCK"))?;
        let peer = pintle_sys::tty::peer(&master).map_err(Failure::at("TIOCGPTPEER"))?;
        if rows | columns != 0 {
            let size = rustix::termios::Winsize {
                ws_row: rows as u16,
                ws_col: columns as u16,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            rustix::termios::tcsetwinsize(&master, size).map_err(Failure::at("TIOCSWINSZ"))?;
        }
        if keep_newlines {
            let mut attributes = rustix::termios::tcgetattr(&peer).map_err(Failure::at("TCGETS"))?;
            attributes.output_modes -= OutputModes::ONLCR;
            rustix::termios::tcsetattr(&peer, OptionalActions::Now, &attributes)
                .map_err(Failure::at("TCSETS"))?;
        }
        fchown(&peer, Some(Uid::from_raw(uid)), None).map_err(Failure::at("fchown"))?;
        if mount {
            let target = path::open_or_make(self.root_fd()?, c"/dev/console", Kind::File)?;
            self.cover(clone_tree(peer.as_fd(), false)?.as_fd(), target.as_fd())?;
        }
        send_name(self.descriptor(socket)?, &master)?;
        become_terminal(peer.as_fd())
    }

    /// A standard stream that is the host's null device becomes the container's: same device, other file.
    pub(crate) fn reopen_null(&self) -> Result {
        let mut null = None;
        for (number, stream) in [inherited(0), inherited(1), inherited(2)].into_iter().enumerate() {
            let Ok(stat) = fstat(stream) else { continue };
            if !is_null(&stat) {
                continue;
            }
            if null.is_none() {
                let opened = path::open(self.root_fd()?, c"/dev/null", OFlags::RDWR)
                    .map_err(Failure::at("open /dev/null"))?;
                if !is_null(&fstat(&opened).map_err(Failure::at("fstat"))?) {
                    return Err(Failure::new("/dev/null is not the null device", Errno::NODEV));
                }
                null = Some(opened);
            }
            if let Some(null) = &null {
                onto_stdio(null.as_fd(), number)?;
            }
        }
        Ok(())
    }
}

fn is_null(stat: &rustix::fs::Stat) -> bool {
    let character = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_char_device();
    character && (major(stat.st_rdev), minor(stat.st_rdev)) == NULL_DEVICE
}

fn verify(master: BorrowedFd<'_>) -> Result {
    let stat = fstat(master).map_err(Failure::at("fstat"))?;
    let magic = fstatfs(master).map_err(Failure::at("fstatfs"))?.f_type as i64;
    let device = (major(stat.st_rdev), minor(stat.st_rdev));
    if magic == DEVPTS_SUPER_MAGIC && stat.st_ino == PTMX_INODE && device == (5, 2) {
        Ok(())
    } else {
        Err(Failure::new("/dev/pts/ptmx is not a devpts' multiplexer", Errno::NODEV))
    }
}

/// The master, with the peer's name as the packet's text.
fn send_name(socket: BorrowedFd<'_>, master: &impl AsFd) -> Result {
    let mut name = Note::new();
    name.push(b"/dev/pts/");
    name.push_number(u64::from(pintle_sys::tty::number(master).map_err(Failure::at("TIOCGPTN"))?));
    send_descriptor(socket, name.bytes(), master.as_fd()).map_err(Failure::at("send the terminal"))
}

fn become_terminal(peer: BorrowedFd<'_>) -> Result {
    for number in 0..3 {
        onto_stdio(peer, number)?;
    }
    rustix::process::ioctl_tiocsctty(peer).map_err(Failure::at("TIOCSCTTY"))
}

fn onto_stdio(fd: BorrowedFd<'_>, number: usize) -> Result {
    match number {
        0 => rustix::stdio::dup2_stdin(fd),
        1 => rustix::stdio::dup2_stdout(fd),
        _ => rustix::stdio::dup2_stderr(fd),
    }
    .map_err(Failure::at("dup3"))
}

/// The user can open its own standard streams anew. What can't be owned (a socket, somebody else's file in a user
/// namespace, a read-only file system) stays as it is, as with runc.
pub fn own_stdio(uid: u32, only_pipes: bool) -> Result {
    for stream in [inherited(0), inherited(1), inherited(2)] {
        let Ok(stat) = fstat(stream) else { continue };
        let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
        let is_pipe = kind.is_fifo() || kind.is_socket();
        if stat.st_uid == uid || is_null(&stat) || (only_pipes && !is_pipe) {
            continue;
        }
        match fchown(stream, Some(Uid::from_raw(uid)), Some(Gid::from_raw(stat.st_gid))) {
            Ok(()) | Err(Errno::INVAL | Errno::PERM | Errno::ROFS) => {}
            Err(errno) => return Err(Failure::new("fchown of a standard stream", errno)),
        }
    }
    Ok(())
}

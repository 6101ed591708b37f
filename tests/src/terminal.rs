//! Both ends of a terminal: the socket that an engine waits on for the master of a container's pty, and a pty of
//! our own in which a foreground `run` believes to have a person before it.

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A socket for `--console-socket`, `--pidfd-socket` and a seccomp agent.
pub struct ConsoleSocket {
    /// Its path.
    pub path: PathBuf,
    server: JoinHandle<(String, OwnedFd)>,
}

impl ConsoleSocket {
    /// Listens in `dir`, for one container.
    pub fn new(dir: &Path) -> Self {
        let path = dir.join("console.sock");
        let listener = UnixListener::bind(&path).expect("a socket");
        Self { path, server: std::thread::spawn(move || receive(&listener)) }
    }

    /// The name that came with the master, and the master.
    pub fn master(self) -> (String, Pty) {
        let (name, fd) = self.descriptor();
        (name, Pty::of(fd))
    }

    /// Text and descriptor as they came, whatever they are.
    pub fn descriptor(self) -> (String, OwnedFd) {
        self.server.join().expect("the runtime sends a descriptor")
    }
}

fn receive(listener: &UnixListener) -> (String, OwnedFd) {
    let (stream, _) = listener.accept().expect("the runtime connects");
    let mut text = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(&stream, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC)
        .expect("recvmsg");
    let fd = control.drain().find_map(|m| match m {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    (String::from_utf8_lossy(&text[..message.bytes]).into_owned(), fd.expect("a file descriptor"))
}

/// The master of a pty whose output is gathered in the background.
pub struct Pty {
    master: File,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Pty {
    /// A new pty of this size; the second value is its slave.
    pub fn open(rows: u16, columns: u16) -> (Self, OwnedFd) {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a pty");
        grantpt(&master).expect("grantpt");
        unlockpt(&master).expect("unlockpt");
        let name = ptsname(&master, Vec::new()).expect("ptsname");
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
        let slave = rustix::fs::open(name, flags, rustix::fs::Mode::empty()).expect("the slave");
        let pty = Self::of(master);
        pty.resize(rows, columns);
        (pty, slave)
    }

    fn of(master: OwnedFd) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut reader = File::from(master.try_clone().expect("a copy"));
        let sink = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut buffer) {
                sink.lock().expect("no reader panics").extend_from_slice(&buffer[..n]);
            }
        });
        Self { master: File::from(master), seen }
    }

    /// Changes the size.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(self.master.as_fd(), size).expect("a new size");
    }

    /// Types.
    pub fn write(&self, text: &str) {
        (&self.master).write_all(text.as_bytes()).expect("typing");
    }

    /// Everything that appeared so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().expect("no reader panics")).into_owned()
    }

    /// Waits until this text has appeared.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        let what = std::fmt::from_fn(|f| write!(f, "{text:?} on the terminal: {:?}", self.text()));
        crate::wait_for(what, || self.text().contains(text));
    }

    /// The slave as the three streams of a command.
    pub fn streams(slave: &OwnedFd) -> [Stdio; 3] {
        std::array::from_fn(|_| slave.try_clone().expect("a copy").into())
    }
}

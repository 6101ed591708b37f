//! A file system whose server does not answer, as a network's that is down: the harness is the server. fuse(4)

use crate::skip;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

/// Answers nothing, until it is dropped.
pub struct Silent {
    /// Where it is mounted.
    pub dir: PathBuf,
    _device: File,
}

/// How it is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// It does not even read what it is asked: who waits for it can be killed.
    Deaf,
    /// It reads and does not answer: who waits for it can't be killed, either.
    Mute,
}

impl Silent {
    /// Mounts it on a new folder.
    pub fn new(dir: PathBuf, how: Silence) -> Self {
        let device = match OpenOptions::new().read(true).write(true).open("/dev/fuse") {
            Err(error) if error.kind() == ErrorKind::NotFound => skip("there is no /dev/fuse"),
            other => other.expect("/dev/fuse"),
        };
        fs::create_dir(&dir).expect("a folder");
        let data = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        let data = CString::new(data).expect("no NUL");
        mount("silent", &dir, "fuse", MountFlags::empty(), Some(data.as_c_str())).expect("a mount");
        if how == Silence::Mute {
            let mut device = device.try_clone().expect("a copy");
            std::thread::spawn(move || {
                let mut request = vec![0; 1 << 17];
                let length = device.read(&mut request).expect("FUSE_INIT");
                assert!(length >= 16 && request[4] == 26, "FUSE_INIT is the first request");
                // Length, no error, its number; version 7.31, the smallest buffers, nothing special.
                let mut answer = vec![80, 0, 0, 0, 0, 0, 0, 0];
                answer.extend_from_slice(&request[8..16]);
                answer.extend([7u32, 31, 0, 0, 0, 4096].map(u32::to_le_bytes).concat());
                answer.resize(80, 0);
                device.write_all(&answer).expect("an answer");
                while device.read(&mut request).is_ok() {}
            });
        }
        Self { dir, _device: device }
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // Whoever waits for it hears that there is nobody.
        let _ = unmount(&self.dir, UnmountFlags::FORCE);
        let _ = unmount(&self.dir, UnmountFlags::DETACH);
    }
}

//! One thing tried, and what came of it: `{"do": …, "errno": "EROFS"}`, or `"errno": ""` and what was found.

use nix::errno::Errno;
use nix::sched::CloneFlags;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use serde_json::{Value, json};
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

/// Tries one action with its arguments.
pub fn attempt(words: &[String]) -> Value {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (errno, found) = match act(&words) {
        Ok(found) => (String::new(), found),
        Err(e) => (
            e.raw_os_error().map_or_else(|| e.to_string(), |n| format!("{:?}", Errno::from_raw(n))),
            Value::Null,
        ),
    };
    json!({"do": words.join(" "), "errno": errno, "found": found})
}

fn act(words: &[&str]) -> io::Result<Value> {
    let done = Ok(Value::Null);
    match *words {
        ["read", path] => {
            let mut text = Vec::new();
            fs::File::open(path)?.take(1 << 16).read_to_end(&mut text)?;
            Ok(Value::from(String::from_utf8_lossy(&text).into_owned()))
        }
        ["read-one", path] => {
            let mut byte = [0];
            Ok(Value::from(fs::File::open(path)?.read(&mut byte)?))
        }
        ["write", path, text] => {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
            file.write_all(text.as_bytes())?;
            done
        }
        ["open-write", path] => {
            rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
            done
        }
        ["mkdir", path] => fs::create_dir(path).map(|()| Value::Null),
        ["chmod", path, mode] => {
            let mode = u32::from_str_radix(mode, 8).map_err(io::Error::other)?;
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).map(|()| Value::Null)
        }
        ["chown", path, id] => {
            let id = id.parse().map_err(io::Error::other)?;
            std::os::unix::fs::chown(path, Some(id), Some(id)).map(|()| Value::Null)
        }
        ["list", path] => {
            let mut names: Vec<String> =
                fs::read_dir(path)?.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            Ok(json!(names))
        }
        ["stat", path] => Ok(description(&fs::metadata(path)?)),
        ["lstat", path] => Ok(description(&fs::symlink_metadata(path)?)),
        ["readlink", path] => Ok(Value::from(fs::read_link(path)?.to_string_lossy().into_owned())),
        ["mknod", path, major, minor] => {
            let number = |n: &str| n.parse().map_err(io::Error::other);
            let device = rustix::fs::makedev(number(major)?, number(minor)?);
            rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::RUSR | Mode::WUSR, device)?;
            done
        }
        ["tmpfs", path] => {
            rustix::mount::mount("tmpfs", path, "tmpfs", MountFlags::empty(), None)?;
            done
        }
        ["mount", kind, path] => {
            rustix::mount::mount("none", path, kind, MountFlags::empty(), None)?;
            done
        }
        // Tries the rest, separated by `+`, as root of a new user namespace with namespaces of its own.
        ["unshared", ref rest @ ..] => {
            let own = format!("0 {} 1", rustix::process::geteuid().as_raw());
            nix::sched::unshare(
                CloneFlags::CLONE_NEWUSER
                    | CloneFlags::CLONE_NEWNS
                    | CloneFlags::CLONE_NEWPID
                    | CloneFlags::CLONE_NEWNET,
            )?;
            fs::write("/proc/self/uid_map", own)?;
            let rest = rest.iter().map(|word| if *word == "+" { "," } else { word });
            let output = std::process::Command::new("/proc/self/exe").arg("try").args(rest).output()?;
            Ok(serde_json::from_slice(&output.stdout)?)
        }
        ["bind", from, to] => {
            rustix::mount::mount_bind(from, to)?;
            done
        }
        ["remount", path, flags] => {
            rustix::mount::mount_remount(path, MountFlags::BIND | mount_flags(flags), "")?;
            done
        }
        ["private", path] => {
            rustix::mount::mount_change(path, MountPropagationFlags::PRIVATE)?;
            done
        }
        ["umount", path] => {
            rustix::mount::unmount(path, UnmountFlags::DETACH)?;
            done
        }
        ["exec", path] => {
            let status = std::process::Command::new(path).args(["exit", "7"]).status()?;
            Ok(json!(status.code()))
        }
        ["run", path, action] => {
            let output = std::process::Command::new(path).arg(action).output()?;
            Ok(serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
        }
        ["sethostname", name] => {
            rustix::system::sethostname(name.as_bytes())?;
            done
        }
        ["getcwd"] => Ok(Value::from(std::env::current_dir()?.to_string_lossy().into_owned())),
        ["getppid"] => Ok(json!(rustix::process::getppid().map(|p| p.as_raw_nonzero().get()))),
        ["unlink", path] => fs::remove_file(path).map(|()| Value::Null),
        ["unix-socket"] => {
            std::os::unix::net::UnixDatagram::unbound()?;
            done
        }
        ["access", path] => {
            rustix::fs::accessat(CWD, path, rustix::fs::Access::EXISTS, AtFlags::empty())?;
            done
        }
        ["tcp"] => {
            let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
            std::net::TcpStream::connect(listener.local_addr()?)?;
            done
        }
        ["read-fd", fd] => {
            let mut text = String::new();
            fs::File::open(format!("/proc/self/fd/{fd}"))?.read_to_string(&mut text)?;
            Ok(Value::from(text))
        }
        ["truncate", path] => {
            rustix::fs::open(path, OFlags::WRONLY | OFlags::TRUNC | OFlags::CLOEXEC, Mode::empty())?;
            done
        }
        ["seals", path] => {
            let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
            Ok(json!(rustix::fs::fcntl_get_seals(&file)?.bits()))
        }
        // Opens by path first, then again for writing through the descriptor: CVE-2019-5736's way.
        ["reopen-write", path] => {
            let handle = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            let again = format!("/proc/self/fd/{}", handle.as_raw_fd());
            let mut file = OpenOptions::new().write(true).open(again)?;
            file.write_all(b"#!/bin/false\n")?;
            done
        }
        ref unknown => Err(io::Error::other(format!("{unknown:?} is nothing to try"))),
    }
}

/// Tries to change the program of every process in sight, by every way there is: the links of those that it could
/// change, its own not counted.
pub fn overwrite() -> Vec<String> {
    let own = fs::read_link("/proc/self/exe").unwrap_or_default();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().map(|e| e.path().join("exe"));
    let changed = processes.filter(|exe| {
        let Ok(handle) = rustix::fs::open(exe, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) else {
            return false;
        };
        let reopened = format!("/proc/self/fd/{}", handle.as_raw_fd());
        fs::read_link(&reopened).is_ok_and(|link| link != own) && {
            let mut opened = OpenOptions::new().write(true).open(&reopened).into_iter();
            opened.any(|mut file| file.write_all(b"#!").is_ok() || file.set_len(0).is_ok())
                || fs::set_permissions(&reopened, fs::Permissions::from_mode(0o666)).is_ok()
        }
    });
    changed.map(|exe| exe.to_string_lossy().into_owned()).collect()
}

fn description(meta: &fs::Metadata) -> Value {
    let kind = meta.file_type();
    let name = if kind.is_char_device() {
        "char"
    } else if kind.is_block_device() {
        "block"
    } else if kind.is_fifo() {
        "fifo"
    } else if kind.is_symlink() {
        "link"
    } else if kind.is_dir() {
        "folder"
    } else {
        "file"
    };
    let device = format!("{}:{}", rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
    json!({"kind": name, "mode": format!("{:o}", meta.mode() & 0o7777), "uid": meta.uid(), "gid": meta.gid(),
        "device": device, "size": meta.size()})
}

fn mount_flags(words: &str) -> MountFlags {
    words.split(',').fold(MountFlags::empty(), |flags, word| {
        flags
            | match word {
                "ro" => MountFlags::RDONLY,
                "nosuid" => MountFlags::NOSUID,
                "nodev" => MountFlags::NODEV,
                "noexec" => MountFlags::NOEXEC,
                _ => MountFlags::empty(),
            }
    })
}

//! The image's own files, which are hostile: every path is resolved below the root by the kernel, nothing but a regular file
//! of bounded size is read, and nothing can make a read wait. openat2(2), path_resolution(7)

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fchmod, fstat, mkdirat, openat2};
use rustix::io::Errno;

use crate::error::{Context, Error, Result};
use crate::layer::tree::reopen;

/// The largest /etc/passwd or /etc/group that is read, in bytes. Whoever has more users does not have them in files.
pub const LARGEST: u64 = 1 << 20;

/// So often a path is tried again that somebody else keeps changing.
const PATIENCE: usize = 128;

/// openat2(2) below `root`; links, absolute ones too, stay inside.
fn open(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let once = || openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), inside);
    // EAGAIN: somebody renamed something on the way, and the kernel cannot tell whether `..` led out.
    let again = |result: &rustix::io::Result<OwnedFd>| matches!(result, Err(Errno::AGAIN | Errno::INTR));
    (0..PATIENCE).map(|_| once()).find(|result| !again(result)).unwrap_or_else(once)
}

/// What `path` is, links followed below `root`; `None` where nothing is there.
pub fn stat(root: BorrowedFd<'_>, path: &str) -> Result<Option<Stat>> {
    match open(root, path, OFlags::PATH) {
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        file => Ok(Some(fstat(file.context(path)?).context(path)?)),
    }
}

/// The content of a small regular file; `None` where nothing is there.
///
/// Errors where it is anything else: a pipe, a device, a directory, or more than [`LARGEST`].
pub fn read(root: BorrowedFd<'_>, path: &str) -> Result<Option<Vec<u8>>> {
    // Looked at first: to open a device is to use it.
    let seen = match open(root, path, OFlags::PATH) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        file => file.context(path)?,
    };
    let kind = FileType::from_raw_mode(fstat(&seen).context(path)?.st_mode);
    if kind != FileType::RegularFile {
        return Err(Error::invalid(format!("{path}: not a regular file")));
    }
    let file = reopen(seen.as_fd()).context(path)?;
    let mut content = Vec::new();
    File::from(file).take(LARGEST + 1).read_to_end(&mut content).context(path)?;
    if content.len() as u64 > LARGEST {
        return Err(Error::invalid(format!("{path}: larger than {LARGEST} bytes")));
    }
    Ok(Some(content))
}

/// Makes a directory and what is missing above it, mode 0755 and the caller's; one that is there stays as it is.
pub fn make_directory(root: BorrowedFd<'_>, path: &str) -> Result<()> {
    let directory = OFlags::PATH | OFlags::DIRECTORY;
    if open(root, path, directory).is_ok() {
        return Ok(());
    }
    let mut parent = open(root, "/", directory).context("/")?;
    let mut reached = String::new();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        reached = format!("{reached}/{name}");
        let next = match open(root, &reached, directory) {
            Err(Errno::NOENT) => make(root, parent.as_fd(), &reached, name),
            other => other,
        };
        parent = next.context(&reached)?;
    }
    Ok(())
}

/// One directory more. A link whose target is missing is in the way (EEXIST): nobody said where it may lead.
fn make(root: BorrowedFd<'_>, parent: BorrowedFd<'_>, path: &str, name: &str) -> rustix::io::Result<OwnedFd> {
    let mode = Mode::from_raw_mode(0o755);
    mkdirat(parent, name, mode)?;
    let made = open(root, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)?;
    // Whatever the caller's umask.
    fchmod(&made, mode)?;
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::tests::Tree;
    use rustix::fs::{CWD, mkfifoat};
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::time::{Duration, Instant};

    /// Reads `etc/passwd` of such a root, quickly: the content, or the error's words.
    #[track_caller]
    fn check(make: impl FnOnce(&Tree), expect: std::result::Result<Option<&[u8]>, &str>) {
        let tree = Tree::new();
        tree.directory("etc");
        make(&tree);
        let start = Instant::now();
        let found = read(tree.fd(), "etc/passwd").map_err(|e| e.to_string());
        assert!(start.elapsed() < Duration::from_secs(1), "it took {:?}", start.elapsed());
        assert_eq!(found.as_ref().map(Option::as_deref).map_err(String::as_str), expect);
    }

    #[test]
    fn only_a_small_regular_file_inside_is_read() {
        check(|t| t.file("etc/passwd", "root"), Ok(Some(b"root")));
        check(|_| {}, Ok(None));
        let just = "x".repeat(LARGEST as usize);
        check(|t| t.file("etc/passwd", &just), Ok(Some(just.as_bytes())));
        let over = just.clone() + "x";
        check(|t| t.file("etc/passwd", &over), Err("etc/passwd: larger than 1048576 bytes"));
        check(|t| t.directory("etc/passwd"), Err("etc/passwd: not a regular file"));
    }

    /// CVE-2024-9676: what can be read for ever, or never.
    #[test]
    fn cve_2024_9676_a_pipe_a_device_and_a_link_out_end_at_once() {
        let link = |target: &'static str| move |t: &Tree| symlink(target, t.path("etc/passwd")).unwrap();
        let pipe = |t: &Tree| mkfifoat(CWD, t.path("etc/passwd"), Mode::from_raw_mode(0o644)).unwrap();
        check(pipe, Err("etc/passwd: not a regular file"));
        check(link("/dev/zero"), Ok(None));
        check(link("../../../../../../../../../etc/hostname"), Ok(None));
        check(link("passwd"), Err("etc/passwd: too many levels of symbolic links"));
        check(link("/proc/self/fd/0"), Ok(None));
        let sparse = |t: &Tree| {
            t.file("etc/passwd", "");
            File::options().write(true).open(t.path("etc/passwd")).unwrap().set_len(1 << 40).unwrap();
        };
        check(sparse, Err("etc/passwd: larger than 1048576 bytes"));
        if rustix::process::geteuid().is_root() {
            let device = |t: &Tree| {
                let (kind, mode) = (FileType::CharacterDevice, Mode::from_raw_mode(0o666));
                rustix::fs::mknodat(CWD, t.path("etc/passwd"), kind, mode, rustix::fs::makedev(1, 5))
                    .unwrap();
            };
            check(device, Err("etc/passwd: not a regular file"));
        }
    }

    #[test]
    fn links_resolve_inside() {
        let tree = Tree::new();
        tree.directory("nix/store");
        tree.file("nix/store/passwd", "inside");
        tree.directory("etc");
        symlink("/nix/store/passwd", tree.path("etc/passwd")).unwrap();
        assert_eq!(read(tree.fd(), "etc/passwd").unwrap().unwrap(), b"inside");
    }

    #[test]
    fn a_directory_is_made_inside() {
        let tree = Tree::new();
        tree.directory("real");
        symlink("/real", tree.path("link")).unwrap();
        symlink("/nowhere", tree.path("dangling")).unwrap();
        symlink("../../../../..", tree.path("up")).unwrap();
        tree.file("file", "");
        for (path, expect) in [
            ("/", Ok("")),
            ("/a/b/c", Ok("a/b/c")),
            ("/a/b", Ok("a/b")),
            ("/link/x", Ok("real/x")),
            ("/up/made-above", Ok("made-above")),
            ("/../../clamped", Ok("clamped")),
            ("/file", Err("/file: not a directory")),
            ("/file/x", Err("/file: not a directory")),
            ("/dangling/x", Err("/dangling: file exists")),
        ] {
            let made = make_directory(tree.fd(), path).map_err(|e| e.to_string());
            assert_eq!(made, expect.map(drop).map_err(str::to_owned), "{path}");
            if let Ok(inside) = expect {
                assert!(tree.path(inside).is_dir(), "{path}");
            }
        }
        assert_eq!(fs::metadata(tree.path("a/b")).unwrap().permissions().mode() & 0o7777, 0o755);
    }
}

//! Overlays that mount(2) can't make: more layers than a page of options names, layers that are id-mapped first, and mounts that are to be
//! nowhere until they are complete. fsopen(2), and the kernel's overlayfs.rst

use super::Mount;
use super::maps;
use super::options::Parsed;
use pintle::error::{Context as _, Error, Result, context_text};
use rustix::fd::{AsFd, AsRawFd as _, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, move_mount,
};
use std::ffi::CString;
use std::path::Path;

/// What fsconfig(2) takes as a string, in bytes, without its end.
const LONGEST_STRING: usize = 255;
/// The kernel from which on layers are told one by one.
const ONE_BY_ONE: (u32, u32) = (6, 8);

/// A directory under a name that overlayfs takes literally.
struct Layer {
    name: String,
    #[allow(dead_code, reason = "it is open while its name is that of a descriptor")]
    open: Option<OwnedFd>,
}

impl Layer {
    /// By its path, if that is short and without characters that mean something else somewhere.
    fn of(path: &str) -> Result<Self> {
        if path.len() <= LONGEST_STRING && !path.contains([':', '\\', ',']) {
            return Ok(Self { name: path.into(), open: None });
        }
        Self::opened(path)
    }

    fn opened(path: &str) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self::held(openat(CWD, path, flags, Mode::empty()).with_context(|| format!("open {path}"))?))
    }

    fn held(open: OwnedFd) -> Self {
        Self { name: format!("/proc/self/fd/{}", open.as_raw_fd()), open: Some(open) }
    }
}

/// Mounts an overlay, its layers mapped if the options say so. `beside` is a directory that may be made meanwhile.
pub fn attach(one: &Mount, parsed: &Parsed, target: &Path, beside: &Path) -> Result<()> {
    attach_on(one, parsed, target, beside, pintle::host::kernel())
}

pub(super) fn attach_on(
    one: &Mount,
    parsed: &Parsed,
    target: &Path,
    beside: &Path,
    kernel: (u32, u32),
) -> Result<()> {
    let (paths, others) = lowers(&parsed.data)?;
    match &parsed.maps {
        None => stack(one, parsed, &others, Lowers::Paths(&paths), target, kernel),
        Some(both) => maps::with_mapped(&paths, both, beside, |trees| {
            stack(one, parsed, &others, Lowers::Trees(trees), target, kernel)
        }),
    }
}

/// What else overlayfs is told: a word, alone or with a value.
type Other = (String, Option<Layer>);

/// Where the layers are, highest first.
enum Lowers<'a> {
    Paths(&'a [String]),
    Trees(Vec<OwnedFd>),
}

fn stack(
    one: &Mount,
    parsed: &Parsed,
    others: &[Other],
    lowers: Lowers<'_>,
    target: &Path,
    kernel: (u32, u32),
) -> Result<()> {
    let by_one = kernel >= ONE_BY_ONE;
    let layers: Vec<Layer> = match lowers {
        Lowers::Trees(trees) => trees.into_iter().map(Layer::held).collect(),
        // The one string of old is the shorter, the shorter the names are.
        Lowers::Paths(paths) if !by_one => {
            paths.iter().map(|path| Layer::opened(path)).collect::<Result<_>>()?
        }
        Lowers::Paths(paths) => paths.iter().map(|path| Layer::of(path)).collect::<Result<_>>()?,
    };
    match by_one {
        true => by_context(one, parsed, others, &layers, target),
        false => by_string(one, parsed, others, &layers, target),
    }
}

/// One after the other, and the mount is nowhere before all is said.
fn by_context(one: &Mount, parsed: &Parsed, others: &[Other], layers: &[Layer], target: &Path) -> Result<()> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).context("fsopen")?;
    let tell = |done: rustix::io::Result<()>| done.map_err(|errno| Error::new(context_text(&context, errno)));
    tell(fsconfig_set_string(&context, "source", &one.source))?;
    for (flag, word) in [
        (MountFlags::RDONLY, "ro"),
        (MountFlags::SYNCHRONOUS, "sync"),
        (MountFlags::DIRSYNC, "dirsync"),
        (MountFlags::PERMIT_MANDATORY_FILE_LOCKING, "mand"),
    ] {
        if parsed.flags.contains(flag) {
            tell(fsconfig_set_flag(&context, word))?;
        }
    }
    for (key, value) in others {
        match value {
            None => tell(fsconfig_set_flag(&context, key))?,
            Some(value) => tell(fsconfig_set_string(&context, key, &value.name))?,
        }
    }
    for layer in layers {
        tell(fsconfig_set_string(&context, "lowerdir+", &layer.name))?;
    }
    tell(fsconfig_create(&context))?;
    let attributes = MountAttrFlags::from_bits_retain(parsed.attributes().set as u32);
    let made = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).context("fsmount")?;
    move_mount(&made, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).context("move_mount")
}

/// Before Linux 6.8: by mount(2), whose page takes the names of some two hundred descriptors.
fn by_string(one: &Mount, parsed: &Parsed, others: &[Other], layers: &[Layer], target: &Path) -> Result<()> {
    let names: Vec<&str> = layers.iter().map(|layer| layer.name.as_str()).collect();
    let mut words: Vec<String> = others
        .iter()
        .map(|(key, value)| match value {
            None => key.clone(),
            Some(value) if value.name.contains(',') => format!("{key}=\"{}\"", value.name),
            Some(value) => format!("{key}={}", value.name),
        })
        .collect();
    words.push(format!("lowerdir={}", names.join(":")));
    let short = Parsed { data: words, ..parsed.clone() };
    if !short.fits() {
        let count = layers.len();
        return Err(Error::new(format!(
            "{count} layers: so many need Linux {}.{}",
            ONE_BY_ONE.0, ONE_BY_ONE.1
        )));
    }
    let data = CString::new(short.text()).map_err(|_| Error::new("a NUL in the options"))?;
    mount(&one.source, target, "overlay", parsed.flags, Some(data.as_c_str())).map_err(Error::from)
}

/// The layers that the options name, highest first, and everything else that they say.
fn lowers(data: &[String]) -> Result<(Vec<String>, Vec<Other>)> {
    let (mut paths, mut others) = (Vec::new(), Vec::new());
    for option in data {
        match option.split_once('=') {
            Some(("lowerdir", list)) => paths = split(list),
            Some((key @ ("upperdir" | "workdir"), path)) => {
                others.push((key.to_owned(), Some(Layer::of(&split_off(path, "").concat())?)));
            }
            // An administrator may have written several of these into one word.
            _ => others.extend(words(option).into_iter().map(|word| match word.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(Layer { name: value.into(), open: None })),
                None => (word, None),
            })),
        }
    }
    if paths.is_empty() || paths.iter().any(String::is_empty) {
        return Err(Error::new("lowerdir: no list of directories"));
    }
    Ok((paths, others))
}

/// What stands between commas, unless they are in quotation marks, as in `context="u:r:t:s0:c1,c2"`. The marks are for mount(2) only.
fn words(option: &str) -> Vec<String> {
    let (mut words, mut quoted) = (vec![String::new()], false);
    for letter in option.chars() {
        match (letter, words.last_mut()) {
            ('"', _) => quoted = !quoted,
            (',', _) if !quoted => words.push(String::new()),
            (letter, Some(word)) => word.push(letter),
            (_, None) => {}
        }
    }
    words
}

/// What stands between colons; a backslash takes the next character's meaning away.
pub fn split(list: &str) -> Vec<String> {
    split_off(list, ":")
}

fn split_off(list: &str, separators: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut letters = list.chars();
    while let Some(letter) = letters.next() {
        let literal = if letter == '\\' { letters.next() } else { None };
        match literal {
            None if separators.contains(letter) => parts.push(String::new()),
            found => {
                if let Some(part) = parts.last_mut() {
                    part.push(found.unwrap_or(letter));
                }
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn a_label_is_one_word() {
        assert_eq!(words("index=off,xino=off"), ["index=off", "xino=off"]);
        assert_eq!(words("context=\"u:r:t:s0:c1,c2\",ro"), ["context=u:r:t:s0:c1,c2", "ro"]);
    }
}

//! What the options of a mount mean (config.md "Mounts", config-linux.md; mount(8)): attributes of the mount, words for its file
//! system, propagation, and the rest. mount(2), mount_setattr(2)

use crate::bail;
use crate::error::Result;
use pintle_sys::mount as attribute;

const MS_REC: u32 = 0x4000;
/// MS_SLAVE
pub const MS_SLAVE: u32 = 1 << 19;
const S_RW: u64 =
    attribute::RDONLY | attribute::NOSUID | attribute::NODEV | attribute::NOEXEC | attribute::NOSYMFOLLOW;

/// What an option does to the attributes of a mount.
#[derive(Clone, Copy)]
enum Effect {
    Set(u64),
    Clear(u64),
    /// One of the ways to keep access times, which exclude each other.
    Atime(u64),
    /// Not that way, if it was chosen before; of a whole tree, the kernel's usual way.
    NotAtime(u64),
}

/// Options that are attributes; each also with an `r` in front, for the whole tree.
const ATTRIBUTES: [(&str, Effect); 18] = [
    ("ro", Effect::Set(attribute::RDONLY)),
    ("rw", Effect::Clear(attribute::RDONLY)),
    ("nosuid", Effect::Set(attribute::NOSUID)),
    ("suid", Effect::Clear(attribute::NOSUID)),
    ("nodev", Effect::Set(attribute::NODEV)),
    ("dev", Effect::Clear(attribute::NODEV)),
    ("noexec", Effect::Set(attribute::NOEXEC)),
    ("exec", Effect::Clear(attribute::NOEXEC)),
    ("nosymfollow", Effect::Set(attribute::NOSYMFOLLOW)),
    ("symfollow", Effect::Clear(attribute::NOSYMFOLLOW)),
    ("nodiratime", Effect::Set(attribute::NODIRATIME)),
    ("diratime", Effect::Clear(attribute::NODIRATIME)),
    ("noatime", Effect::Atime(attribute::NOATIME)),
    ("strictatime", Effect::Atime(attribute::STRICTATIME)),
    ("relatime", Effect::Atime(attribute::RELATIME)),
    ("atime", Effect::NotAtime(attribute::NOATIME)),
    ("norelatime", Effect::NotAtime(attribute::RELATIME)),
    ("nostrictatime", Effect::NotAtime(attribute::STRICTATIME)),
];

/// What an option of a file system as a whole says to fsconfig(2).
#[derive(Clone, Copy)]
enum Word {
    Said(&'static str),
    /// Not to be said, if it was before.
    Unsaid(&'static str),
    /// mount(2) has a flag for it, which file systems of today leave alone; fsconfig(2) has no word.
    None,
}

/// Options of a file system as a whole: what mount(2) has as flags and fsconfig(2) as words.
const SUPERBLOCK: [(&str, Word); 15] = [
    ("sync", Word::Said("sync")),
    ("async", Word::Unsaid("sync")),
    ("dirsync", Word::Said("dirsync")),
    ("lazytime", Word::Said("lazytime")),
    ("nolazytime", Word::Unsaid("lazytime")),
    ("mand", Word::Said("mand")),
    ("nomand", Word::Unsaid("mand")),
    ("iversion", Word::None),
    ("noiversion", Word::None),
    ("silent", Word::None),
    ("loud", Word::None),
    ("acl", Word::None),
    ("noacl", Word::None),
    ("defaults", Word::None),
    ("remount", Word::None),
];

/// fsconfig(2) takes no longer values.
const LONGEST: usize = 255;
/// Linux from which on overlay takes its layers one by one.
const LAYER_BY_LAYER: (u32, u32) = (6, 8);

/// An option of a file system as fsconfig(2) takes it: itself or, of overlay's long lists of layers, each layer.
///
/// # Errors
/// What is too long for that.
pub(super) fn settings(
    kind: &str,
    option: &str,
    kernel: (u32, u32),
) -> Result<Vec<(String, Option<String>)>> {
    let Some((key, value)) = option.split_once('=') else { return Ok(vec![(option.to_owned(), None)]) };
    let said = |key: &str, value: &str| (key.to_owned(), Some(value.to_owned()));
    let by_layer =
        (kind, key) == ("overlay", "lowerdir") && value.len() > LONGEST && kernel >= LAYER_BY_LAYER;
    if !by_layer {
        check_length(key, value)?;
        return Ok(vec![said(key, value)]);
    }
    let layers = layers(value);
    // A colon more comes before each layer that holds data only, and those come last.
    let (mut settings, mut before) = (Vec::new(), None);
    for (n, layer) in layers.iter().enumerate() {
        let word = match (before, layer.is_empty()) {
            (None | Some("lowerdir+"), false) => "lowerdir+",
            (Some("datadir+" | "lowerdir+"), true) if n + 1 < layers.len() => "",
            (Some(""), false) => "datadir+",
            _ => bail!("{key}: {layer:?} is in no place for a layer"),
        };
        if !word.is_empty() {
            check_length(word, layer)?;
            settings.push(said(word, layer));
        }
        before = Some(word);
    }
    Ok(settings)
}

/// That fsconfig(2) takes it.
///
/// # Errors
/// A value that is too long.
pub(super) fn check_length(key: &str, value: &str) -> Result<()> {
    if value.len() > LONGEST {
        bail!("{key}: {} bytes, of which fsconfig(2) takes {LONGEST} at most", value.len());
    }
    Ok(())
}

/// What stands between colons; a backslash takes the next sign's meaning away.
fn layers(list: &str) -> Vec<String> {
    let (mut layers, mut escaped) = (vec![String::new()], false);
    for c in list.chars() {
        match c {
            '\\' if !escaped => {}
            ':' if !escaped => layers.push(String::new()),
            _ => layers.iter_mut().next_back().expect("one at least").push(c),
        }
        escaped = c == '\\' && !escaped;
    }
    layers
}

/// Every option name that has a meaning here, sorted: for `features`.
pub fn known_options() -> Vec<String> {
    let attributes = ATTRIBUTES.iter().flat_map(|(name, _)| [(*name).to_owned(), format!("r{name}")]);
    let superblock = SUPERBLOCK.iter().map(|(name, _)| (*name).to_owned());
    let propagations = PROPAGATION.iter().map(|(name, _)| (*name).to_owned());
    let others = ["bind", "rbind", "tmpcopyup", "idmap", "ridmap"].map(str::to_owned);
    let mut all: Vec<_> = attributes.chain(superblock).chain(propagations).chain(others).collect();
    all.sort();
    all.dedup();
    all
}

const PROPAGATION: [(&str, u32); 8] = [
    ("private", 1 << 18),
    ("rprivate", 1 << 18 | MS_REC),
    ("slave", MS_SLAVE),
    ("rslave", MS_SLAVE | MS_REC),
    ("shared", 1 << 20),
    ("rshared", 1 << 20 | MS_REC),
    ("unbindable", 1 << 17),
    ("runbindable", 1 << 17 | MS_REC),
];

/// The mount(2) flags of a kind of propagation.
pub fn propagation(name: &str) -> Option<u32> {
    PROPAGATION.iter().find(|(known, _)| *known == name).map(|(_, flags)| *flags)
}

/// The options of one mount, understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    pub bind: bool,
    pub recursive: bool,
    pub copy_up: bool,
    pub id_map: bool,
    pub id_map_recursive: bool,
    pub set: u64,
    pub clear: u64,
    /// A way to keep access times was chosen: it is in `set`.
    pub atime_given: bool,
    /// Something was said of the attributes, be it without effect.
    pub attributes_given: bool,
    pub tree_set: u64,
    pub tree_clear: u64,
    pub propagation: Vec<u32>,
    pub superblock: Vec<&'static str>,
    pub data: Vec<String>,
}

impl Read {
    pub fn new(options: &[String]) -> Self {
        let mut read = Self::default();
        options.iter().for_each(|option| read.option(option));
        read
    }

    fn attribute(&mut self, effect: Effect) {
        self.attributes_given = true;
        match effect {
            Effect::Atime(_) => self.atime_given = true,
            Effect::NotAtime(way) if self.atime_given && self.set & attribute::ATIME == way => {
                self.atime_given = false;
            }
            Effect::NotAtime(_) => return,
            Effect::Set(_) | Effect::Clear(_) => {}
        }
        apply(effect, &mut self.set, &mut self.clear);
    }

    fn tree_attribute(&mut self, effect: Effect) {
        if matches!(effect, Effect::Atime(_) | Effect::NotAtime(_)) {
            self.tree_clear |= attribute::ATIME;
        }
        apply(effect, &mut self.tree_set, &mut self.tree_clear);
    }

    fn option(&mut self, option: &str) {
        let attribute =
            |name: &str| ATTRIBUTES.iter().find(|(known, _)| *known == name).map(|(_, effect)| *effect);
        if let Some(effect) = attribute(option) {
            self.attribute(effect);
        } else if let Some(flags) = propagation(option) {
            self.propagation.push(flags);
        } else if let Some(effect) = option.strip_prefix('r').and_then(attribute) {
            self.tree_attribute(effect);
        } else if let Some((_, word)) = SUPERBLOCK.iter().find(|(known, _)| *known == option) {
            match *word {
                Word::Said(word) if self.superblock.contains(&word) => {}
                Word::Said(word) => self.superblock.push(word),
                Word::Unsaid(word) => self.superblock.retain(|said| *said != word),
                Word::None => {}
            }
        } else {
            match option {
                "bind" => self.bind = true,
                "rbind" => (self.bind, self.recursive) = (true, true),
                "tmpcopyup" => self.copy_up = true,
                "idmap" => self.id_map = true,
                "ridmap" => (self.id_map, self.id_map_recursive) = (true, true),
                "" => {}
                other => self.data.extend(split_data(other)),
            }
        }
    }
}

fn apply(effect: Effect, set: &mut u64, clear: &mut u64) {
    match effect {
        Effect::Set(bits) => (*set, *clear) = (*set | bits, *clear & !bits),
        Effect::Clear(bits) => (*set, *clear) = (*set & !bits, *clear | bits),
        Effect::Atime(value) => *set = *set & !attribute::ATIME | value,
        Effect::NotAtime(_) => *set &= !attribute::ATIME,
    }
}

/// What a bind changes of its source's attributes. Access times are kept unless a way to keep them was chosen; then all
/// of it is as chosen. mount(2) with MS_REMOUNT | MS_BIND
pub(super) struct BindChange {
    /// Cleared where the kernel lets us.
    pub clear: u64,
    /// Cleared, or it is an error.
    pub clear_explicit: u64,
}

impl BindChange {
    pub fn new(read: &Read) -> Self {
        let atime = read.atime_given || read.set & attribute::NODIRATIME != 0;
        let times = if atime { attribute::ATIME | attribute::NODIRATIME & !read.set } else { 0 };
        Self { clear: S_RW & !read.set, clear_explicit: read.clear & S_RW | times }
    }
}

/// One option may hold several for the file system, separated by commas that are neither quoted nor escaped.
fn split_data(option: &str) -> Vec<String> {
    let (mut parts, mut part, mut quoted, mut escaped) = (Vec::new(), String::new(), false, false);
    for c in option.chars() {
        match c {
            _ if escaped => {
                if c != ',' {
                    part.push('\\');
                }
                part.push(c);
            }
            '\\' => {}
            ',' if !quoted => parts.push(std::mem::take(&mut part)),
            '"' => quoted = !quoted,
            _ => part.push(c),
        }
        escaped = c == '\\' && !escaped;
    }
    parts.push(part);
    parts.retain(|part| !part.is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &[&str]) -> Read {
        Read::new(&options.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn access_times_of_a_bind_are_kept_unless_a_way_is_chosen() {
        let times = attribute::ATIME | attribute::NODIRATIME;
        for (options, set, clear) in [
            (&["ro"][..], attribute::RDONLY, 0),
            (&["atime"], 0, 0),
            (&["noatime", "atime"], 0, 0),
            (&["diratime"], 0, 0),
            (&["relatime"], 0, times),
            (&["noatime"], attribute::NOATIME, times),
            (&["nodiratime"], attribute::NODIRATIME, attribute::ATIME),
        ] {
            let read = read(options);
            let change = BindChange::new(&read);
            assert_eq!((read.set, change.clear_explicit), (set, clear), "{options:?}");
            assert!(read.attributes_given, "{options:?}");
        }
    }

    #[test]
    fn the_last_of_contrary_options_wins() {
        assert_eq!(read(&["ro", "rw"]).set, 0);
        assert_eq!(read(&["rw", "ro"]).set, attribute::RDONLY);
        assert_eq!(read(&["noatime", "strictatime"]).set, attribute::STRICTATIME);
        assert_eq!(read(&["rro"]).tree_set, attribute::RDONLY);
        assert_eq!(read(&["sync", "lazytime", "async", "mand", "mand"]).superblock, ["lazytime", "mand"]);
        assert_eq!(read(&["rslave", "shared"]).propagation, [MS_SLAVE | MS_REC, 1 << 20]);
    }

    #[test]
    fn data_is_split_at_commas_that_are_neither_quoted_nor_escaped() {
        for (option, expect) in [
            ("mode=755,size=64k", vec!["mode=755", "size=64k"]),
            ("context=\"a:b:c1,c2\"", vec!["context=a:b:c1,c2"]),
            (r"lowerdir=/a\,b,upperdir=/c", vec!["lowerdir=/a,b", "upperdir=/c"]),
            (r"lowerdir=/a\:b", vec![r"lowerdir=/a\:b"]),
        ] {
            assert_eq!(split_data(option), expect, "{option}");
        }
    }

    #[test]
    fn layers_that_are_too_many_for_one_value_are_said_one_by_one() {
        let long = "x".repeat(200);
        let list = format!("lowerdir=/{long}\\:a:/{long}::/data");
        let said = settings("overlay", &list, (6, 8)).unwrap();
        let said: Vec<_> =
            said.iter().map(|(key, value)| (key.as_str(), value.as_deref().unwrap())).collect();
        let (one, two) = (format!("/{long}:a"), format!("/{long}"));
        assert_eq!(said, [("lowerdir+", &one[..]), ("lowerdir+", &two), ("datadir+", "/data")]);
        for end in ["", ":", "::", "::/data:/files", ":::/data"] {
            let list = format!("lowerdir=/{long}:/{long}{end}");
            assert_eq!(settings("overlay", &list, (6, 8)).is_ok(), end.is_empty(), "{end}");
        }
        for (kind, option, kernel) in [
            ("overlay", list.as_str(), (6, 7)),
            ("overlay", &format!("upperdir=/{long}{long}"), (7, 2)),
            ("tmpfs", &list, (7, 2)),
        ] {
            let error = settings(kind, option, kernel).unwrap_err().to_string();
            assert!(error.contains("dir: 4") && error.ends_with("255 at most"), "{error}");
        }
        assert_eq!(settings("tmpfs", "size=1k", (5, 14)).unwrap(), [("size".into(), Some("1k".into()))]);
    }
}

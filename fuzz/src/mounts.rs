//! Mount options: what a mount of config.json becomes, against a naive reading that asks for each attribute which option
//! spoke of it last, and against the rules of mount_setattr(2). The input is a line each for destination, type and source,
//! then a line per option.

use crate::config::target;
use pintle::host::{Facts, Host};
use pintle::plan::{Options, Plan};
use pintle::spec::{Linux, Mount, Process, Spec};
use pintle_init::order::{Place, Step};
use std::sync::OnceLock;

const RDONLY: u64 = 1;
const ATIME: u64 = 0x70;
const NODIRATIME: u64 = 0x80;
/// Switches: on, off, the attribute.
const SWITCHES: [(&str, &str, u64); 6] = [
    ("ro", "rw", RDONLY),
    ("nosuid", "suid", 2),
    ("nodev", "dev", 4),
    ("noexec", "exec", 8),
    ("nosymfollow", "symfollow", 0x20_0000),
    ("nodiratime", "diratime", NODIRATIME),
];
/// Ways to keep access times: chosen by, given up by, the attribute.
const TIMES: [(&str, &str, u64); 3] =
    [("noatime", "atime", 0x10), ("strictatime", "nostrictatime", 0x20), ("relatime", "norelatime", 0)];
const PROPAGATION: [(&str, u32); 4] =
    [("private", 1 << 18), ("slave", 1 << 19), ("shared", 1 << 20), ("unbindable", 1 << 17)];
/// Of the file system as a whole, with or without a word for it.
const WHOLE: [(&str, bool); 15] = [
    ("sync", true),
    ("async", false),
    ("dirsync", true),
    ("lazytime", true),
    ("nolazytime", false),
    ("mand", true),
    ("nomand", false),
    ("iversion", false),
    ("noiversion", false),
    ("silent", false),
    ("loud", false),
    ("acl", false),
    ("noacl", false),
    ("defaults", false),
    ("remount", false),
];
/// Words that are taken back by another.
const CONTRARY: [(&str, &str); 3] = [("sync", "async"), ("lazytime", "nolazytime"), ("mand", "nomand")];

/// One mount.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n').map(str::to_owned);
    let mut next = || lines.next().unwrap_or_default();
    let mount = Mount {
        destination: Some(next()),
        kind: Some(next()),
        source: Some(next()),
        options: None,
        ..Mount::default()
    };
    let options: Vec<String> = lines.collect();
    let mount = Mount { options: Some(options.clone()), ..mount };
    let Ok(plan) = decide(mount.clone()) else { return };
    let mut seen = 0;
    plan.birth.steps.each(|_, step| seen += usize::from(look(step, &mount, &options)));
    assert_eq!(seen, 1, "the mount is there once");
}

fn decide(mount: Mount) -> pintle::error::Result<Plan> {
    static HOST: OnceLock<Host> = OnceLock::new();
    let host = HOST.get_or_init(|| Host::probe(false).expect("a machine that pintle runs on"));
    let namespaces = serde_json::from_str(r#"[{"type":"mount"},{"type":"pid"}]"#).expect("namespaces");
    let process = Process { args: Some(vec!["/a".into()]), cwd: Some("/".into()), ..Process::default() };
    let spec = Spec {
        mounts: Some(vec![mount]),
        process: Some(process),
        linux: Some(Linux { namespaces: Some(namespaces), ..Linux::default() }),
        ..Spec::default()
    };
    let facts = Facts { rootfs: "/b/rootfs".into(), namespaces: vec![None, None], ..Facts::default() };
    let options = Options {
        id: "fuzz".into(),
        bundle: "/b".into(),
        cgroup_mount: "/sys/fs/cgroup".into(),
        ..Options::default()
    };
    Plan::new(&spec, host, &facts, &options)
}

/// Whether the step is the mount; if so, it has to be as the naive reading has it.
fn look(step: &Step<'_>, mount: &Mount, options: &[String]) -> bool {
    let naive = Naive::new(options);
    let bind = options.iter().any(|option| option == "bind" || option == "rbind");
    let kind = mount.kind.as_deref().unwrap_or_default();
    match step {
        Step::Filesystem { kind: decided, attributes, options: given, copy_up, place, .. } => {
            assert!(!bind && kind == decided.to_string_lossy(), "{step:?}");
            let filled = kind == "tmpfs" || place.target == c"/dev";
            assert_eq!(*attributes, if filled { naive.set & !RDONLY } else { naive.set }, "{step:?}");
            assert_eq!(*copy_up, kind == "tmpfs" && options.iter().any(|option| option == "tmpcopyup"));
            let readonly = *attributes & RDONLY != 0;
            words(given.iter().map(|word| word.to_string_lossy().into_owned()).collect(), readonly, options);
            naive.compare(place);
        }
        Step::Bind { set, clear, clear_explicit, recursive, place, .. } => {
            assert!(bind || kind == "bind", "{step:?}");
            assert_eq!(
                (*set, *recursive),
                (naive.set, options.iter().any(|option| option == "rbind")),
                "{step:?}"
            );
            let cleared = clear | clear_explicit;
            assert_eq!(cleared & set & !ATIME, 0, "{step:?}: set and cleared");
            assert!(
                set & ATIME == 0 || clear_explicit & ATIME == ATIME,
                "{step:?}: EINVAL, mount_setattr(2)"
            );
            for (_, off, bit) in SWITCHES {
                let asked = naive.last(off) && bit != NODIRATIME;
                assert!(!asked || clear_explicit & bit != 0, "{step:?}: {off} is forgotten");
            }
            naive.compare(place);
        }
        Step::CgroupMount { attributes, place, .. } => {
            assert!(!bind && kind == "cgroup", "{step:?}");
            assert_eq!(*attributes, naive.set, "{step:?}");
            naive.compare(place);
        }
        _ => return false,
    }
    true
}

/// What the options say, each question answered by walking all of them.
struct Naive<'a> {
    options: &'a [String],
    set: u64,
}

impl<'a> Naive<'a> {
    fn new(options: &'a [String]) -> Self {
        let mut naive = Self { options, set: 0 };
        let switched = SWITCHES.iter().filter(|(on, ..)| naive.last(on)).map(|(.., bit)| bit);
        naive.set = switched.sum::<u64>() | naive.time().unwrap_or(0);
        naive
    }

    /// Whether this was the last word on its attribute.
    fn last(&self, option: &str) -> bool {
        let (on, off, _) =
            SWITCHES.iter().find(|(on, off, _)| [*on, *off].contains(&option)).expect("a switch");
        let word = self.options.iter().rev().find(|word| *word == on || *word == off);
        word.is_some_and(|word| word == option)
    }

    /// The way that was chosen last and not given up after that; another's giving up changes nothing.
    fn time(&self) -> Option<u64> {
        self.options.iter().fold(None, |chosen, option| {
            let way = TIMES.iter().find(|(by, ..)| by == option);
            let not = TIMES.iter().find(|(_, by, _)| by == option);
            match (way, not) {
                (Some((.., way)), _) => Some(*way),
                (_, Some((.., way))) if chosen == Some(*way) => None,
                _ => chosen,
            }
        })
    }

    /// Where it goes, what its tree becomes, how it propagates.
    fn compare(&self, place: &Place<'_>) {
        target(place);
        let path = place.target.to_string_lossy();
        assert_ne!(path, "/");
        // CVE-2019-16884: nothing over what security depends on.
        let covers = path.strip_prefix("/proc/").is_some_and(|rest| {
            let files = "cpuinfo diskstats meminfo stat swaps uptime loadavg slabinfo sys/kernel/ns_last_pid \
                sys/crypto/fips_enabled";
            !files.split_whitespace().any(|file| file == rest)
        });
        assert!(!covers, "{path} is covered");
        assert_eq!(place.in_proc, path == "/proc" || path.starts_with("/proc/"), "{path}");
        assert!(
            place.tree_set & ATIME == 0 || place.tree_clear & ATIME == ATIME,
            "{place:?}: EINVAL, mount_setattr(2)"
        );
        for (on, off, bit) in SWITCHES {
            let (on, off) = (format!("r{on}"), format!("r{off}"));
            let last = self.options.iter().rev().find(|word| **word == on || **word == off);
            assert_eq!(place.tree_set & bit != 0, last == Some(&on), "{on}");
            assert_eq!(place.tree_clear & bit != 0, last == Some(&off), "{off}");
        }
        let propagation: Vec<u32> = self.options.iter().filter_map(|option| propagation(option)).collect();
        assert_eq!(place.propagation.iter().collect::<Vec<_>>(), propagation);
    }
}

fn propagation(option: &str) -> Option<u32> {
    let named = |name: &str| PROPAGATION.iter().find(|(known, _)| *known == name).map(|(_, flags)| *flags);
    named(option).or_else(|| Some(named(option.strip_prefix('r')?)? | 0x4000))
}

/// An option with a meaning of its own is none for the file system.
fn own(option: &str) -> bool {
    let attribute = |name: &str| {
        let names = SWITCHES.iter().chain(&TIMES).flat_map(|(on, off, _)| [*on, *off]);
        names.into_iter().any(|known| known == name)
    };
    ["", "bind", "rbind", "tmpcopyup", "idmap", "ridmap"].contains(&option)
        || attribute(option)
        || option.strip_prefix('r').is_some_and(attribute)
        || propagation(option).is_some()
        || WHOLE.iter().any(|(name, _)| *name == option)
}

/// What the file system is told: `ro`, the words of the file system as a whole, then its own options, in their order.
fn words(mut given: Vec<String>, readonly: bool, options: &[String]) {
    let mut expect: Vec<String> = readonly.then(|| "ro".to_owned()).into_iter().collect();
    let said = |(n, option): &(usize, &String)| {
        let contrary = CONTRARY.iter().find(|(word, _)| word == option).map(|(_, contrary)| *contrary);
        let takes_back = |other: &&String| Some(other.as_str()) == contrary;
        let after = options.iter().skip(n + 1).any(|later| takes_back(&later));
        let mut before = options.iter().take(*n).rev().take_while(|earlier| !takes_back(earlier));
        WHOLE.contains(&(option, true)) && !after && !before.any(|earlier| earlier == *option)
    };
    expect.extend(options.iter().enumerate().filter(said).map(|(_, option)| option.clone()));
    let head: Vec<String> = given.drain(..expect.len().min(given.len())).collect();
    assert_eq!(head, expect);
    let data: Vec<&String> = options.iter().filter(|option| !own(option)).collect();
    // Quotes, backslashes and what is too long for fsconfig(2) have rules of their own; the rest is split at its commas.
    if data.iter().any(|option| option.contains(['"', '\\']) || option.len() > 255) {
        return;
    }
    let parts = data.iter().flat_map(|option| option.split(',')).filter(|part| !part.is_empty());
    let expect: Vec<String> = parts
        .flat_map(|part| match part.split_once('=') {
            Some((key, value)) => vec![key.to_owned(), format!("={value}")],
            None => vec![part.to_owned()],
        })
        .collect();
    assert_eq!(given, expect);
}

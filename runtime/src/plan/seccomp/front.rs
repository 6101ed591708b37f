//! The front end: the profile's words become rules, and every word that runc would refuse is refused in its
//! sentences.

use seccompiler::{SeccompAction, SeccompCmpOp};

use super::arch::{ARCHITECTURES, Arch};
use super::lower::Condition;
use crate::bail;
use crate::error::{Context, Error, Result};
use crate::spec::seccomp::{Arg, Profile, Syscalls};

/// The actions, sorted.
pub const ACTIONS: &[&str] = &[
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    NOTIFY,
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];
/// The operators, sorted.
pub const OPERATORS: &[&str] = &[
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];
/// The flags and their bits. TSYNC has none here: init has one thread, and runc, too, accepts it and sets nothing.
pub const FLAGS: &[(&str, u32)] = &[
    ("SECCOMP_FILTER_FLAG_TSYNC", 0),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32),
    ("SECCOMP_FILTER_FLAG_LOG", libc::SECCOMP_FILTER_FLAG_LOG as u32),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", WAIT_KILLABLE_RECV),
];

/// Where the rules stand in config.json.
pub(super) const PLACE: &str = "linux.seccomp.syscalls";
const NOTIFY: &str = "SCMP_ACT_NOTIFY";
const WAIT_KILLABLE_RECV: u32 = libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV as u32;

/// A profile understood.
pub(super) struct Rules<'a> {
    /// What the filter returns for a call that no rule decides.
    pub(super) default: u32,
    /// Whether calls newer than the profile get ENOSYS.
    pub(super) enosys: bool,
    /// Whether some rule asks an agent.
    pub(super) notify: bool,
    /// For seccomp(2).
    pub(super) flags: u32,
    /// The native one first, each once.
    pub(super) architectures: Vec<Arch>,
    /// In the profile's order, one per name.
    pub(super) rules: Vec<Rule<'a>>,
    /// Indices of `rules`, sorted by name.
    pub(super) by_name: Vec<usize>,
}

/// One system call, what is returned for it, and when.
pub(super) struct Rule<'a> {
    /// Its place in `linux.seccomp.syscalls`.
    pub(super) at: usize,
    pub(super) name: &'a str,
    pub(super) ret: u32,
    pub(super) when: Vec<Condition>,
}

pub(super) fn read(profile: &Profile, native: Arch) -> Result<Rules<'_>> {
    let default =
        action(&profile.default_action, profile.default_errno_ret).context("linux.seccomp.defaultAction")?;
    let notify = profile.syscalls.iter().any(|rule| rule.action == NOTIFY && !rule.names.is_empty());
    let mut read = Rules {
        default,
        enosys: !matches!(
            profile.default_action.as_str(),
            "SCMP_ACT_ALLOW" | "SCMP_ACT_LOG" | "SCMP_ACT_TRACE"
        ),
        notify,
        flags: flags(profile.flags.as_deref(), notify)?,
        architectures: architectures(&profile.architectures, native)?,
        rules: Vec::new(),
        by_name: Vec::new(),
    };
    for (at, written) in profile.syscalls.iter().enumerate() {
        rule(at, written, &mut read)?;
    }
    read.by_name = (0..read.rules.len()).collect();
    read.by_name.sort_by_key(|index| read.rules[*index].name);
    if profile.default_action == NOTIFY {
        bail!("linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be used as default action");
    }
    if notify && profile.listener_path.is_empty() {
        bail!("linux.seccomp: seccomp listenerPath is not set");
    }
    Ok(read)
}

/// One entry of `syscalls` into rules, one per name.
fn rule<'a>(at: usize, written: &'a Syscalls, read: &mut Rules<'a>) -> Result<()> {
    let ret = action(&written.action, written.errno_ret).with_context(|| format!("{PLACE}[{at}].action"))?;
    let mut when = Vec::with_capacity(written.args.len());
    for (n, arg) in written.args.iter().enumerate() {
        when.push(condition(arg).with_context(|| format!("{PLACE}[{at}].args[{n}]"))?);
    }
    for (n, name) in written.names.iter().enumerate() {
        if name.is_empty() {
            bail!("{PLACE}[{at}].names[{n}]: empty string is not a valid syscall");
        }
        // The parent learns of the notify fd by a write of init, after the filter is in force.
        if written.action == NOTIFY && name == "write" {
            bail!("{PLACE}[{at}].names[{n}]: SCMP_ACT_NOTIFY cannot be used for the write syscall");
        }
        read.rules.push(Rule { at, name, ret, when: when.clone() });
    }
    Ok(())
}

/// What the filter returns for an action. As with runc, an errno has 16 bits and is EPERM where none is given.
fn action(name: &str, errno: Option<u64>) -> Result<u32> {
    let data = errno.map_or(libc::EPERM as u32, |errno| (errno & 0xffff) as u32);
    let action = match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => SeccompAction::KillThread,
        "SCMP_ACT_KILL_PROCESS" => SeccompAction::KillProcess,
        "SCMP_ACT_TRAP" => SeccompAction::Trap,
        "SCMP_ACT_ERRNO" => SeccompAction::Errno(data),
        "SCMP_ACT_TRACE" => SeccompAction::Trace(data),
        "SCMP_ACT_ALLOW" => SeccompAction::Allow,
        "SCMP_ACT_LOG" => SeccompAction::Log,
        NOTIFY => return Ok(libc::SECCOMP_RET_USER_NOTIF),
        _ => bail!("string {name} is not a valid action for seccomp"),
    };
    Ok(action.into())
}

fn condition(arg: &Arg) -> Result<Condition> {
    let op = match arg.op.as_str() {
        "SCMP_CMP_NE" => SeccompCmpOp::Ne,
        "SCMP_CMP_LT" => SeccompCmpOp::Lt,
        "SCMP_CMP_LE" => SeccompCmpOp::Le,
        "SCMP_CMP_EQ" => SeccompCmpOp::Eq,
        "SCMP_CMP_GE" => SeccompCmpOp::Ge,
        "SCMP_CMP_GT" => SeccompCmpOp::Gt,
        "SCMP_CMP_MASKED_EQ" => SeccompCmpOp::MaskedEq(arg.value),
        other => bail!("string {other} is not a valid operator for seccomp"),
    };
    let value = if matches!(op, SeccompCmpOp::MaskedEq(_)) { arg.value_two } else { arg.value };
    match u8::try_from(arg.index) {
        Ok(index @ 0..=5) => Ok(Condition { arg: index, op, value }),
        _ => bail!("syscalls only have up to 6 arguments ({} given)", arg.index.saturating_add(1)),
    }
}

fn architectures(names: &[String], native: Arch) -> Result<Vec<Arch>> {
    let mut found = vec![native];
    for (n, name) in names.iter().enumerate() {
        match ARCHITECTURES.iter().find(|(known, _)| known == name) {
            Some((_, Some(arch))) if !found.contains(arch) => found.push(*arch),
            Some(_) => {}
            None => bail!("linux.seccomp.architectures[{n}]: string {name} is not a valid arch for seccomp"),
        }
    }
    Ok(found)
}

/// No list at all means SPEC_ALLOW, as in runc; an empty list means no flags.
fn flags(names: Option<&[String]>, notify: bool) -> Result<u32> {
    let mut bits = if notify { libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32 } else { 0 };
    let Some(names) = names else {
        return Ok(bits | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32);
    };
    for (n, name) in names.iter().enumerate() {
        let known = FLAGS.iter().find(|(known, _)| known == name);
        let unknown =
            || Error::new(format!("linux.seccomp.flags[{n}]: seccomp flag {name} is not known to runc"));
        bits |= known.ok_or_else(unknown)?.1;
    }
    // The kernel refuses this bit without a listener, where it would mean nothing.
    Ok(if notify { bits } else { bits & !WAIT_KILLABLE_RECV })
}

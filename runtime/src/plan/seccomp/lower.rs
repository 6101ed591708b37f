//! Lowering: rules become, for each audit architecture, a sorted list of ranges of system call numbers with one
//! verdict each. x32, ENOSYS and calls that no rule names are nothing special here: they are ranges too.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;

use seccompiler::{SeccompCmpArgLen, SeccompCmpOp};

use super::arch::{ARM_PRIVATE, Arch};
use super::front::{PLACE, Rule, Rules};
use crate::bail;
use crate::error::Result;

/// libseccomp's answer to a foreign architecture.
pub(super) const BAD_ARCH: u32 = libc::SECCOMP_RET_KILL_THREAD;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
/// No number of a call has it.
const BIT_31: u64 = 1 << 31;

/// A test of one argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// 0 to 5.
    pub(super) arg: u8,
    pub(super) op: SeccompCmpOp,
    /// The right-hand side.
    pub(super) value: u64,
}

/// What is returned when all conditions hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Clause {
    pub(super) when: Vec<Condition>,
    pub(super) ret: u32,
}

/// What is decided for a system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Return(u32),
    /// The first clause that holds, or else.
    Choose {
        clauses: Vec<Clause>,
        width: SeccompCmpArgLen,
        otherwise: u32,
    },
}

/// One audit architecture: each verdict holds from its number to the next one's; the first number is 0.
pub(super) struct Body {
    pub(super) audit: u32,
    pub(super) ranges: Vec<(u32, Verdict)>,
}

/// What one rule says about one number.
struct Placed {
    number: u32,
    /// The entry of `syscalls`.
    at: usize,
    clause: Clause,
}

/// The native architecture's body comes first.
pub(super) fn lower(rules: &Rules) -> Result<Vec<Body>> {
    let mut bodies: Vec<Body> = Vec::new();
    for arch in &rules.architectures {
        let audit = arch.audit();
        if bodies.iter().any(|body| body.audit == audit) {
            continue;
        }
        let sharing: Vec<Arch> = rules.architectures.iter().copied().filter(|a| a.audit() == audit).collect();
        bodies.push(Body { audit, ranges: ranges(&sharing, rules)? });
    }
    Ok(bodies)
}

/// All numbers of one audit architecture.
fn ranges(sharing: &[Arch], rules: &Rules) -> Result<Vec<(u32, Verdict)>> {
    let mut background = BTreeMap::from([(0_u64, BAD_ARCH)]);
    if !sharing.contains(&Arch::X32) && sharing.contains(&Arch::X86_64) {
        background.insert(Arch::X32.first(), BAD_ARCH);
        // With -1 a tracer skips a call: that number isn't x32's.
        background.insert(u32::MAX.into(), rules.default);
    }
    let mut points = Vec::new();
    let mut impossible = false;
    for arch in sharing {
        let (placed, newest) = resolve(*arch, rules);
        background.insert(arch.first(), rules.default);
        // runc, too, takes number 0 for none.
        if rules.enosys && newest > 0 {
            background.insert(u64::from(newest) + 1, ENOSYS);
            impossible |= *arch == Arch::X86_64;
        }
        if *arch == Arch::Arm {
            background.insert(ARM_PRIVATE.into(), rules.default);
        }
        for clauses in placed.chunk_by(|a, b| a.number == b.number) {
            points.push((clauses[0].number, verdict(clauses, *arch, rules.default)?));
        }
    }
    if impossible {
        // runc tells x32 by its bit: where that isn't set, no number is older than x86_64's newest.
        let x32 = background.range(..BIT_31).next_back().map_or(BAD_ARCH, |(_, ret)| *ret);
        background.insert(BIT_31, ENOSYS);
        background.insert(BIT_31 + Arch::X32.first(), x32);
    }
    points.sort_unstable_by_key(|(number, _)| *number);
    Ok(overlay(&background, points))
}

/// Everything the rules say, sorted by number, then in the profile's order; and the newest call that the profile
/// names, whatever it says about it.
fn resolve(arch: Arch, rules: &Rules) -> (Vec<Placed>, u32) {
    let mut placed = Vec::with_capacity(rules.rules.len());
    let mut newest = 0;
    for (rule, number) in rules.rules.iter().zip(numbers(arch, rules)) {
        if let Some(ordinary) = number.filter(|number| arch != Arch::Arm || *number < ARM_PRIVATE) {
            newest = newest.max(ordinary);
        }
        if rule.ret != rules.default {
            place(rule, arch, number, &mut placed);
        }
    }
    placed.sort_by_key(|placed| placed.number);
    (placed, newest)
}

/// Each rule's number. Profiles have hundreds of names: rules and table are walked once, side by side.
fn numbers(arch: Arch, rules: &Rules) -> Vec<Option<u32>> {
    let mut numbers = vec![None; rules.rules.len()];
    let mut table = arch.table().iter().peekable();
    for index in &rules.by_name {
        let name = rules.rules[*index].name;
        while table.next_if(|(known, _)| *known < name).is_some() {}
        numbers[*index] = table.peek().filter(|(known, _)| *known == name).map(|(_, number)| *number);
    }
    numbers
}

/// One rule's clauses, for the call itself and for its number behind a multiplexer.
fn place(rule: &Rule, arch: Arch, number: Option<u32>, placed: &mut Vec<Placed>) {
    let mut add = |number, when| {
        let clause = Clause { when: normal(when, &arch.width()), ret: rule.ret };
        placed.push(Placed { number, at: rule.at, clause });
    };
    let multiplexed = arch.multiplexed(rule.name);
    for when in alternatives(&rule.when) {
        if let Some((multiplexer, call)) = &multiplexed {
            let others = when.iter().filter(|condition| condition.arg != 0);
            add(*multiplexer, std::iter::once(call).chain(others).cloned().collect());
        }
        if let Some(number) = number {
            add(number, when.to_vec());
        }
    }
}

/// Several conditions on one argument: then every condition of the rule is a rule of its own.
fn alternatives(when: &[Condition]) -> impl Iterator<Item = &[Condition]> {
    let mut seen = [false; 6];
    let twice = when.iter().any(|c| std::mem::replace(&mut seen[usize::from(c.arg)], true));
    let size = if twice { 1 } else { when.len() };
    let unconditional = when.is_empty().then_some(when);
    unconditional.into_iter().chain(when.chunks(size.max(1)))
}

/// Conditions in the order of their arguments, cut to the width, without those that always hold.
fn normal(mut when: Vec<Condition>, width: &SeccompCmpArgLen) -> Vec<Condition> {
    let seen = if *width == SeccompCmpArgLen::Dword { u64::from(u32::MAX) } else { u64::MAX };
    for condition in &mut when {
        condition.value &= seen;
        if let SeccompCmpOp::MaskedEq(mask) = &mut condition.op {
            *mask &= seen;
            condition.value &= *mask;
        }
    }
    when.retain(|condition| condition.op != SeccompCmpOp::MaskedEq(0));
    when.sort_by_key(|condition| condition.arg);
    when
}

/// One verdict out of all clauses for a number; the module head of `plan::seccomp` has the order.
fn verdict(placed: &[Placed], arch: Arch, default: u32) -> Result<Verdict> {
    if let Some(first) = placed.iter().find(|placed| placed.clause.when.is_empty()) {
        return Ok(Verdict::Return(first.clause.ret));
    }
    let mut sorted: Vec<&Placed> = placed.iter().collect();
    sorted.sort_by_cached_key(|placed| placed.clause.when.iter().map(precedence).collect::<Vec<_>>());
    let mut kept: Vec<&Placed> = Vec::new();
    for next in sorted {
        match kept.iter().find(|earlier| earlier.clause.when == next.clause.when) {
            None => kept.push(next),
            Some(earlier) if earlier.clause.ret == next.clause.ret => {}
            Some(Placed { at, .. }) => {
                bail!(
                    "{PLACE}[{}]: syscalls[{at}] has another action for the same syscall and conditions",
                    next.at
                )
            }
        }
    }
    let clauses = kept.into_iter().map(|placed| placed.clause.clone()).collect();
    Ok(Verdict::Choose { clauses, width: arch.width(), otherwise: default })
}

/// libseccomp's order of conditions.
fn precedence(condition: &Condition) -> Reverse<(u8, u8, u64)> {
    let (class, value) = match condition.op {
        SeccompCmpOp::Eq | SeccompCmpOp::Ne | SeccompCmpOp::MaskedEq(_) => (3, condition.value),
        SeccompCmpOp::Le | SeccompCmpOp::Lt => (2, !condition.value),
        SeccompCmpOp::Ge | SeccompCmpOp::Gt => (1, condition.value),
    };
    Reverse((condition.arg, class, value))
}

/// Single numbers laid over the background, which goes on after each.
fn overlay(background: &BTreeMap<u64, u32>, points: Vec<(u32, Verdict)>) -> Vec<(u32, Verdict)> {
    let mut ranges = Vec::new();
    let mut from = 0;
    for (number, verdict) in points {
        fill(background, from..u64::from(number), &mut ranges);
        append(number, verdict, &mut ranges);
        from = u64::from(number) + 1;
    }
    fill(background, from..1 << 32, &mut ranges);
    ranges
}

/// The background's part between two points.
fn fill(background: &BTreeMap<u64, u32>, gap: Range<u64>, ranges: &mut Vec<(u32, Verdict)>) {
    if gap.is_empty() {
        return;
    }
    let before = background.range(..=gap.start).next_back().map(|(_, ret)| (gap.start, *ret));
    let inside = background.range(gap).map(|(first, ret)| (*first, *ret));
    for (first, ret) in before.into_iter().chain(inside) {
        append(first as u32, Verdict::Return(ret), ranges);
    }
}

/// Equal neighbours become one range.
fn append(first: u32, verdict: Verdict, ranges: &mut Vec<(u32, Verdict)>) {
    if ranges.last().is_none_or(|(_, before)| *before != verdict) {
        ranges.push((first, verdict));
    }
}

//! The back end: ranges become classic BPF.
//!
//! BPF only jumps forwards, so the program is written from its end to its start: every target is known when a jump
//! to it is written, and a target further than the 255 instructions of a conditional jump gets a stand-in nearby
//! (the same return once more, or a long jump). A label is a target's distance from the end.

use std::collections::HashMap;

use seccompiler::{SeccompCmpArgLen, SeccompCmpOp, sock_filter};

use super::lower::{BAD_ARCH, Body, Clause, Condition, Verdict};
use crate::bail;
use crate::error::Result;

/// The kernel's BPF_MAXINSNS.
const LONGEST: usize = 4096;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

pub(super) fn program(bodies: &[Body]) -> Result<Vec<sock_filter>> {
    let mut out = Assembler::default();
    let mut otherwise = out.ret(BAD_ARCH);
    // The native body is the first one, and so the last one written.
    for body in bodies.iter().rev() {
        let search = out.search(&body.ranges);
        let search = out.load(NUMBER, search);
        otherwise = out.branch(IF_EQUAL, body.audit, search, otherwise);
    }
    out.load(ARCH, otherwise);
    if out.reversed.len() > LONGEST {
        bail!(
            "linux.seccomp: the filter has {} instructions, the kernel takes {LONGEST}",
            out.reversed.len()
        );
    }
    out.reversed.reverse();
    Ok(out.reversed)
}

/// A position, counted from the program's end.
type Label = usize;

#[derive(Default)]
struct Assembler {
    reversed: Vec<sock_filter>,
    /// The nearest return of each value.
    returns: HashMap<u32, Label>,
}

impl Assembler {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.reversed.push(sock_filter { code, jt, jf, k });
        self.reversed.len() - 1
    }

    fn ret(&mut self, value: u32) -> Label {
        if let Some(label) = self.returns.get(&value) {
            return *label;
        }
        let label = self.push(RETURN, 0, 0, value);
        self.returns.insert(value, label);
        label
    }

    /// How many instructions a jump written now would skip.
    fn skip(&self, target: Label) -> usize {
        self.reversed.len() - target - 1
    }

    /// `target`, or a stand-in that a conditional jump still reaches after `more` further instructions.
    fn near(&mut self, target: Label, more: usize) -> Label {
        if self.skip(target) + more <= usize::from(u8::MAX) {
            return target;
        }
        let there = self.reversed[target].clone();
        if there.code != RETURN {
            return self.push(JUMP, 0, 0, self.skip(target) as u32);
        }
        let known = self.returns.get(&there.k).copied().filter(|label| *label != target);
        match known {
            Some(nearer) => self.near(nearer, more),
            None => {
                self.returns.remove(&there.k);
                self.ret(there.k)
            }
        }
    }

    fn branch(&mut self, code: u16, k: u32, yes: Label, no: Label) -> Label {
        let yes = self.near(yes, 1);
        let no = self.near(no, 0);
        self.push(code, self.skip(yes) as u8, self.skip(no) as u8, k)
    }

    /// Loads a word, then goes on at `next`.
    fn load(&mut self, offset: u32, next: Label) -> Label {
        if self.skip(next) > 0 {
            self.push(JUMP, 0, 0, self.skip(next) as u32);
        }
        self.push(LOAD, 0, 0, offset)
    }

    /// A binary search of the loaded number.
    fn search(&mut self, ranges: &[(u32, Verdict)]) -> Label {
        if let [(_, verdict)] = ranges {
            return self.verdict(verdict);
        }
        let (low, high) = ranges.split_at(ranges.len() / 2);
        let above = self.search(high);
        let below = self.search(low);
        self.branch(IF_AT_LEAST, high[0].0, above, below)
    }

    fn verdict(&mut self, verdict: &Verdict) -> Label {
        match verdict {
            Verdict::Return(value) => self.ret(*value),
            Verdict::Choose { clauses, width, otherwise } => {
                let otherwise = self.ret(*otherwise);
                clauses.iter().rev().fold(otherwise, |next, clause| self.clause(clause, width, next))
            }
        }
    }

    fn clause(&mut self, clause: &Clause, width: &SeccompCmpArgLen, fails: Label) -> Label {
        let holds = self.ret(clause.ret);
        clause.when.iter().rev().fold(holds, |next, condition| self.condition(condition, width, next, fails))
    }

    /// One condition, reduced to the operators that BPF has.
    fn condition(&mut self, c: &Condition, width: &SeccompCmpArgLen, yes: Label, no: Label) -> Label {
        let compare = Compare { offset: ARGS + 8 * u32::from(c.arg), value: c.value, mask: u64::MAX, width };
        match c.op {
            SeccompCmpOp::Eq => self.equal(&compare, yes, no),
            SeccompCmpOp::Ne => self.equal(&compare, no, yes),
            SeccompCmpOp::MaskedEq(mask) => self.equal(&Compare { mask, ..compare }, yes, no),
            SeccompCmpOp::Gt => self.order(&compare, IF_GREATER, yes, no),
            SeccompCmpOp::Le => self.order(&compare, IF_GREATER, no, yes),
            SeccompCmpOp::Ge => self.order(&compare, IF_AT_LEAST, yes, no),
            SeccompCmpOp::Lt => self.order(&compare, IF_AT_LEAST, no, yes),
        }
    }

    /// Both halves under their masks; a half that the mask leaves out is not looked at.
    fn equal(&mut self, c: &Compare, yes: Label, no: Label) -> Label {
        let mut start = yes;
        for (offset, value, mask) in [c.low(), c.high()] {
            if mask != 0 {
                let test = self.branch(IF_EQUAL, value, start, no);
                let test = if mask == u32::MAX { test } else { self.push(AND, 0, 0, mask) };
                start = self.load(offset, test);
            }
        }
        start
    }

    /// The high half decides unless it is equal; then the low half does, by `code`.
    fn order(&mut self, c: &Compare, code: u16, yes: Label, no: Label) -> Label {
        let (offset, value, _) = c.low();
        let low = self.branch(code, value, yes, no);
        let low = self.load(offset, low);
        let (offset, value, mask) = c.high();
        if mask == 0 {
            return low;
        }
        let equal = self.branch(IF_EQUAL, value, low, no);
        let high = self.branch(IF_GREATER, value, yes, equal);
        self.load(offset, high)
    }
}

/// A comparison of an argument, by halves: offset, value, mask. Every architecture here is little-endian.
struct Compare<'a> {
    offset: u32,
    value: u64,
    mask: u64,
    width: &'a SeccompCmpArgLen,
}

impl Compare<'_> {
    fn low(&self) -> (u32, u32, u32) {
        (self.offset, self.value as u32, self.mask as u32)
    }

    fn high(&self) -> (u32, u32, u32) {
        let mask = if *self.width == SeccompCmpArgLen::Dword { 0 } else { (self.mask >> 32) as u32 };
        (self.offset + 4, (self.value >> 32) as u32, mask)
    }
}

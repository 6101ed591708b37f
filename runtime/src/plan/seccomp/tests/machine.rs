//! An interpreter of the classic BPF that seccomp accepts. As the kernel's checker, it refuses programs with a jump
//! out of bounds, an unaligned load or an end without a return.

use seccompiler::sock_filter;

/// `struct seccomp_data`, without the instruction pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub arch: u32,
    pub number: u32,
    pub args: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        let half = |value: u64, offset: u32| {
            if offset.is_multiple_of(8) { value as u32 } else { (value >> 32) as u32 }
        };
        match offset {
            0 => self.number,
            4 => self.arch,
            16..64 => half(self.args[(offset as usize - 16) / 8], offset),
            _ => panic!("load at {offset}"),
        }
    }
}

/// What the program returns, and after how many instructions.
pub fn run(program: &[sock_filter], call: &Call) -> (u32, usize) {
    let (mut at, mut word) = (0, 0);
    for steps in 1..=program.len() {
        let i = &program[at];
        let either = |yes: bool| usize::from(if yes { i.jt } else { i.jf });
        at += 1;
        match i.code {
            0x20 => word = call.word(i.k),
            0x54 => word &= i.k,
            0x05 => at += i.k as usize,
            0x15 => at += either(word == i.k),
            0x25 => at += either(word > i.k),
            0x35 => at += either(word >= i.k),
            0x06 => return (i.k, steps),
            code => panic!("instruction {code:#x}"),
        }
    }
    panic!("no return")
}

/// What the kernel demands of a program, whatever is called.
pub fn verify(program: &[sock_filter]) {
    assert!(!program.is_empty() && program.len() <= 4096, "{} instructions", program.len());
    assert_eq!(program.last().unwrap().code, 0x06);
    for (at, i) in program.iter().enumerate() {
        let left = program.len() - at - 1;
        match i.code {
            0x20 => assert!(i.k < 64 && i.k.is_multiple_of(4)),
            0x54 | 0x06 => {}
            0x05 => assert!((i.k as usize) < left),
            0x15 | 0x25 | 0x35 => assert!(usize::from(i.jt.max(i.jf)) < left),
            code => panic!("instruction {code:#x}"),
        }
    }
}

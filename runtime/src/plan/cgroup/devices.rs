//! The device rules as an eBPF program. The rules are those of cgroup v1's devices controller, and mean what they
//! mean there: a rule for all devices sets the default and forgets what was before; any other rule adds an exception
//! to the default or takes one away again. [`Rules`] plays this through, [`program`] writes the result down for the
//! kernel, which runs it at every mknod(2) and open(2) of a device. Nothing here touches the machine.

use crate::bail;
use crate::error::Result;
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, LinuxResources};
use std::collections::BTreeMap;
use std::fmt;

/// Character or block: the numbers are those of the kernel's `access_type`, linux/bpf.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// A block device.
    Block = 1,
    /// A character device.
    Char = 2,
}

/// What can be done with a device, as bits of the kernel's `access_type`.
pub const MKNOD: u8 = 1;
/// Reading.
pub const READ: u8 = 2;
/// Writing.
pub const WRITE: u8 = 4;
const ALL: u8 = MKNOD | READ | WRITE;

/// The devices that an exception is about; no number means any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Devices {
    /// Character or block.
    pub kind: Kind,
    /// The major number.
    pub major: Option<u32>,
    /// The minor number.
    pub minor: Option<u32>,
}

/// A default for all devices and the exceptions to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// What no exception is about is allowed.
    pub allow: bool,
    /// The accesses that are treated the other way.
    pub exceptions: BTreeMap<Devices, u8>,
}

/// What runc allows after all rules of config.json, whatever they say: making any node, the devices that every
/// container has, and /dev/net/tun, which many came to rely on. A path that `linux.devices` lists is left out.
const DEFAULTS: [(Option<&str>, Devices, u8); 11] = [
    (None, Devices { kind: Kind::Char, major: None, minor: None }, MKNOD),
    (None, Devices { kind: Kind::Block, major: None, minor: None }, MKNOD),
    (Some("/dev/null"), char_device(1, Some(3)), ALL),
    (Some("/dev/random"), char_device(1, Some(8)), ALL),
    (Some("/dev/full"), char_device(1, Some(7)), ALL),
    (Some("/dev/tty"), char_device(5, Some(0)), ALL),
    (Some("/dev/zero"), char_device(1, Some(5)), ALL),
    (Some("/dev/urandom"), char_device(1, Some(9)), ALL),
    (None, char_device(136, None), ALL),
    (None, char_device(5, Some(2)), ALL),
    (None, char_device(10, Some(200)), ALL),
];

const fn char_device(major: u32, minor: Option<u32>) -> Devices {
    Devices { kind: Kind::Char, major: Some(major), minor }
}

impl Rules {
    /// The rules of `resources` and runc's defaults after them.
    pub fn of_resources(resources: Option<&LinuxResources>, device_paths: &[&str]) -> Result<Self> {
        let listed = resources.and_then(|resources| resources.devices().as_deref()).unwrap_or_default();
        Self::of(listed, device_paths)
    }

    /// Plays the rules through, then the defaults without those of `device_paths`.
    pub fn of(listed: &[LinuxDeviceCgroup], device_paths: &[&str]) -> Result<Self> {
        let mut rules = Self::default();
        for (index, rule) in listed.iter().enumerate() {
            rules.listed(index, rule)?;
        }
        for (path, devices, access) in DEFAULTS {
            if path.is_none_or(|path| !device_paths.contains(&path)) {
                rules.apply(devices, access, true).map_err(|error| {
                    error.context(format!(
                        "linux.resources.devices and the default rule {}",
                        Rule(devices, access)
                    ))
                })?;
            }
        }
        Ok(rules)
    }

    /// Everything is allowed, always.
    pub fn allows_all(&self) -> bool {
        self.allow && self.exceptions.is_empty()
    }

    fn listed(&mut self, index: usize, rule: &LinuxDeviceCgroup) -> Result<()> {
        let origin = format!("linux.resources.devices[{index}]");
        let access = access(&origin, index, rule.access().as_deref().unwrap_or_default())?;
        let kind = match rule.typ().unwrap_or_default() {
            // All devices and all accesses, whatever else the rule says.
            LinuxDeviceType::A => {
                *self = Self { allow: rule.allow(), exceptions: BTreeMap::new() };
                return Ok(());
            }
            LinuxDeviceType::B => Kind::Block,
            LinuxDeviceType::C => Kind::Char,
            other => bail!("{origin}.type: invalid cgroup device type {:?}", other.as_str()),
        };
        let major = number(&origin, "major", rule.major())?;
        let minor = number(&origin, "minor", rule.minor())?;
        self.apply(Devices { kind, major, minor }, access, rule.allow()).map_err(|e| e.context(origin))
    }

    fn apply(&mut self, devices: Devices, access: u8, allow: bool) -> Result<()> {
        if allow != self.allow {
            *self.exceptions.entry(devices).or_default() |= access;
            return Ok(());
        }
        let exception = if self.allow {
            "unable to remove 'deny' exception"
        } else {
            "unable to remove 'allow' exception"
        };
        self.remove(devices, access).map_err(|error| error.context(exception))
    }

    /// Takes an exception away. v1 ignores a hole in a wider exception, which gives a false sense of safety; it is
    /// refused here, as in runc.
    fn remove(&mut self, devices: Devices, access: u8) -> Result<()> {
        let wider = [
            Devices { major: None, ..devices },
            Devices { minor: None, ..devices },
            Devices { major: None, minor: None, ..devices },
        ];
        for wide in wider.into_iter().filter(|wide| *wide != devices) {
            let there = self.exceptions.get(&wide).copied().unwrap_or_default();
            if there & access != 0 {
                bail!(
                    "requested rule [{}] not supported by devices cgroupv1 (cannot punch hole in existing wildcard rule [{}])",
                    Rule(devices, access),
                    Rule(wide, there)
                );
            }
        }
        if let Some(there) = self.exceptions.get_mut(&devices) {
            *there &= !access;
            if *there == 0 {
                self.exceptions.remove(&devices);
            }
        }
        Ok(())
    }
}

fn access(origin: &str, index: usize, text: &str) -> Result<u8> {
    if text.is_empty() {
        bail!("{origin}.access: device access at {index} field cannot be empty");
    }
    let bits = text.chars().fold(0, |bits, letter| match letter {
        'r' => bits | READ,
        'w' => bits | WRITE,
        'm' => bits | MKNOD,
        // runc passes over what it does not know, and its own suite writes "rwa".
        _ => bits,
    });
    if bits == 0 {
        bail!("{origin}.access: unknown device access {text:?}");
    }
    Ok(bits)
}

/// -1 is any number, as if nothing was said.
fn number(origin: &str, field: &str, number: Option<i64>) -> Result<Option<u32>> {
    match number {
        None | Some(-1) => Ok(None),
        Some(n) => match u32::try_from(n) {
            Ok(n) => Ok(Some(n)),
            Err(_) => bail!("{origin}.{field}: invalid {field} {n}"),
        },
    }
}

/// A rule as in v1's devices.list: `c 1:3 rwm`.
struct Rule(Devices, u8);

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |n: Option<u32>| n.map_or_else(|| "*".to_string(), |n| n.to_string());
        let kind = if self.0.kind == Kind::Char { 'c' } else { 'b' };
        write!(f, "{kind} {}:{} ", number(self.0.major), number(self.0.minor))?;
        for (bit, letter) in [(READ, "r"), (WRITE, "w"), (MKNOD, "m")] {
            if self.1 & bit != 0 {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

/// One eBPF instruction, linux/bpf.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u8,
    /// The register that is changed or compared.
    pub to: u8,
    /// The other register.
    pub from: u8,
    /// How far to jump, or where to load from.
    pub offset: i16,
    /// The constant.
    pub constant: u32,
}

impl Instruction {
    /// As `struct bpf_insn` on a little-endian machine.
    pub fn encode(self) -> u64 {
        u64::from(self.code)
            | u64::from(self.to) << 8
            | u64::from(self.from) << 12
            | u64::from(self.offset as u16) << 16
            | u64::from(self.constant) << 32
    }
}

/// The codes used: arithmetic and jumps on 32 bits.
pub mod code {
    #![allow(missing_docs)]
    pub const LOAD: u8 = 0x61;
    pub const AND: u8 = 0x54;
    pub const SHIFT_RIGHT: u8 = 0x74;
    pub const SHIFT_LEFT: u8 = 0x64;
    pub const OR_REGISTER: u8 = 0x4c;
    pub const MOVE: u8 = 0xb4;
    pub const MOVE_REGISTER: u8 = 0xbc;
    pub const JUMP: u8 = 0x05;
    pub const JUMP_IF_EQUAL: u8 = 0x16;
    pub const JUMP_IF_ANY_BIT: u8 = 0x46;
    pub const RETURN: u8 = 0x95;
}

const RESULT: u8 = 0;
/// struct bpf_cgroup_dev_ctx at entry: the access in the upper and the kind in the lower half of its first word,
/// then major and minor number.
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
/// Both numbers in one, as the kernel keeps them: 12 and 20 bits.
const NUMBER: u8 = 6;
const MOST_MAJOR: u32 = (1 << 12) - 1;
const MOST_MINOR: u32 = (1 << 20) - 1;

/// Stands in a jump until the place of the exceptions' verdict is known.
const TO_VERDICT: i16 = i16::MIN;

/// Asks each exception whether the access is its business, and jumps to their common verdict if so. Few and short
/// tests: the kernel's verifier walks every path at every start of a container, and that is most of the cost.
pub fn program(rules: &Rules) -> Result<Vec<Instruction>> {
    let blocks = tests(rules, Kind::Block);
    let chars = tests(rules, Kind::Char);
    let mut program = vec![
        load(KIND, 0),
        with(code::AND, KIND, 0xffff),
        load(ACCESS, 0),
        with(code::SHIFT_RIGHT, ACCESS, 16),
        load(MAJOR, 4),
        load(MINOR, 8),
        registers(code::MOVE_REGISTER, NUMBER, MAJOR),
        with(code::SHIFT_LEFT, NUMBER, 20),
        registers(code::OR_REGISTER, NUMBER, MINOR),
    ];
    if program.len() + blocks.len() + chars.len() > i16::MAX as usize {
        bail!("linux.resources.devices: too many rules ({} exceptions)", rules.exceptions.len());
    }
    program.push(jump(code::JUMP_IF_EQUAL, KIND, Kind::Char as u32, blocks.len()));
    program.extend(blocks);
    program.extend(chars);
    let end = program.len();
    let mut reached = false;
    for (index, instruction) in program.iter_mut().enumerate().filter(|(_, i)| i.offset == TO_VERDICT) {
        instruction.offset = (end - index - 1) as i16;
        reached = true;
    }
    // The verifier refuses what nothing leads to.
    if reached {
        program.extend(verdict(!rules.allow));
    }
    Ok(program)
}

/// The tests for one kind of device, and the default's verdict after them.
fn tests(rules: &Rules, kind: Kind) -> Vec<Instruction> {
    let mut tests = Vec::new();
    for (devices, bits) in rules.exceptions.iter().filter(|(devices, _)| devices.kind == kind) {
        let Some(test) = device_test(*devices) else { continue };
        if *bits == ALL && test.code == code::JUMP {
            // Everything of this kind: no test after it would be reached.
            tests.push(test);
            return tests;
        }
        tests.extend(access_test(*bits, !rules.allow));
        tests.push(test);
    }
    tests.extend(verdict(rules.allow));
    tests
}

/// Passes over the device's test, the one instruction that follows, unless the access is the exception's business.
/// An open for reading and writing is one access with two bits: to be allowed, all of it must be; to be denied, one
/// forbidden part is enough.
fn access_test(bits: u8, allow: bool) -> Vec<Instruction> {
    match (bits, allow) {
        (ALL, _) => Vec::new(),
        (_, true) => vec![jump(code::JUMP_IF_ANY_BIT, ACCESS, u32::from(ALL & !bits), 1)],
        (_, false) => {
            vec![jump(code::JUMP_IF_ANY_BIT, ACCESS, bits.into(), 1), jump(code::JUMP, 0, 0, 1)]
        }
    }
}

/// Jumps to the verdict for these devices; `None` for numbers that no device can have.
fn device_test(devices: Devices) -> Option<Instruction> {
    let (major, minor) = (devices.major, devices.minor);
    if major.is_some_and(|n| n > MOST_MAJOR) || minor.is_some_and(|n| n > MOST_MINOR) {
        return None;
    }
    let test = match (major, minor) {
        (None, None) => with(code::JUMP, 0, 0),
        (Some(major), None) => with(code::JUMP_IF_EQUAL, MAJOR, major),
        (None, Some(minor)) => with(code::JUMP_IF_EQUAL, MINOR, minor),
        (Some(major), Some(minor)) => with(code::JUMP_IF_EQUAL, NUMBER, major << 20 | minor),
    };
    Some(Instruction { offset: TO_VERDICT, ..test })
}

fn verdict(allow: bool) -> [Instruction; 2] {
    [with(code::MOVE, RESULT, allow.into()), with(code::RETURN, 0, 0)]
}

fn with(code: u8, to: u8, constant: u32) -> Instruction {
    Instruction { code, to, from: 0, offset: 0, constant }
}

fn registers(code: u8, to: u8, from: u8) -> Instruction {
    Instruction { code, to, from, offset: 0, constant: 0 }
}

fn jump(code: u8, register: u8, constant: u32, over: usize) -> Instruction {
    Instruction { code, to: register, from: 0, offset: over as i16, constant }
}

fn load(to: u8, offset: i16) -> Instruction {
    Instruction { code: code::LOAD, to, from: CONTEXT, offset, constant: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastrand::Rng;

    /// Runs a program as the kernel does.
    fn run(program: &[Instruction], kind: Kind, access: u8, major: u32, minor: u32) -> bool {
        let context = [u32::from(access) << 16 | kind as u32, major, minor];
        let mut registers = [0u32; 11];
        let mut at = 0usize;
        loop {
            let i = program[at];
            at += 1;
            let (to, from) = (usize::from(i.to), usize::from(i.from));
            let jump = match i.code {
                code::LOAD => {
                    assert_eq!(i.from, CONTEXT, "only the context is loaded from");
                    registers[to] = context[usize::try_from(i.offset).expect("an offset") / 4];
                    false
                }
                code::AND => {
                    registers[to] &= i.constant;
                    false
                }
                code::SHIFT_RIGHT => {
                    registers[to] >>= i.constant;
                    false
                }
                code::SHIFT_LEFT => {
                    registers[to] <<= i.constant;
                    false
                }
                code::OR_REGISTER => {
                    registers[to] |= registers[from];
                    false
                }
                code::MOVE => {
                    registers[to] = i.constant;
                    false
                }
                code::MOVE_REGISTER => {
                    registers[to] = registers[from];
                    false
                }
                code::JUMP => true,
                code::JUMP_IF_EQUAL => registers[to] == i.constant,
                code::JUMP_IF_ANY_BIT => registers[to] & i.constant != 0,
                code::RETURN => return registers[0] != 0,
                other => panic!("unknown code {other:#x}"),
            };
            if jump {
                at += usize::try_from(i.offset).expect("jumps lead forward");
            }
        }
    }

    /// What v1's devices controller does, as its documentation tells it: a list of exceptions, walked through.
    struct Model {
        allow: bool,
        exceptions: Vec<(Kind, Option<u32>, Option<u32>, u8)>,
    }

    impl Model {
        /// `None` when a hole would be punched into a wider exception.
        fn rule(&mut self, rule: &LinuxDeviceCgroup) -> Option<()> {
            let bits = rule.access().as_ref().expect("access").chars().fold(0, |bits, letter| {
                bits | match letter {
                    'r' => READ,
                    'w' => WRITE,
                    _ => MKNOD,
                }
            });
            let kind = match rule.typ().unwrap_or_default() {
                LinuxDeviceType::A => {
                    self.allow = rule.allow();
                    self.exceptions.clear();
                    return Some(());
                }
                LinuxDeviceType::B => Kind::Block,
                _ => Kind::Char,
            };
            let any = |n: Option<i64>| n.filter(|n| *n != -1).map(|n| n as u32);
            self.exception(kind, any(rule.major()), any(rule.minor()), bits, rule.allow() != self.allow)
        }

        fn exception(
            &mut self,
            kind: Kind,
            major: Option<u32>,
            minor: Option<u32>,
            bits: u8,
            add: bool,
        ) -> Option<()> {
            if add {
                self.exceptions.push((kind, major, minor, bits));
                return Some(());
            }
            let same = |e: &(Kind, Option<u32>, Option<u32>, u8)| (e.0, e.1, e.2) == (kind, major, minor);
            let wider = |e: &(Kind, Option<u32>, Option<u32>, u8)| {
                e.0 == kind && (e.1.is_none() || e.1 == major) && (e.2.is_none() || e.2 == minor)
            };
            if self.exceptions.iter().any(|e| !same(e) && wider(e) && e.3 & bits != 0) {
                return None;
            }
            for e in self.exceptions.iter_mut().filter(|e| same(e)) {
                e.3 &= !bits;
            }
            Some(())
        }

        /// Several exceptions for the same devices count as one.
        fn merged(&self) -> Model {
            let mut merged: Vec<(Kind, Option<u32>, Option<u32>, u8)> = Vec::new();
            for e in &self.exceptions {
                match merged.iter_mut().find(|m| (m.0, m.1, m.2) == (e.0, e.1, e.2)) {
                    Some(m) => m.3 |= e.3,
                    None => merged.push(*e),
                }
            }
            Model { allow: self.allow, exceptions: merged }
        }

        fn verdict(&self, kind: Kind, access: u8, major: u32, minor: u32) -> bool {
            let mut about = self
                .exceptions
                .iter()
                .filter(|e| e.0 == kind && e.1.is_none_or(|n| n == major) && e.2.is_none_or(|n| n == minor));
            if self.allow { !about.any(|e| e.3 & access != 0) } else { about.any(|e| access & !e.3 == 0) }
        }
    }

    fn rules(json: &str) -> Vec<LinuxDeviceCgroup> {
        serde_json::from_str(json).expect("rules")
    }

    fn compiled(json: &str) -> Vec<Instruction> {
        program(&Rules::of(&rules(json), &[]).expect("rules")).expect("a program")
    }

    fn random_list(random: &mut Rng) -> Vec<LinuxDeviceCgroup> {
        let kinds = if random.u8(..3) == 0 { ["a", "b", "c"].as_slice() } else { &["b", "c"] };
        let list: Vec<_> = (0..random.usize(..9))
            .map(|n| {
                // Most lists begin with a rule for all.
                let kind = if n == 0 && random.u8(..3) > 0 { "a" } else { random.choice(kinds).expect("some") };
                serde_json::json!({
                    "allow": random.bool(),
                    "type": kind,
                    "major": random.choice([None, Some(-1), Some(0), Some(1), Some(5), Some(136), Some(4095), Some(4294967295i64)]),
                    "minor": random.choice([None, Some(-1), Some(0), Some(2), Some(3), Some(8), Some(1048575), Some(4294967295i64)]),
                    "access": random.choice(["r", "w", "m", "rw", "rm", "wm", "rwm", "mrw", "rr"]),
                })
            })
            .collect();
        serde_json::from_value(serde_json::Value::Array(list)).expect("a list")
    }

    #[test]
    fn programs_decide_as_the_model_does() {
        let seed = 0x9e37_79b9_7f4a_7c15;
        let mut random = Rng::with_seed(seed);
        let (mut accepted, mut refused) = (0, 0);
        for round in 0..10_000 {
            let list = random_list(&mut random);
            let mut model = Model { allow: false, exceptions: Vec::new() };
            let expected = list.iter().all(|rule| model.rule(rule).is_some())
                && DEFAULTS.iter().all(|(_, devices, bits)| {
                    let add = !model.allow;
                    model.exception(devices.kind, devices.major, devices.minor, *bits, add).is_some()
                });
            let place = format!("seed {seed:#x}, list {round}: {list:?}");
            let Ok(rules) = Rules::of(&list, &[]) else {
                assert!(!expected, "refused only here: {place}");
                refused += 1;
                continue;
            };
            assert!(expected, "accepted only here: {place}");
            accepted += 1;
            compare(&program(&rules).expect("a program"), &model.merged(), &place);
        }
        assert!(accepted > 4000 && refused > 500, "{accepted} accepted, {refused} refused");
    }

    fn compare(program: &[Instruction], model: &Model, place: &str) {
        for kind in [Kind::Block, Kind::Char] {
            for access in 1..8 {
                for major in [0, 1, 5, 9, 136, MOST_MAJOR] {
                    for minor in [0, 2, 3, 9, MOST_MINOR] {
                        assert_eq!(
                            run(program, kind, access, major, minor),
                            model.verdict(kind, access, major, minor),
                            "{kind:?} {major}:{minor} access {access}, {place}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn without_rules_only_the_defaults_are_allowed() {
        let program = compiled("[]");
        for (kind, major, minor, access, expect) in [
            (Kind::Char, 1, 3, READ | WRITE, true),
            (Kind::Char, 1, 11, READ, false),
            (Kind::Char, 1, 11, MKNOD, true),
            (Kind::Block, 8, 0, READ, false),
            (Kind::Block, 8, 0, MKNOD, true),
            (Kind::Char, 136, 77, READ | WRITE, true),
            (Kind::Char, 10, 200, READ | WRITE, true),
            (Kind::Char, 10, 229, READ, false),
        ] {
            assert_eq!(
                run(&program, kind, access, major, minor),
                expect,
                "{kind:?} {major}:{minor} {access}"
            );
        }
    }

    #[test]
    fn a_rule_for_all_devices_needs_no_program() {
        let allows_all = |json: &str| {
            let resources: LinuxResources = serde_json::from_str(json).expect("resources");
            Rules::of_resources(Some(&resources), &[]).expect("rules").allows_all()
        };
        assert!(allows_all(r#"{"devices":[{"allow":true,"access":"rwm"}]}"#));
        assert!(!allows_all(
            r#"{"devices":[{"allow":true,"access":"rwm"},{"allow":false,"type":"b","major":8,"access":"w"}]}"#
        ));
    }

    #[test]
    fn opening_for_more_than_is_allowed_is_refused() {
        let program = compiled(
            r#"[{"allow":true,"access":"rwm"},{"allow":false,"type":"c","major":7,"minor":7,"access":"w"}]"#,
        );
        assert!(run(&program, Kind::Char, READ, 7, 7));
        assert!(!run(&program, Kind::Char, WRITE, 7, 7));
        assert!(!run(&program, Kind::Char, READ | WRITE, 7, 7), "writing came in with reading");
    }

    #[test]
    fn a_listed_device_loses_its_default_rule() {
        let program = program(&Rules::of(&[], &["/dev/null"]).expect("rules")).expect("a program");
        assert!(!run(&program, Kind::Char, READ, 1, 3));
        assert!(run(&program, Kind::Char, READ, 1, 5));
    }

    #[test]
    fn holes_in_wider_rules_are_refused() {
        let list = rules(
            r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","access":"rwm"},
                {"allow":false,"type":"c","major":1,"minor":11,"access":"r"}]"#,
        );
        let error = Rules::of(&list, &[]).expect_err("a hole").to_string();
        assert_eq!(
            error,
            "linux.resources.devices[2]: unable to remove 'allow' exception: requested rule [c 1:11 r] not supported \
             by devices cgroupv1 (cannot punch hole in existing wildcard rule [c *:* rwm])"
        );
    }

    #[test]
    fn rules_that_make_no_sense_are_refused() {
        for (rule, expect) in [
            (r#"{"allow":true,"type":"c"}"#, "access: device access at 0 field cannot be empty"),
            (r#"{"allow":true,"type":"c","access":"x"}"#, "access: unknown device access \"x\""),
            (r#"{"allow":true,"type":"p","access":"r"}"#, "type: invalid cgroup device type \"p\""),
            (
                r#"{"allow":true,"type":"c","major":4294967296,"access":"r"}"#,
                "major: invalid major 4294967296",
            ),
            (r#"{"allow":true,"type":"b","minor":-2,"access":"r"}"#, "minor: invalid minor -2"),
        ] {
            let error = Rules::of(&rules(&format!("[{rule}]")), &[]).expect_err(rule).to_string();
            assert_eq!(error, format!("linux.resources.devices[0].{expect}"));
        }
    }

    #[test]
    fn too_many_rules_are_refused() {
        let list: Vec<_> = (0..40_000)
            .map(|n| serde_json::json!({"allow": true, "type": "c", "major": 7, "minor": n, "access": "rwm"}))
            .collect();
        let list: Vec<_> = serde_json::from_value(serde_json::Value::Array(list)).expect("rules");
        let error = program(&Rules::of(&list, &[]).expect("rules")).expect_err("too many").to_string();
        assert!(error.starts_with("linux.resources.devices: too many rules"), "{error}");
    }

    #[test]
    fn instructions_are_laid_out_for_the_kernel() {
        // if w4 == 0x88 goto +2
        let bytes = jump(code::JUMP_IF_EQUAL, 4, 0x88, 2).encode().to_le_bytes();
        assert_eq!(bytes, [0x16, 4, 2, 0, 0x88, 0, 0, 0]);
        assert_eq!(load(5, 8).encode().to_le_bytes(), [0x61, 0x15, 8, 0, 0, 0, 0, 0]);
    }
}

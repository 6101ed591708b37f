//! What a filter says to a call, one subject per test.

use super::*;

const READ: u32 = 0;
const WRITE: u32 = 1;

#[test]
fn every_action_has_its_return_value() {
    let cases = [
        (r#""SCMP_ACT_KILL""#, KILL_THREAD),
        (r#""SCMP_ACT_KILL_THREAD""#, KILL_THREAD),
        (r#""SCMP_ACT_KILL_PROCESS""#, KILL_PROCESS),
        (r#""SCMP_ACT_TRAP""#, TRAP),
        (r#""SCMP_ACT_ERRNO","errnoRet":null"#, EPERM),
        (r#""SCMP_ACT_ERRNO","errnoRet":0"#, errno(0)),
        (r#""SCMP_ACT_ERRNO","errnoRet":38"#, ENOSYS),
        (r#""SCMP_ACT_TRACE""#, 0x7ff0_0001),
        (r#""SCMP_ACT_TRACE","errnoRet":7"#, 0x7ff0_0007),
        (r#""SCMP_ACT_ALLOW","errnoRet":7"#, ALLOW),
        (r#""SCMP_ACT_LOG""#, LOG),
        (r#""SCMP_ACT_NOTIFY""#, NOTIFY),
    ];
    for (action, expect) in cases {
        let json = format!(
            r#"{{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":5,"listenerPath":"/a",
                "syscalls":[{{"names":["read","close"],"action":{action}}}]}}"#
        );
        check(&filter(&json), &[(call(READ, &[]), expect), (call(WRITE, &[]), errno(5))]);
    }
}

/// Values on both sides of a border, in the low half, in the high half and where only one half is greater.
#[test]
fn every_operator_compares_64_bits() {
    let values = [
        0,
        1,
        2,
        0xffff_fffe,
        0xffff_ffff,
        1 << 32,
        (1 << 32) + 1,
        (1 << 32) + 2,
        2 << 32,
        u64::MAX - 1,
        u64::MAX,
    ];
    for op in crate::plan::seccomp::OPERATORS {
        for value in values {
            for value_two in [0, 1, (1 << 32) + 1, u64::MAX] {
                let arg = serde_json::json!({"index": 2, "value": value, "valueTwo": value_two, "op": op});
                let filter =
                    allowing(&format!(r#"{{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{arg}]}}"#));
                let arg = serde_json::from_value(arg).unwrap();
                for actual in values {
                    let call = call(READ, &[7, 7, actual]);
                    let expect = if model::holds(&arg, Arch::X86_64, &call) { ALLOW } else { EPERM };
                    check(&filter, &[(call, expect)]);
                }
            }
        }
    }
}

#[test]
fn conditions_on_different_arguments_must_all_hold() {
    let rule = r#"{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[
        {"index":1,"value":5,"op":"SCMP_CMP_EQ"},{"index":0,"value":3,"op":"SCMP_CMP_LT"}]}"#;
    let cases = [(call(READ, &[2, 5]), ALLOW), (call(READ, &[3, 5]), EPERM), (call(READ, &[2, 6]), EPERM)];
    check(&allowing(rule), &cases);
}

#[test]
fn conditions_on_the_same_argument_are_alternatives() {
    let rule = r#"{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"},
        {"index":0,"value":8,"op":"SCMP_CMP_EQ"},{"index":1,"value":9,"op":"SCMP_CMP_EQ"}]}"#;
    let allowed = [call(READ, &[1]), call(READ, &[8]), call(READ, &[0, 9])];
    check(&allowing(rule), &allowed.map(|call| (call, ALLOW)));
    check(&allowing(rule), &[(call(READ, &[0, 8]), EPERM)]);
}

#[test]
fn a_rule_without_conditions_beats_all_others_and_the_first_of_them_counts() {
    let when = |n| format!(r#""args":[{{"index":0,"value":{n},"op":"SCMP_CMP_EQ"}}]"#);
    let rules = format!(
        r#"{{"names":["read"],"action":"SCMP_ACT_ALLOW",{}}},{{"names":["read"],"action":"SCMP_ACT_LOG"}},
           {{"names":["read"],"action":"SCMP_ACT_TRAP"}},{{"names":["read"],"action":"SCMP_ACT_TRAP",{}}}"#,
        when(1),
        when(2)
    );
    check(&allowing(&rules), &[1, 2, 3].map(|n| (call(READ, &[n]), LOG)));
}

#[test]
fn a_rule_that_repeats_the_default_is_no_rule() {
    let rules = r#"{"names":["read"],"action":"SCMP_ACT_ERRNO","errnoRet":1},
        {"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]}"#;
    check(&allowing(rules), &[(call(READ, &[1]), ALLOW), (call(READ, &[2]), EPERM)]);
}

/// The order that libseccomp 2.5 was seen to use, whichever rule stands first.
#[test]
fn of_conditional_rules_the_narrower_one_counts() {
    let rule = |action: &str, index: u8, op: &str, value: u64| {
        let arg = format!(r#"{{"index":{index},"value":{value},"op":"SCMP_CMP_{op}"}}"#);
        format!(r#"{{"names":["read"],"action":"SCMP_ACT_{action}","args":[{arg}]}}"#)
    };
    let cases = [
        (rule("ALLOW", 1, "EQ", 9), rule("TRAP", 0, "EQ", 9)),
        (rule("ALLOW", 0, "EQ", 9), rule("TRAP", 0, "GT", 1)),
        (rule("ALLOW", 0, "LE", 9), rule("TRAP", 0, "GT", 1)),
        (rule("ALLOW", 0, "GT", 8), rule("TRAP", 0, "GT", 1)),
        (rule("ALLOW", 0, "LT", 10), rule("TRAP", 0, "LE", 20)),
    ];
    for (wins, loses) in cases {
        for rules in [format!("{wins},{loses}"), format!("{loses},{wins}")] {
            check(&allowing(&rules), &[(call(READ, &[9, 9]), ALLOW)]);
        }
    }
}

#[test]
fn a_mask_of_zero_is_no_condition() {
    let rule = r#"{"names":["read"],"action":"SCMP_ACT_ALLOW",
        "args":[{"index":0,"value":0,"valueTwo":5,"op":"SCMP_CMP_MASKED_EQ"}]}"#;
    check(&allowing(rule), &[(call(READ, &[7]), ALLOW)]);
}

#[test]
fn calls_newer_than_the_profile_get_enosys() {
    let newest = r#"{"names":["read","openat2"],"action":"SCMP_ACT_ALLOW"}"#;
    let cases = [
        (call(436, &[]), EPERM),
        (call(437, &[]), ALLOW),
        (call(438, &[]), ENOSYS),
        (call(5000, &[]), ENOSYS),
    ];
    check(&allowing(newest), &cases);
    // A conditional rule and one that repeats the default name a call, too.
    let repeats = r#"{"names":["openat2"],"action":"SCMP_ACT_ERRNO"}"#;
    check(&allowing(repeats), &[(call(437, &[]), EPERM), (call(438, &[]), ENOSYS)]);
    check(&allowing(""), &[(call(0, &[]), EPERM), (call(5000, &[]), EPERM)]);
}

#[test]
fn a_permissive_default_knows_no_enosys() {
    for default in ["ALLOW", "LOG", "TRACE"] {
        let json = format!(
            r#"{{"defaultAction":"SCMP_ACT_{default}","syscalls":[{{"names":["write"],"action":"SCMP_ACT_TRAP"}}]}}"#
        );
        let expect = model::action(&format!("SCMP_ACT_{default}"), None);
        check(&filter(&json), &[(call(5000, &[]), expect), (call(WRITE, &[]), TRAP)]);
    }
}

#[test]
fn x32_is_killed_unless_listed() {
    let rules = r#""syscalls":[{"names":["read","write"],"action":"SCMP_ACT_ALLOW"}]}"#;
    let without = filter(&format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO",{rules}"#));
    let cases = [
        (0x4000_0000, KILL_THREAD),
        (0x4000_0001, KILL_THREAD),
        (0x7fff_ffff, KILL_THREAD),
        // Not x32's, for it lacks the bit: newer than the profile, as for runc.
        (0x8000_0000, ENOSYS),
        (0xbfff_ffff, ENOSYS),
        (0xc000_0000, KILL_THREAD),
        (u32::MAX - 1, KILL_THREAD),
        (u32::MAX, EPERM),
    ];
    check(&without, &cases.map(|(number, expect)| (call(number, &[]), expect)));
    let with =
        filter(&format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X32"],{rules}"#));
    let cases =
        [(WRITE, ALLOW), (2, ENOSYS), (0x4000_0001, ALLOW), (0x4000_0002, ENOSYS), (u32::MAX, ENOSYS)];
    check(&with, &cases.map(|(number, expect)| (call(number, &[]), expect)));
}

#[test]
fn a_foreign_architecture_is_killed_unless_listed() {
    let rules = r#""syscalls":[{"names":["write"],"action":"SCMP_ACT_ALLOW"}]}"#;
    let alone = filter(&format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW",{rules}"#));
    check(&alone, &[X86, ARM, AARCH64, 0, 0x8000_0016].map(|arch| (foreign(arch, 4, &[]), KILL_THREAD)));
    let listed = filter(&format!(
        r#"{{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_S390X"],{rules}"#
    ));
    let cases = [
        (foreign(X86, 4, &[]), ALLOW),
        (foreign(X86, 1, &[]), EPERM),
        (foreign(X86, 5, &[]), ENOSYS),
        (call(WRITE, &[]), ALLOW),
        (call(4, &[]), ENOSYS),
        (foreign(ARM, 4, &[]), KILL_THREAD),
        (foreign(0x8000_0016, 4, &[]), KILL_THREAD),
    ];
    check(&listed, &cases);
}

#[test]
fn arm_s_private_calls_are_not_newer_ones() {
    let json = profile(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_ARM"],
            "syscalls":[{"names":["openat2","set_tls"],"action":"SCMP_ACT_ALLOW"}]}"#,
    );
    let filter = compile(&json, Arch::Aarch64).unwrap().unwrap();
    let cases = [
        (437, ALLOW),
        (438, ENOSYS),
        (0xe_ffff, ENOSYS),
        (0xf_0001, EPERM),
        (0xf_0005, ALLOW),
        (0xf_0006, EPERM),
    ];
    check(&filter, &cases.map(|(number, expect)| (foreign(ARM, number, &[]), expect)));
    check(&filter, &[(foreign(AARCH64, 437, &[]), ALLOW), (call(437, &[]), KILL_THREAD)]);
}

#[test]
fn a_32_bit_architecture_sees_low_halves() {
    let json = r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86"],"syscalls":[{"names":["write"],
        "action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":18446744073709551615,"op":"SCMP_CMP_EQ"}]}]}"#;
    let cases = [
        (foreign(X86, 4, &[0xffff_ffff]), ALLOW),
        (foreign(X86, 4, &[0xffff_fffe]), EPERM),
        (call(WRITE, &[0xffff_ffff]), EPERM),
        (call(WRITE, &[u64::MAX]), ALLOW),
    ];
    check(&filter(json), &cases);
}

#[test]
fn i386_reaches_sockets_and_ipc_in_two_ways() {
    let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],"syscalls":[
        {"names":["socket","send","semtimedop"],"action":"SCMP_ACT_ERRNO"},
        {"names":["shmget"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":7,"op":"SCMP_CMP_EQ"}]}]}"#;
    let refused = [
        foreign(X86, 359, &[]),
        foreign(X86, 102, &[1]),
        foreign(X86, 102, &[9]),
        foreign(X86, 117, &[4]),
        foreign(X86, 117, &[0x1_0017, 3]),
        foreign(X86, 395, &[7]),
        call(41, &[]),
    ];
    check(&filter(json), &refused.map(|call| (call, EPERM)));
    let allowed =
        [foreign(X86, 102, &[2]), foreign(X86, 117, &[3]), foreign(X86, 395, &[8]), call(102, &[1])];
    check(&filter(json), &allowed.map(|call| (call, ALLOW)));
}

#[test]
fn unknown_names_are_ignored() {
    let rule = r#"{"names":["no_such_call","read"],"action":"SCMP_ACT_ALLOW"}"#;
    check(&allowing(rule), &[(call(READ, &[]), ALLOW), (call(WRITE, &[]), EPERM)]);
}

//! What is refused, in runc's sentences, and what stands beside the program.

use super::*;
use crate::plan::seccomp::Agent;

#[test]
fn refusals_name_the_place_and_the_cause() {
    let rule = |rule: &str| {
        format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{}},{{{rule}}}]}}"#)
            .replace("[{},", r#"[{"action":"SCMP_ACT_LOG"},"#)
    };
    let arg = |arg: &str| rule(&format!(r#""names":["read"],"action":"SCMP_ACT_LOG","args":[{{{arg}}}]"#));
    let profile = |field: &str| format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW",{field}}}"#);
    let cases = [
        (
            r#"{"defaultAction":"SCMP_FOO"}"#.into(),
            ".defaultAction: string SCMP_FOO is not a valid action for seccomp",
        ),
        (r#"{"syscalls":[{}]}"#.into(), ".defaultAction: string  is not a valid action for seccomp"),
        (rule(r#""action":"FOO""#), ".syscalls[1].action: string FOO is not a valid action for seccomp"),
        (
            profile(r#""architectures":["SCMP_ARCH_X86","VAX"]"#),
            ".architectures[1]: string VAX is not a valid arch for seccomp",
        ),
        (profile(r#""flags":["FOO"]"#), ".flags[0]: seccomp flag FOO is not known to runc"),
        (arg(r#""index":0,"op":"~""#), ".syscalls[1].args[0]: string ~ is not a valid operator for seccomp"),
        (
            arg(r#""index":6,"op":"SCMP_CMP_EQ""#),
            ".syscalls[1].args[0]: syscalls only have up to 6 arguments (7 given)",
        ),
        (
            rule(r#""action":"SCMP_ACT_LOG","names":["read",""]"#),
            ".syscalls[1].names[1]: empty string is not a valid syscall",
        ),
        (
            rule(r#""action":"SCMP_ACT_NOTIFY","names":["write"]"#),
            ".syscalls[1].names[0]: SCMP_ACT_NOTIFY cannot be used for the write syscall",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#.into(),
            ".defaultAction: SCMP_ACT_NOTIFY cannot be used as default action",
        ),
        (rule(r#""action":"SCMP_ACT_NOTIFY","names":["read"]"#), ": seccomp listenerPath is not set"),
    ];
    for (json, expect) in cases {
        let error = compile(&super::profile(&json), Arch::X86_64).unwrap_err().to_string();
        assert_eq!(error, format!("linux.seccomp{expect}"), "{json}");
    }
}

#[test]
fn two_actions_for_the_same_conditions_are_refused() {
    let when = r#""args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]"#;
    let json = format!(
        r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{{"names":["read"],"action":"SCMP_ACT_ALLOW",{when}}},
            {{"names":["write","read"],"action":"SCMP_ACT_LOG",{when}}}]}}"#
    );
    let error = compile(&profile(&json), Arch::X86_64).unwrap_err().to_string();
    let expect =
        "linux.seccomp.syscalls[1]: syscalls[0] has another action for the same syscall and conditions";
    assert_eq!(error, expect);
    let same = json.replace("SCMP_ACT_LOG", "SCMP_ACT_ALLOW");
    assert!(compile(&profile(&same), Arch::X86_64).is_ok());
}

#[test]
fn a_program_longer_than_the_kernel_s_limit_is_refused() {
    let rules: Vec<String> = (0..1000)
        .map(|n| format!(r#"{{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{{"index":0,"value":{n},"op":"SCMP_CMP_EQ"}}]}}"#))
        .collect();
    let compiled = |rules: &[String]| {
        let json = format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{}]}}"#, rules.join(","));
        compile(&profile(&json), Arch::X86_64).map(|filter| filter.unwrap().program.len())
    };
    assert!(compiled(&rules).unwrap() <= 4096);
    let twice: Vec<String> =
        rules.iter().map(|rule| rule.replace(r#""read""#, r#""read","close""#)).collect();
    let error = compiled(&twice).unwrap_err().to_string();
    assert!(error.ends_with("instructions, the kernel takes 4096"), "{error}");
}

#[test]
fn flags_become_bits() {
    let cases = [
        ("", 4),
        (r#","flags":null"#, 4),
        (r#","flags":[]"#, 0),
        (r#","flags":["SECCOMP_FILTER_FLAG_TSYNC"]"#, 0),
        (r#","flags":["SECCOMP_FILTER_FLAG_LOG","SECCOMP_FILTER_FLAG_SPEC_ALLOW"]"#, 6),
        (r#","flags":["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]"#, 0),
    ];
    for (flags, bits) in cases {
        assert_eq!(filter(&format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW"{flags}}}"#)).flags, bits, "{flags}");
    }
}

#[test]
fn notify_comes_with_its_listener() {
    let filter = filter(
        r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
            "listenerPath":"/run/agent","listenerMetadata":"who",
            "syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_NOTIFY"}]}"#,
    );
    assert_eq!(filter.flags, 0x28);
    assert_eq!(filter.agent, Some(Agent { socket: "/run/agent".into(), metadata: "who".to_owned() }));
    check(&filter, &[(call(83, &[]), NOTIFY)]);
}

#[test]
fn an_empty_profile_means_no_seccomp() {
    assert_eq!(compile(&profile("{}"), Arch::X86_64).unwrap(), None);
    assert_eq!(compile(&profile(r#"{"flags":["FOO"]}"#), Arch::X86_64).unwrap(), None);
    let nothing_named = filter(r#"{"defaultAction":"SCMP_ACT_ERRNO"}"#);
    check(
        &nothing_named,
        &[(call(0, &[]), EPERM), (call(999, &[]), EPERM), (foreign(X86, 0, &[]), KILL_THREAD)],
    );
}

#[test]
fn the_tables_for_features_are_what_is_accepted() {
    let names: Vec<&str> = crate::plan::seccomp::ARCHITECTURES.iter().map(|(name, _)| *name).collect();
    for sorted in [crate::plan::seccomp::ACTIONS, crate::plan::seccomp::OPERATORS, &names] {
        assert!(sorted.is_sorted());
    }
    let all = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": names});
    check(
        &filter(&all.to_string()),
        &[(foreign(ARM, 4, &[]), ALLOW), (foreign(0x8000_0016, 4, &[]), KILL_THREAD)],
    );
    for action in crate::plan::seccomp::ACTIONS.iter().filter(|action| !action.ends_with("NOTIFY")) {
        filter(&format!(r#"{{"defaultAction":"{action}"}}"#));
    }
}

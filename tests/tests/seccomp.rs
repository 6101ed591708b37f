//! Seccomp: actions, conditions and when the filter comes.

use pintle_tests::*;

fn filter(b: &mut Bundle, default: &str, syscalls: Value) {
    b.set(
        "/linux/seccomp",
        json!({"defaultAction": default, "architectures": ["SCMP_ARCH_X86_64"], "syscalls": syscalls}),
    );
}

fn mkdir(t: &Sandbox, b: &mut Bundle) -> Value {
    t.report(b.writable().args(&["/probe", "try", "mkdir", "/data/x"]))[0]["errno"].clone()
}

#[test]
fn errno_is_eperm_unless_asked() {
    rows(
        [("default", Value::Null, "EPERM"), ("ENOSYS", json!(38), "ENOSYS"), ("EXDEV", json!(18), "EXDEV")]
            .map(|(n, r, e)| (n, (r, e))),
        |(number, errno)| {
            let t = Sandbox::new();
            let mut b = t.bundle();
            let mut rule = json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"});
            if number.is_number() {
                rule["errnoRet"] = number;
            }
            filter(&mut b, "SCMP_ACT_ALLOW", json!([rule]));
            assert_eq!(mkdir(&t, &mut b), errno);
        },
    );
}

#[test]
fn the_mode_is_filter() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        filter(&mut b, "SCMP_ACT_ALLOW", json!([{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]));
        assert_eq!(t.report(&b)["status"]["Seccomp"], "2");
    });
}

#[test]
fn conditions_on_arguments_decide() {
    let cases = [
        ("EQ 0", "SCMP_CMP_EQ", 0o700u64, 0, ""),
        ("EQ", "SCMP_CMP_EQ", 0o777, 0, "EPERM"),
        ("NE", "SCMP_CMP_NE", 0o777, 0, ""),
        ("LT", "SCMP_CMP_LT", 0o1000, 0, "EPERM"),
        ("LE", "SCMP_CMP_LE", 0o776, 0, ""),
        ("GE", "SCMP_CMP_GE", 0o777, 0, "EPERM"),
        ("GT", "SCMP_CMP_GT", 0o777, 0, ""),
        ("MASKED_EQ", "SCMP_CMP_MASKED_EQ", 0o700, 0o700, "EPERM"),
    ];
    rows(
        cases.map(|(n, o, v, m, e)| (n, (o, v, m, e))),
        |(op, value, two, errno): (&str, u64, u64, &str)| {
            let t = Sandbox::new();
            let mut b = t.bundle();
            filter(
                &mut b,
                "SCMP_ACT_ALLOW",
                json!([{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 1, "value": value, "valueTwo": two, "op": op}]}]),
            );
            assert_eq!(mkdir(&t, &mut b), errno);
        },
    );
}

#[test]
fn unknown_calls_are_passed_over() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        filter(
            &mut b,
            "SCMP_ACT_ALLOW",
            json!([{"names": ["no_such_call", "mkdir"], "action": "SCMP_ACT_ERRNO"}]),
        );
        assert_eq!(mkdir(&t, &mut b), "EPERM");
    });
}

#[test]
fn kill_ends_the_process() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        filter(&mut b, "SCMP_ACT_ALLOW", json!([{"names": ["mkdir"], "action": "SCMP_ACT_KILL_PROCESS"}]));
        t.run(b.writable().args(&["/probe", "try", "mkdir", "/data/x"])).exits(128 + 31);
    });
}

#[test]
fn log_lets_the_call_through() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        filter(&mut b, "SCMP_ACT_ALLOW", json!([{"names": ["mkdir"], "action": "SCMP_ACT_LOG"}]));
        assert_eq!(mkdir(&t, &mut b), "");
    });
}

#[test]
fn the_filter_holds_with_and_without_new_privileges() {
    rows([("with", true), ("without", false)], |no_new_privileges| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set("/process/noNewPrivileges", json!(no_new_privileges));
        filter(&mut b, "SCMP_ACT_ALLOW", json!([{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]));
        assert_eq!(mkdir(&t, &mut b), "EPERM");
    });
}

#[test]
fn exec_has_the_filter_too() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        filter(&mut b, "SCMP_ACT_ALLOW", json!([{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]));
        b.writable().args(&["/probe", "wait"]);
        let c = t.start(&b);
        assert_eq!(c.exec(&["/probe", "try", "mkdir", "/data/x"]).ok().json()[0]["errno"], "EPERM");
    });
}

#[test]
fn unknown_words_of_a_profile_are_named() {
    let cases = [
        ("action", json!({"defaultAction": "SCMP_ACT_FOO"}), "SCMP_ACT_FOO"),
        (
            "architecture",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_FOO"]}),
            "SCMP_ARCH_FOO",
        ),
        (
            "operator",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_FOO"}]}]}),
            "SCMP_CMP_FOO",
        ),
    ];
    rows(cases.map(|(n, p, text)| (n, (p, text))), |(profile, text)| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set("/linux/seccomp", profile);
        t.run(&b).fails(1, text);
    });
}

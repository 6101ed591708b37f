//! `linux.memoryPolicy`: the NUMA policy of a container's processes, as /proc/PID/numa_maps shows it.

use pintle_tests::*;
use serde_json::json;
use std::path::Path;

fn needs_numa() {
    if !Path::new("/proc/self/numa_maps").exists() {
        skip("a kernel without NUMA");
    }
}

#[test]
fn the_memory_policy_holds_for_the_container_and_its_execs() {
    let cases = [
        ("bind", json!({"mode": "MPOL_BIND", "nodes": "0"}), "bind:0"),
        (
            "preferred, static",
            json!({"mode": "MPOL_PREFERRED", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}),
            "prefer=static:0",
        ),
        (
            "interleave, relative",
            json!({"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"]}),
            "interleave=relative:0",
        ),
        ("local", json!({"mode": "MPOL_LOCAL"}), "local"),
        ("default", json!({"mode": "MPOL_DEFAULT"}), "default"),
    ];
    rows(cases.map(|(n, policy, expect)| (n, (policy, expect))), |(policy, expect)| {
        needs_numa();
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set("/linux/memoryPolicy", policy);
        assert_eq!(t.report(&b)["memory_policy"], expect);
        b.args(&["/probe", "wait"]);
        assert_eq!(t.start(&b).exec(&["/probe", "report"]).ok().json()["memory_policy"], expect);
    });
}

#[test]
fn without_a_memory_policy_the_callers_stays() {
    behaviour(|| {
        needs_numa();
        let t = Sandbox::new();
        assert_eq!(t.report(&t.bundle())["memory_policy"], "default");
    });
}

#[test]
fn features_name_the_modes_and_the_flags() {
    behaviour(|| {
        let features = Sandbox::new().call(["features"]).ok().json();
        let modes =
            ["BIND", "DEFAULT", "INTERLEAVE", "LOCAL", "PREFERRED", "PREFERRED_MANY", "WEIGHTED_INTERLEAVE"];
        let flags = ["NUMA_BALANCING", "RELATIVE_NODES", "STATIC_NODES"];
        let expect = json!({"modes": modes.map(|m| format!("MPOL_{m}")), "flags": flags.map(|f| format!("MPOL_F_{f}"))});
        assert_eq!(features["linux"]["memoryPolicy"], expect);
        let rdt = json!({"enabled": true, "schemata": true, "monitoring": true});
        assert_eq!(features["linux"]["intelRdt"], rdt, "whatever the machine has");
    });
}

#[test]
fn a_wrong_memory_policy_is_an_error_of_create() {
    let cases = [
        ("no mode", json!({}), "invalid memory policy mode \"\""),
        ("mode", json!({"mode": "MPOL_X", "nodes": "0"}), "invalid memory policy mode \"MPOL_X\""),
        (
            "flag",
            json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["X"]}),
            "invalid memory policy flag \"X\"",
        ),
        (
            "nodes",
            json!({"mode": "MPOL_BIND", "nodes": "0-x"}),
            "invalid memory policy nodes \"0-x\": strconv.ParseUint: parsing \"x\": invalid syntax",
        ),
        (
            "too few",
            json!({"mode": "MPOL_INTERLEAVE"}),
            "memory policy mode requires at least one node but got 0",
        ),
        (
            "too many",
            json!({"mode": "MPOL_DEFAULT", "nodes": "0"}),
            "memory policy mode requires 0 nodes but got 1",
        ),
        (
            "no such node",
            json!({"mode": "MPOL_BIND", "nodes": "1000"}),
            "error during container init: set_mempolicy: invalid argument",
        ),
        (
            "flags that exclude each other",
            json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]}),
            "error during container init: set_mempolicy: invalid argument",
        ),
    ];
    rows(cases.map(|(n, policy, text)| (n, (policy, text))), |(policy, text)| {
        needs_numa();
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set("/linux/memoryPolicy", policy);
        t.try_create(&b).fails(1, text);
    });
}

//! Limits that the kernel refuses: the error names the place in config.json, the value and what would have been taken;
//! and what it says would be taken is taken. Needs the controllers of cgroup v2, as the test machine has them.

use pintle_tests::*;
use std::fs;

/// Each row: the resources, and the words of the error.
#[test]
fn a_refused_limit_says_where_what_and_what_is_allowed() {
    let quota = "the quota is at least 1000 and at most 17592186044415 microseconds, or -1 for none";
    let cases: [(&str, Value, &[&str]); 17] = [
        (
            "quota",
            json!({"cpu": {"quota": 999, "period": 100_000}}),
            &[
                "linux.resources.cpu.quota: ",
                "failed to write \"999 100000\": write ",
                "cpu.max: invalid argument",
                quota,
            ],
        ),
        (
            "period",
            json!({"cpu": {"quota": 50_000, "period": 999}}),
            &[
                "cpu.max: invalid argument",
                "the period (linux.resources.cpu.period) is 1000 to 1000000 microseconds, not 999",
            ],
        ),
        (
            "period alone",
            json!({"cpu": {"period": 1_000_001}}),
            &["linux.resources.cpu.period: ", "is 1000 to 1000000 microseconds, not 1000001"],
        ),
        (
            "burst",
            json!({"cpu": {"quota": 50_000, "burst": 50_001}}),
            &[
                "failed to write \"50000 100000\": write ",
                "here the quota is at least the burst (linux.resources.cpu.burst), which is 50001 microseconds",
            ],
        ),
        (
            "idle",
            json!({"cpu": {"idle": 2}}),
            &["linux.resources.cpu.idle: ", "invalid argument; it is 0 or 1"],
        ),
        (
            "idle with shares",
            json!({"cpu": {"idle": 1, "shares": 512}}),
            &["linux.resources.cpu.shares: ", "takes no weight: leave linux.resources.cpu.shares out"],
        ),
        (
            "cpus",
            json!({"cpu": {"cpus": "99999"}}),
            &[
                "linux.resources.cpu.cpus: ",
                "cpuset.cpus: numerical result out of range; here there are CPUs 0",
            ],
        ),
        (
            "no list of cpus",
            json!({"cpu": {"cpus": "one"}}),
            &["linux.resources.cpu.cpus: failed to write \"one\"", "invalid argument; here there are CPUs 0"],
        ),
        (
            "mems",
            json!({"cpu": {"mems": "63"}}),
            &["linux.resources.cpu.mems: ", "here there are memory nodes 0"],
        ),
        (
            "pids",
            json!({"pids": {"limit": 4_194_305}}),
            &["linux.resources.pids.limit: ", "pids.max: invalid argument; it is 0 to 4194304"],
        ),
        (
            "weight of io",
            json!({"blockIO": {"weight": 9}}),
            &["linux.resources.blockIO.weight: 9 is not between 10 and 1000"],
        ),
        (
            "no such disk",
            json!({"blockIO": {"throttleReadBpsDevice": [{"major": 9, "minor": 99, "rate": 10}]}}),
            &[
                "linux.resources.blockIO.throttleReadBpsDevice[0]: failed to write \"9:99 rbps=10\"",
                "io.max: no such device; limits are for whole block devices, here ",
            ],
        ),
        (
            "huge pages",
            json!({"hugepageLimits": [{"pageSize": "3MB", "limit": 3_145_728}]}),
            &[
                "linux.resources.hugepageLimits[0].limit: cannot write hugetlb.3MB.max: this machine has huge pages of 2MB",
            ],
        ),
        (
            "rdma",
            json!({"rdma": {"mlx5_9": {"hcaHandles": 3}}}),
            &["linux.resources.rdma[\"mlx5_9\"]: ", "rdma.max: ", "here there are no RDMA devices"],
        ),
        (
            "unified",
            json!({"unified": {"memory.max": "lots"}}),
            &[
                "linux.resources.unified[\"memory.max\"]: unable to set unified resource \"memory.max\": failed to write \"lots\"",
                "it is a number of bytes, or \"max\"",
            ],
        ),
        (
            "unified weight",
            json!({"unified": {"cpu.weight": "10001"}}),
            &["cpu.weight: numerical result out of range; it is 1 to 10000"],
        ),
        (
            "unified weight of io",
            json!({"unified": {"io.weight": "10001"}}),
            &["io.weight: ", "; it is 1 to 10000"],
        ),
    ];
    rows(cases.map(|(name, resources, words)| (name, (resources, words))), |(resources, words)| {
        if Runtime::under_test() != Runtime::Pintle {
            skip("the words are pintle's own");
        }
        needs_all();
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set("/linux/resources", resources);
        let output = t.try_create(&b);
        let error = output.error();
        for word in words {
            assert!(error.contains(word), "{word:?} in {error:?}");
        }
        assert_eq!((output.code, t.entries()), (1, 0));
    });
}

/// The ends of the ranges that the errors name.
#[test]
fn the_least_and_the_most_that_errors_name_are_taken() {
    let cases = [
        ("least quota", json!({"cpu": {"quota": 1000, "period": 1000}}), "cpu.max", "1000 1000"),
        (
            "longest period",
            json!({"cpu": {"quota": 900_000, "period": 1_000_000}}),
            "cpu.max",
            "900000 1000000",
        ),
        ("most quota", json!({"cpu": {"quota": 17_592_186_044_415_i64}}), "cpu.max", "17592186044415 100000"),
        ("most burst", json!({"cpu": {"quota": 50_000, "burst": 50_000}}), "cpu.max.burst", "50000"),
        ("most pids", json!({"pids": {"limit": 4_194_304}}), "pids.max", "4194304"),
        ("least weight of io", json!({"blockIO": {"weight": 10}}), "io.weight", "default 1"),
        ("most weight of io", json!({"blockIO": {"weight": 1000}}), "io.weight", "default 10000"),
        ("least weight", json!({"unified": {"cpu.weight": "1"}}), "cpu.weight", "1"),
        ("most weight", json!({"unified": {"cpu.weight": "10000"}}), "cpu.weight", "10000"),
    ];
    rows(
        cases.map(|(name, resources, file, value)| (name, (resources, file, value))),
        |(resources, file, value)| {
            needs_all();
            let t = Sandbox::new();
            let mut b = t.bundle();
            b.args(&["/probe", "wait"]).set("/linux/resources", resources);
            let c = t.start(&b);
            assert_eq!(fs::read_to_string(cgroup_of(c.pid()).join(file)).unwrap().trim(), value);
        },
    );
}

fn needs_all() {
    ["memory", "cpu", "cpuset", "pids", "io", "hugetlb", "rdma"].into_iter().for_each(needs_controller);
}

#[test]
fn a_container_without_memory_to_start_says_which_limit_and_what_would_do() {
    rows([4096, 8192, 16_384, 24_576, 32_768, 65_536].map(|bytes| (bytes, bytes)), |bytes| {
        needs_controller("memory");
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.args(&["/probe", "exit", "0"]);
        b.set("/linux/resources/memory", json!({"limit": bytes, "swap": bytes}));
        let output = t.run(&b);
        if Runtime::under_test() == Runtime::Pintle {
            let error =
                output.fails(1, &format!("linux.resources.memory.limit is {bytes} bytes; with ")).error();
            assert!(["OOM-killed", "memory"].iter().any(|word| error.contains(word)), "{error}");
        } else {
            assert_ne!(output.code, 0);
        }
        assert_eq!(t.entries(), 0);
    });
}

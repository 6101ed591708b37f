//! The rows of the table: values of `linux.resources` as config.json has them. Devices are the loop devices 7:0 and 7:1.

use pintle_tests::{Value, json};

/// What the machine has when a row is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// As it is after its start, and with loop devices.
    Plain,
    /// With the BFQ scheduler, on the loop devices too.
    Bfq,
    /// With an RDMA device called rxe0.
    Rdma,
}

/// All rows of a stage.
pub fn of(stage: Stage) -> Vec<Value> {
    match stage {
        Stage::Plain => {
            [vec![json!({})], memory(), cpu(), cpuset(), pids(), io(), hugetlb(), unified()].concat()
        }
        Stage::Bfq => bfq(),
        Stage::Rdma => rdma(),
    }
}

/// Few rows, each with many resources at once, and what is easily got wrong.
pub fn quick(stage: Stage) -> Vec<Value> {
    let throttle = json!([{"major": 7, "minor": 0, "rate": 1000}]);
    match stage {
        Stage::Plain => vec![
            json!({}),
            json!({
                "memory": {"limit": 67_108_865, "reservation": 33_554_432, "swap": 100_663_296},
                "cpu": {"shares": 3, "quota": 12_345, "period": 100_000, "burst": 10_000, "cpus": "0", "mems": "0"},
                "pids": {"limit": 0},
                "blockIO": {"weight": 500, "throttleReadBpsDevice": throttle, "throttleWriteIOPSDevice": throttle},
                "hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}],
            }),
            json!({"memory": {"limit": -1, "swap": -1}, "cpu": {"shares": 1025, "quota": -1}, "pids": {"limit": -1}}),
            json!({"memory": {"limit": 67_108_864, "swap": 33_554_432}}),
            json!({"cpu": {"idle": 1}, "memory": {"limit": 67_108_864, "swap": -1}}),
            json!({"cpu": {"quota": 999}}),
            json!({"unified": {
                "memory.high": "50331648", "memory.swap.max": "0", "pids.max": "7", "cpu.weight": "42",
                "cpu.max": "20000 50000", "cpuset.cpus": "0", "cgroup.max.depth": "3",
                "io.max": "7:0 rbps=1000\n7:1 wbps=2000\n"}}),
            json!({"unified": {"nothing.max": "1"}}),
        ],
        Stage::Bfq => vec![json!({"blockIO": {"weightDevice": [{"major": 7, "minor": 0, "weight": 500}]}})],
        Stage::Rdma => rdma().into_iter().take(1).collect(),
    }
}

fn each(resource: &str, values: impl IntoIterator<Item = Value>) -> Vec<Value> {
    values.into_iter().map(|value| json!({ resource: value })).collect()
}

fn memory() -> Vec<Value> {
    let mib = |n: i64| n << 20;
    each(
        "memory",
        [
            json!({"limit": mib(64)}),
            json!({"limit": 67_108_865}),
            json!({"limit": -1}),
            json!({"limit": 0}),
            json!({"limit": -2}),
            json!({"reservation": mib(32)}),
            json!({"reservation": -1}),
            json!({"reservation": 0}),
            json!({"limit": mib(64), "reservation": mib(32)}),
            json!({"limit": mib(32), "reservation": mib(64)}),
            json!({"limit": mib(64), "swap": mib(96)}),
            json!({"limit": mib(64), "swap": mib(64)}),
            json!({"limit": mib(64), "swap": -1}),
            json!({"limit": mib(64), "swap": 0}),
            json!({"limit": mib(64), "swap": mib(32)}),
            json!({"limit": -1, "swap": -1}),
            json!({"limit": -1, "swap": 0}),
            json!({"limit": -1, "swap": mib(96)}),
            json!({"limit": 0, "swap": mib(96)}),
            json!({"swap": -1}),
            json!({"swap": mib(96)}),
            json!({"swap": 0}),
            json!({"limit": mib(64), "checkBeforeUpdate": true}),
            json!({"swappiness": 10}),
            json!({"disableOOMKiller": true}),
            json!({"kernel": mib(16), "kernelTCP": mib(16)}),
        ],
    )
}

fn cpu() -> Vec<Value> {
    let shares =
        [0, 1, 2, 3, 10, 100, 512, 1023, 1024, 1025, 2048, 10_000, 262_143, 262_144, 262_145, 1_000_000];
    let other = [
        json!({"quota": 50_000}),
        json!({"quota": 50_000, "period": 100_000}),
        json!({"quota": 12_345, "period": 100_000}),
        json!({"quota": 12_345, "period": 50_000}),
        json!({"quota": 400_000, "period": 100_000}),
        json!({"quota": 1000, "period": 1000}),
        json!({"quota": 1000, "period": 1_000_000}),
        json!({"quota": 999}),
        json!({"quota": 5000, "period": 999}),
        json!({"quota": 5000, "period": 1_000_001}),
        json!({"quota": -1}),
        json!({"quota": -1, "period": 50_000}),
        json!({"quota": 0}),
        json!({"period": 50_000}),
        json!({"period": 0}),
        json!({"quota": 50_000, "period": 100_000, "burst": 20_000}),
        json!({"quota": 50_000, "period": 100_000, "burst": 60_000}),
        json!({"burst": 20_000}),
        json!({"burst": 0}),
        json!({"idle": 1}),
        json!({"idle": 0}),
        json!({"idle": 2}),
        json!({"idle": 1, "shares": 512}),
        json!({"realtimeRuntime": 950_000, "realtimePeriod": 1_000_000}),
    ];
    each("cpu", shares.map(|shares| json!({"shares": shares})).into_iter().chain(other))
}

fn cpuset() -> Vec<Value> {
    each(
        "cpu",
        [
            json!({"cpus": "0"}),
            json!({"cpus": "0-1"}),
            json!({"cpus": "1,0"}),
            json!({"cpus": ""}),
            json!({"cpus": "7"}),
            json!({"cpus": "x"}),
            json!({"mems": "0"}),
            json!({"mems": "1"}),
            json!({"cpus": "1", "mems": "0"}),
        ],
    )
}

fn pids() -> Vec<Value> {
    each("pids", [5, 1, 0, -1, -2].map(|limit| json!({"limit": limit})))
}

fn io() -> Vec<Value> {
    let device = |key: &str, rate: u64| json!({key: [{"major": 7, "minor": 0, "rate": rate}]});
    let weights = [0, 5, 10, 11, 100, 500, 1000, 1001].map(|weight| json!({"weight": weight}));
    let others = [
        device("throttleReadBpsDevice", 1_048_576),
        device("throttleWriteBpsDevice", 1_048_577),
        device("throttleReadIOPSDevice", 100),
        device("throttleWriteIOPSDevice", 200),
        device("throttleReadBpsDevice", 0),
        json!({
            "throttleReadBpsDevice": [{"major": 7, "minor": 0, "rate": 1000}, {"major": 7, "minor": 1, "rate": 2000}],
            "throttleWriteBpsDevice": [{"major": 7, "minor": 0, "rate": 3000}],
            "throttleReadIOPSDevice": [{"major": 7, "minor": 0, "rate": 4000}],
            "throttleWriteIOPSDevice": [{"major": 7, "minor": 1, "rate": 5000}],
        }),
        json!({"throttleReadBpsDevice": [{"major": 199, "minor": 9, "rate": 1000}]}),
        json!({"leafWeight": 100}),
        json!({"weightDevice": [{"major": 7, "minor": 0, "weight": 500}]}),
    ];
    each("blockIO", weights.into_iter().chain(others))
}

fn bfq() -> Vec<Value> {
    let device =
        |number: i64, weight: u16| json!({"weightDevice": [{"major": 7, "minor": number, "weight": weight}]});
    let weights = [5, 10, 100, 500, 1000, 1001].map(|weight| json!({"weight": weight}));
    let others = [
        device(0, 500),
        device(0, 5),
        json!({"weight": 300, "weightDevice": [
            {"major": 7, "minor": 0, "weight": 500}, {"major": 7, "minor": 1, "weight": 600}]}),
        json!({"weightDevice": [{"major": 7, "minor": 0, "weight": 500, "leafWeight": 300}]}),
        json!({"weightDevice": [{"major": 199, "minor": 9, "weight": 500}]}),
    ];
    each("blockIO", weights.into_iter().chain(others))
}

fn hugetlb() -> Vec<Value> {
    let one = |size: &str, limit: u64| json!([{"pageSize": size, "limit": limit}]);
    each(
        "hugepageLimits",
        [
            one("2MB", 4_194_304),
            one("2MB", 0),
            one("2MB", 4_194_305),
            one("2MB", 1000),
            one("1GB", 1 << 30),
            one("3MB", 6 << 20),
            json!([{"pageSize": "2MB", "limit": 2_097_152}, {"pageSize": "1GB", "limit": 0}]),
        ],
    )
}

fn rdma() -> Vec<Value> {
    each(
        "rdma",
        [
            json!({"rxe0": {"hcaHandles": 3, "hcaObjects": 1000}}),
            json!({"rxe0": {"hcaHandles": 0}}),
            json!({"rxe0": {"hcaObjects": 7}}),
            json!({"rxe0": {}}),
            json!({"none0": {"hcaHandles": 3}}),
        ],
    )
}

fn unified() -> Vec<Value> {
    let both = [
        json!({"memory": {"limit": 67_108_864}, "unified": {"memory.max": "33554432"}}),
        json!({"pids": {"limit": 5}, "unified": {"pids.max": "9"}}),
        json!({"cpu": {"shares": 512}, "unified": {"cpu.weight": "300"}}),
    ];
    let alone = [
        json!({"memory.high": "50331648"}),
        json!({"memory.high": "48M"}),
        json!({"memory.min": "1048576", "memory.low": "2097152"}),
        json!({"memory.max": "max"}),
        json!({"memory.max": "67108864", "memory.swap.max": "0"}),
        json!({"memory.oom.group": "1"}),
        json!({"memory.zswap.max": "0"}),
        json!({"pids.max": "7"}),
        json!({"pids.max": "max"}),
        json!({"cpu.weight": "42"}),
        json!({"cpu.idle": "1"}),
        json!({"cpu.max": "20000 50000"}),
        json!({"cpu.max": "20000"}),
        json!({"cpu.max": "max"}),
        json!({"cpu.max": "max 50000"}),
        json!({"cpu.uclamp.max": "50.00"}),
        json!({"cpuset.cpus": "0", "cpuset.mems": "0"}),
        json!({"io.max": "7:0 rbps=1000 wiops=20"}),
        json!({"io.max": "7:0 rbps=1000\n7:1 wbps=2000\n"}),
        json!({"io.max": "7:0 rbps=1000\n7:0 riops=20"}),
        json!({"io.weight": "77"}),
        json!({"io.weight": "default 77"}),
        json!({"hugetlb.2MB.max": "4194304"}),
        json!({"misc.max": "nothing 1"}),
        json!({"cgroup.max.depth": "3"}),
        json!({"cgroup.freeze": "0"}),
        json!({"memory.high": ""}),
        json!({"memory.nothing": "1"}),
        json!({"nothing.max": "1"}),
        json!({"nothing": "1"}),
        json!({"a/b": "1"}),
        json!({"../memory.max": "1"}),
        json!({"pids.max": "many"}),
        json!({"cpu.weight": "0"}),
    ];
    each("unified", alone).into_iter().chain(both).collect()
}

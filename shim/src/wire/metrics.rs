//! io.containerd.cgroups.v2.Metrics (containerd/cgroups, cgroup2/stats/metrics.proto)

#![allow(missing_docs, reason = "the names are containerd's; those that say too little have a word")]

/// The name of the type of [`Metrics`].
pub const TYPE: &str = "io.containerd.cgroups.v2.Metrics";

/// What a container uses.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Metrics {
    #[prost(message, optional, tag = "1")]
    pub pids: Option<Pids>,
    #[prost(message, optional, tag = "2")]
    pub cpu: Option<Cpu>,
    #[prost(message, optional, tag = "4")]
    pub memory: Option<Memory>,
    #[prost(message, optional, tag = "5")]
    pub rdma: Option<Rdma>,
    #[prost(message, optional, tag = "6")]
    pub io: Option<Io>,
    #[prost(message, repeated, tag = "7")]
    pub hugetlb: Vec<HugeTlb>,
    #[prost(message, optional, tag = "8")]
    pub memory_events: Option<MemoryEvents>,
    #[prost(message, repeated, tag = "9")]
    pub network: Vec<Network>,
}

/// Shares in percent, and the sum in microseconds.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Pressure {
    #[prost(double, tag = "1")]
    pub avg10: f64,
    #[prost(double, tag = "2")]
    pub avg60: f64,
    #[prost(double, tag = "3")]
    pub avg300: f64,
    #[prost(uint64, tag = "4")]
    pub total: u64,
}

/// How much work waits: of some tasks, of all.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Psi {
    #[prost(message, optional, tag = "1")]
    pub some: Option<Pressure>,
    #[prost(message, optional, tag = "2")]
    pub full: Option<Pressure>,
}

/// pids.*
#[derive(Clone, PartialEq, prost::Message)]
pub struct Pids {
    #[prost(uint64, tag = "1")]
    pub current: u64,
    #[prost(uint64, tag = "2")]
    pub limit: u64,
}

/// cpu.stat
#[derive(Clone, PartialEq, prost::Message)]
pub struct Cpu {
    #[prost(uint64, tag = "1")]
    pub usage_usec: u64,
    #[prost(uint64, tag = "2")]
    pub user_usec: u64,
    #[prost(uint64, tag = "3")]
    pub system_usec: u64,
    #[prost(uint64, tag = "4")]
    pub nr_periods: u64,
    #[prost(uint64, tag = "5")]
    pub nr_throttled: u64,
    #[prost(uint64, tag = "6")]
    pub throttled_usec: u64,
    #[prost(message, optional, tag = "7")]
    pub psi: Option<Psi>,
    #[prost(uint64, tag = "8")]
    pub nr_bursts: u64,
    #[prost(uint64, tag = "9")]
    pub burst_usec: u64,
}

/// memory.*
#[derive(Clone, PartialEq, prost::Message)]
pub struct Memory {
    #[prost(uint64, tag = "1")]
    pub anon: u64,
    #[prost(uint64, tag = "2")]
    pub file: u64,
    #[prost(uint64, tag = "3")]
    pub kernel_stack: u64,
    #[prost(uint64, tag = "4")]
    pub slab: u64,
    #[prost(uint64, tag = "5")]
    pub sock: u64,
    #[prost(uint64, tag = "6")]
    pub shmem: u64,
    #[prost(uint64, tag = "7")]
    pub file_mapped: u64,
    #[prost(uint64, tag = "8")]
    pub file_dirty: u64,
    #[prost(uint64, tag = "9")]
    pub file_writeback: u64,
    #[prost(uint64, tag = "10")]
    pub anon_thp: u64,
    #[prost(uint64, tag = "11")]
    pub inactive_anon: u64,
    #[prost(uint64, tag = "12")]
    pub active_anon: u64,
    #[prost(uint64, tag = "13")]
    pub inactive_file: u64,
    #[prost(uint64, tag = "14")]
    pub active_file: u64,
    #[prost(uint64, tag = "15")]
    pub unevictable: u64,
    #[prost(uint64, tag = "16")]
    pub slab_reclaimable: u64,
    #[prost(uint64, tag = "17")]
    pub slab_unreclaimable: u64,
    #[prost(uint64, tag = "18")]
    pub pgfault: u64,
    #[prost(uint64, tag = "19")]
    pub pgmajfault: u64,
    #[prost(uint64, tag = "20")]
    pub workingset_refault: u64,
    #[prost(uint64, tag = "21")]
    pub workingset_activate: u64,
    #[prost(uint64, tag = "22")]
    pub workingset_nodereclaim: u64,
    #[prost(uint64, tag = "23")]
    pub pgrefill: u64,
    #[prost(uint64, tag = "24")]
    pub pgscan: u64,
    #[prost(uint64, tag = "25")]
    pub pgsteal: u64,
    #[prost(uint64, tag = "26")]
    pub pgactivate: u64,
    #[prost(uint64, tag = "27")]
    pub pgdeactivate: u64,
    #[prost(uint64, tag = "28")]
    pub pglazyfree: u64,
    #[prost(uint64, tag = "29")]
    pub pglazyfreed: u64,
    #[prost(uint64, tag = "30")]
    pub thp_fault_alloc: u64,
    #[prost(uint64, tag = "31")]
    pub thp_collapse_alloc: u64,
    #[prost(uint64, tag = "32")]
    pub usage: u64,
    #[prost(uint64, tag = "33")]
    pub usage_limit: u64,
    #[prost(uint64, tag = "34")]
    pub swap_usage: u64,
    #[prost(uint64, tag = "35")]
    pub swap_limit: u64,
    #[prost(uint64, tag = "36")]
    pub max_usage: u64,
    #[prost(uint64, tag = "37")]
    pub swap_max_usage: u64,
    #[prost(message, optional, tag = "38")]
    pub psi: Option<Psi>,
}

/// memory.events
#[derive(Clone, PartialEq, prost::Message)]
pub struct MemoryEvents {
    #[prost(uint64, tag = "1")]
    pub low: u64,
    #[prost(uint64, tag = "2")]
    pub high: u64,
    #[prost(uint64, tag = "3")]
    pub max: u64,
    #[prost(uint64, tag = "4")]
    pub oom: u64,
    #[prost(uint64, tag = "5")]
    pub oom_kill: u64,
    #[prost(uint64, tag = "6")]
    pub oom_group_kill: u64,
}

/// rdma.*
#[derive(Clone, PartialEq, prost::Message)]
pub struct Rdma {
    #[prost(message, repeated, tag = "1")]
    pub current: Vec<RdmaEntry>,
    #[prost(message, repeated, tag = "2")]
    pub limit: Vec<RdmaEntry>,
}

/// One device.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RdmaEntry {
    #[prost(string, tag = "1")]
    pub device: String,
    #[prost(uint32, tag = "2")]
    pub hca_handles: u32,
    #[prost(uint32, tag = "3")]
    pub hca_objects: u32,
}

/// io.stat
#[derive(Clone, PartialEq, prost::Message)]
pub struct Io {
    #[prost(message, repeated, tag = "1")]
    pub usage: Vec<IoEntry>,
    #[prost(message, optional, tag = "2")]
    pub psi: Option<Psi>,
}

/// One device.
#[derive(Clone, PartialEq, prost::Message)]
pub struct IoEntry {
    #[prost(uint64, tag = "1")]
    pub major: u64,
    #[prost(uint64, tag = "2")]
    pub minor: u64,
    #[prost(uint64, tag = "3")]
    pub rbytes: u64,
    #[prost(uint64, tag = "4")]
    pub wbytes: u64,
    #[prost(uint64, tag = "5")]
    pub rios: u64,
    #[prost(uint64, tag = "6")]
    pub wios: u64,
}

/// One size of pages.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HugeTlb {
    #[prost(uint64, tag = "1")]
    pub current: u64,
    #[prost(uint64, tag = "2")]
    pub max: u64,
    #[prost(string, tag = "3")]
    pub pagesize: String,
    #[prost(uint64, tag = "4")]
    pub failcnt: u64,
}

/// One interface.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Network {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(uint64, tag = "2")]
    pub rx_bytes: u64,
    #[prost(uint64, tag = "3")]
    pub rx_packets: u64,
    #[prost(uint64, tag = "4")]
    pub rx_errors: u64,
    #[prost(uint64, tag = "5")]
    pub rx_dropped: u64,
    #[prost(uint64, tag = "6")]
    pub tx_bytes: u64,
    #[prost(uint64, tag = "7")]
    pub tx_packets: u64,
    #[prost(uint64, tag = "8")]
    pub tx_errors: u64,
    #[prost(uint64, tag = "9")]
    pub tx_dropped: u64,
}

//! The resctrl room on a fake tree: plain files with the names and formats of the kernel's
//! Documentation/filesystems/resctrl.rst, since most machines have no resctrl. What a fake does not do by itself, the
//! test does in the kernel's place: the files that a new group is born with, and that rmdir takes with it.

use pintle::plan::rdt::{Changes, Plan};
use pintle::resctrl::{change, join, offers, prepare, remove, restore, stats, take_back};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

const ROOT_SCHEMATA: &str = "    MB:0=100;1=100\n    L3:0=fffff;1=fffff\n";

/// A tree of a machine with two L3 caches of twenty ways.
struct Fake {
    root: PathBuf,
}

impl Fake {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("pintle-resctrl-{}-{name}", std::process::id()));
        let fake = Self { root };
        for (path, text) in [
            ("schemata", ROOT_SCHEMATA),
            ("tasks", "1\n"),
            ("mon_groups/.dir", ""),
            ("info/last_cmd_status", "ok\n"),
            ("info/L3/cbm_mask", "fffff\n"),
            ("info/L3/min_cbm_bits", "1\n"),
            ("info/L3/num_closids", "16\n"),
            ("info/MB/bandwidth_gran", "10\n"),
            ("info/MB/delay_linear", "1\n"),
            ("info/MB/min_bandwidth", "10\n"),
            ("info/MB/num_closids", "8\n"),
            ("info/L3_MON/mon_features", "llc_occupancy\nmbm_total_bytes\nmbm_local_bytes\n"),
        ] {
            fake.put(path, text);
        }
        fake
    }

    /// Writes a file, with the directories to it.
    fn put(&self, path: &str, text: &str) -> &Self {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    /// A group as the kernel makes it.
    fn group(&self, name: &str, schemata: &str) -> &Self {
        self.put(&format!("{name}/schemata"), schemata).put(&format!("{name}/tasks"), "");
        fs::create_dir(self.root.join(name).join("mon_groups")).unwrap();
        self
    }

    /// As the kernel's rmdir does: its own files do not hold a group.
    fn empty(&self, name: &str) {
        for file in ["schemata", "tasks"] {
            fs::remove_file(self.root.join(name).join(file)).unwrap();
        }
    }

    fn plan(&self, rdt: &serde_json::Value) -> Plan {
        let rdt = serde_json::from_value(rdt.clone()).unwrap();
        Plan::new(&rdt, "c1", Some(&offers(&self.root))).unwrap()
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap()
    }

    fn has(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.root).unwrap();
    }
}

#[test]
fn what_a_tree_offers_is_read_from_its_info() {
    let fake = Fake::new("offers");
    let machine = offers(&fake.root);
    assert!(machine.cache && machine.bandwidth);
    assert_eq!(machine.bandwidth_step, 10);
    fs::remove_dir_all(fake.root.join("info/L3")).unwrap();
    fs::remove_dir_all(fake.root.join("info/MB")).unwrap();
    let machine = offers(&fake.root);
    assert!(!machine.cache && !machine.bandwidth);
    fs::create_dir(fake.root.join("info/L3CODE")).unwrap();
    assert!(offers(&fake.root).cache);
}

#[test]
fn a_containers_own_group_is_made_written_joined_and_removed() {
    let fake = Fake::new("own");
    let plan = fake.plan(&json!({"l3CacheSchema": "L3:0=f;1=ff\nMB:0=5", "memBwSchema": "MB:0=20;1=30"}));
    prepare(&plan).unwrap();
    assert_eq!(fake.read("c1/schemata"), "L3:0=f;1=ff\nMB:0=20;1=30\n");
    join(&plan, 1234).unwrap();
    assert_eq!(fake.read("c1/tasks"), "1234");
    assert_eq!(fake.read("schemata"), ROOT_SCHEMATA);
    fake.empty("c1");
    remove(&plan).unwrap();
    assert!(!fake.has("c1"));
    remove(&plan).unwrap();
}

#[test]
fn a_group_without_schemata_is_left_as_the_kernel_makes_it() {
    let fake = Fake::new("bare");
    let plan = fake.plan(&json!({}));
    let made = prepare(&plan).unwrap();
    assert!(fake.has("c1") && !fake.has("c1/schemata"));
    take_back(&made).unwrap();
    assert!(!fake.has("c1"));
}

#[test]
fn a_closid_alone_must_be_there() {
    let fake = Fake::new("given");
    let plan = fake.plan(&json!({"closID": "gold"}));
    let error = prepare(&plan).unwrap_err().to_string();
    let path = fake.root.join("gold");
    assert_eq!(
        error,
        format!(
            "unable to apply Intel RDT configuration: clos dir not accessible (must be pre-created when schemata, \
             l3CacheSchema and memBwSchema are empty): stat {}: no such file or directory",
            path.display()
        )
    );
    fake.group("gold", ROOT_SCHEMATA);
    prepare(&plan).unwrap();
    join(&plan, 7).unwrap();
    assert_eq!((fake.read("gold/tasks").as_str(), fake.read("gold/schemata").as_str()), ("7", ROOT_SCHEMATA));
    remove(&plan).unwrap();
    assert!(fake.has("gold/tasks"));
}

#[test]
fn a_closid_with_schemata_is_made_once_and_stays() {
    let fake = Fake::new("shared");
    let plan = fake.plan(&json!({"closID": "gold", "schemata": ["L3:0=f", "MB:0=35"]}));
    let made = prepare(&plan).unwrap();
    assert_eq!(fake.read("gold/schemata"), "L3:0=f\nMB:0=35\n");
    // As the kernel shows it: every domain, masks with zeros before them, bandwidths rounded up.
    fake.put("gold/schemata", "    MB:0=40;1=100\n    L3:0=0000f;1=fffff\n").put("gold/tasks", "");
    let again = prepare(&plan).unwrap();
    assert_eq!(fake.read("gold/schemata"), "    MB:0=40;1=100\n    L3:0=0000f;1=fffff\n");
    take_back(&again).unwrap();
    remove(&plan).unwrap();
    assert!(fake.has("gold"));
    // Had the first birth failed, it would have gone with it.
    fake.empty("gold");
    take_back(&made).unwrap();
    assert!(!fake.has("gold"));
}

#[test]
fn a_closid_that_is_there_with_other_schemata_is_refused_and_not_touched() {
    let fake = Fake::new("other");
    fake.group("gold", ROOT_SCHEMATA);
    for (rdt, place) in [
        (json!({"closID": "gold", "l3CacheSchema": "L3:0=f"}), "gold"),
        (json!({"closID": "/", "schemata": ["L3:0=f"]}), ""),
    ] {
        let error = prepare(&fake.plan(&rdt)).unwrap_err().to_string();
        let expect = "exists already with other schemata: L3:0=f is asked for, L3:0=fffff is there";
        assert!(error.ends_with(expect), "{error}");
        assert_eq!(fake.read(format!("{place}/schemata").trim_start_matches('/')), ROOT_SCHEMATA);
    }
}

#[test]
fn a_monitoring_group_is_the_containers_own_in_any_group() {
    let fake = Fake::new("monitor");
    fake.group("gold", ROOT_SCHEMATA);
    for (closid, group) in [("gold", "gold/"), ("/", "")] {
        let plan = fake.plan(&json!({"closID": closid, "enableMonitoring": true}));
        prepare(&plan).unwrap();
        prepare(&plan).unwrap();
        join(&plan, 99).unwrap();
        assert_eq!(fake.read(&format!("{group}tasks")), "99");
        let monitor = format!("{group}mon_groups/c1");
        assert_eq!(fake.read(&format!("{monitor}/tasks")), "99");
        fs::remove_file(fake.root.join(&monitor).join("tasks")).unwrap();
        remove(&plan).unwrap();
        assert!(!fake.has(&monitor) && fake.has(&format!("{group}schemata")));
    }
}

#[test]
fn the_kernels_own_words_are_told_and_nothing_is_left() {
    let fake = Fake::new("refused");
    fake.put("info/last_cmd_status", "Mask f00f0 has non-consecutive 1-bits\n");
    // A directory in its place refuses the write; the group was there, so it stays.
    fs::create_dir_all(fake.root.join("c1/schemata")).unwrap();
    let plan = fake.plan(&json!({"l3CacheSchema": "L3:0=f00f0"}));
    assert_eq!(
        prepare(&plan).unwrap_err().to_string(),
        "unable to apply Intel RDT configuration: intelrdt: unable to write \"L3:0=f00f0\\n\": is a directory, \
         last_cmd_status: Mask f00f0 has non-consecutive 1-bits"
    );
    assert!(fake.has("c1"));
    // No place for a monitoring group: the group that was made for it is gone again.
    let plan = fake.plan(&json!({"closID": "new", "schemata": ["L3:0=f"], "enableMonitoring": true}));
    let plan = Plan { schemata: Vec::new(), origin: pintle::plan::rdt::Origin::Shared, ..plan };
    let error = prepare(&plan).unwrap_err().to_string();
    assert!(
        error.contains("/new/mon_groups/c1: no such file or directory, last_cmd_status: Mask"),
        "{error}"
    );
    assert!(!fake.has("new"));
}

#[test]
fn an_update_writes_the_new_lines_and_can_be_taken_back() {
    let fake = Fake::new("update");
    fake.group("c1", ROOT_SCHEMATA);
    let plan = fake.plan(&json!({}));
    let changes = Changes { l3_cache_schema: Some("L3:0=3".into()), mem_bw_schema: Some("MB:1=50".into()) };
    let lines = changes.lines(Some(&offers(&fake.root)), true).unwrap();
    let before = change(&plan, &lines).unwrap();
    assert_eq!((before.as_str(), fake.read("c1/schemata").as_str()), (ROOT_SCHEMATA, "L3:0=3\nMB:1=50\n"));
    restore(&plan, &before).unwrap();
    assert_eq!(fake.read("c1/schemata"), ROOT_SCHEMATA);
}

#[test]
fn stats_have_runcs_keys_in_runcs_order() {
    let fake = Fake::new("stats");
    fake.group("c1", "    MB:0=20;1=100\n    L3:0=0000f;1=fffff\n");
    for (cache, occupancy, total) in [("00", "65536\n", "1000\n"), ("01", "0\n", "Unavailable\n")] {
        for (file, text) in
            [("llc_occupancy", occupancy), ("mbm_total_bytes", total), ("mbm_local_bytes", "5\n")]
        {
            fake.put(&format!("c1/mon_data/mon_L3_{cache}/{file}"), text);
        }
    }
    let told = |rdt| serde_json::to_string(&stats::read(&fake.plan(&rdt)).unwrap()).unwrap();
    let head = "{\"l3_cache_info\":{\"cbm_mask\":\"fffff\",\"min_cbm_bits\":1,\"num_closids\":16},\
                \"l3_cache_schema_root\":\"L3:0=fffff;1=fffff\",\"l3_cache_schema\":\"L3:0=0000f;1=fffff\",\
                \"mem_bw_info\":{\"bandwidth_gran\":10,\"delay_linear\":1,\"min_bandwidth\":10,\"num_closids\":8},\
                \"mem_bw_schema_root\":\"MB:0=100;1=100\",\"mem_bw_schema\":\"MB:0=20;1=100\",\
                \"schemata\":[\"MB:0=20;1=100\",\"L3:0=0000f;1=fffff\"]";
    let monitors = "\"mbm_stats\":[{\"mbm_total_bytes\":1000,\"mbm_local_bytes\":5},{\"mbm_local_bytes\":5}],\
                    \"cmt_stats\":[{\"llc_occupancy\":65536},{}]";
    assert_eq!(told(json!({})), format!("{head},{monitors}}}"));
    // A monitoring group of its own that counts nothing yet.
    fake.put("c1/mon_groups/c1/tasks", "");
    assert_eq!(told(json!({"enableMonitoring": true})), format!("{head}}}"));
}

#[test]
fn stats_of_a_group_that_is_gone_are_an_error() {
    let fake = Fake::new("gone");
    let error = stats::read(&fake.plan(&json!({}))).unwrap_err().to_string();
    let path: &Path = &fake.root.join("c1/schemata");
    let expect = format!(
        "unable to get container Intel RDT stats: read {}: no such file or directory",
        path.display()
    );
    assert_eq!(error, expect);
}

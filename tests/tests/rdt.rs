//! `linux.intelRdt` from outside, where a machine has no resctrl: the runtime is called in a mount namespace in which its
//! own mountinfo names a fake tree. The fake is plain files; what the kernel's would do by itself, the tests do.

use pintle_tests::*;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A resctrl with one L3 cache.
struct Fake<'a> {
    sandbox: &'a Sandbox,
    root: PathBuf,
}

impl<'a> Fake<'a> {
    fn new(sandbox: &'a Sandbox) -> Self {
        needs_program("unshare");
        if Runtime::under_test() != Runtime::Pintle {
            skip("an oracle does not take its resctrl from /proc/self/mountinfo");
        }
        let fake = Self { sandbox, root: sandbox.dir.join("resctrl") };
        for (file, text) in [
            ("schemata", "    MB:0=100\n    L3:0=fffff\n"),
            ("info/last_cmd_status", "the kernel's words\n"),
            ("info/L3/cbm_mask", "fffff\n"),
            ("info/MB/bandwidth_gran", "10\n"),
            ("info/L3_MON/mon_features", "llc_occupancy\n"),
        ] {
            fake.put(file, text);
        }
        fake
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(path, text).expect("a file");
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// The kernel's own files in a group do not hold it.
    fn empty(&self, group: &str) {
        for file in ["schemata", "tasks"] {
            fs::remove_file(self.root.join(group).join(file)).ok();
        }
    }

    /// The runtime, which finds the fake.
    fn call(&self, args: &[&str]) -> Output {
        const SCRIPT: &str = r#"
            { cat /proc/self/mountinfo; echo "9999 1 0:999 / $1 rw - resctrl resctrl rw"; } > "$1.table" &&
            mount --bind "$1.table" /proc/$$/mountinfo && shift && exec "$@""#;
        let runtime = self.sandbox.command();
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", SCRIPT, "sh"]).arg(&self.root);
        command.arg(runtime.get_program()).args(runtime.get_args()).args(args);
        command.stdin(std::process::Stdio::null());
        self.sandbox.finish(command)
    }

    fn create(&self, rdt: Value) -> (String, Output) {
        let (id, mut bundle) = (self.sandbox.id(), self.sandbox.bundle());
        bundle.set("/linux/intelRdt", rdt).args(&["/probe", "wait"]).write();
        let created = self.call(&["create", "--bundle", &bundle.dir.to_string_lossy(), &id]);
        (id, created)
    }

    fn state(&self, id: &str) -> Value {
        let text = fs::read_to_string(self.sandbox.root().join(id).join("state.json")).expect("a state");
        serde_json::from_str(&text).expect("JSON")
    }
}

#[test]
fn a_container_has_a_group_of_its_own_from_create_to_delete() {
    behaviour(|| {
        let t = Sandbox::new();
        let fake = Fake::new(&t);
        let (id, created) = fake.create(json!({"l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=20"}));
        created.ok();
        assert_eq!(fake.read(&format!("{id}/schemata")), "L3:0=f\nMB:0=20\n");
        let state = fake.state(&id);
        assert_eq!(fake.read(&format!("{id}/tasks")), state["init_process_pid"].to_string());
        assert_eq!(state["intel_rdt_path"], json!(fake.root.join(&id)));
        assert_eq!(state.get("intel_rdt_mon_path"), None);
        fake.call(&["start", &id]).ok();
        fs::remove_file(fake.root.join(&id).join("tasks")).unwrap();
        let pid_file = t.dir.join("exec.pid");
        fake.call(&["exec", "-d", "--pid-file", &pid_file.to_string_lossy(), &id, "/probe", "wait"]).ok();
        assert_eq!(fake.read(&format!("{id}/tasks")), fs::read_to_string(pid_file).unwrap());
        fake.empty(&id);
        fake.call(&["delete", "--force", &id]).ok();
        assert!(!fake.root.join(&id).exists());
    });
}

#[test]
fn a_named_group_stays_and_the_monitoring_group_goes() {
    behaviour(|| {
        let t = Sandbox::new();
        let fake = Fake::new(&t);
        fake.put("gold/mon_groups/other/tasks", "");
        let (id, created) = fake.create(json!({"closID": "gold", "enableMonitoring": true}));
        created.ok();
        let monitor = format!("gold/mon_groups/{id}");
        let pid = fake.state(&id)["init_process_pid"].to_string();
        assert_eq!((fake.read("gold/tasks"), fake.read(&format!("{monitor}/tasks"))), (pid.clone(), pid));
        assert_eq!(fake.state(&id)["intel_rdt_mon_path"], json!(fake.root.join(&monitor)));
        fake.empty(&monitor);
        fake.call(&["delete", "--force", &id]).ok();
        assert!(!fake.root.join(&monitor).exists() && fake.root.join("gold/tasks").exists());
    });
}

#[test]
fn update_and_events_reach_the_group() {
    behaviour(|| {
        let t = Sandbox::new();
        let fake = Fake::new(&t);
        let (id, created) = fake.create(json!({}));
        created.ok();
        fake.put(&format!("{id}/schemata"), "    MB:0=100\n    L3:0=fffff\n");
        fake.put(&format!("{id}/mon_data/mon_L3_00/llc_occupancy"), "4096\n");
        let stats = fake.call(&["events", "--stats", &id]).ok().json();
        let expect = json!({"l3_cache_info": {"cbm_mask": "fffff"}, "l3_cache_schema_root": "L3:0=fffff",
            "l3_cache_schema": "L3:0=fffff", "mem_bw_info": {"bandwidth_gran": 10},
            "mem_bw_schema_root": "MB:0=100", "mem_bw_schema": "MB:0=100",
            "schemata": ["MB:0=100", "L3:0=fffff"], "cmt_stats": [{"llc_occupancy": 4096}]});
        assert_eq!(stats["data"]["intel_rdt"], expect);
        fake.call(&["update", "--l3-cache-schema", "L3:0=3", "--mem-bw-schema", "MB:0=50", &id]).ok();
        assert_eq!(fake.read(&format!("{id}/schemata")), "L3:0=3\nMB:0=50\n");
        let resources = t.dir.join("resources.json");
        fs::write(&resources, "{}").unwrap();
        let resources = resources.to_string_lossy();
        fake.call(&["update", "--resources", &resources, "--l3-cache-schema", "L3:0=7", &id]).ok();
        assert_eq!(fake.read(&format!("{id}/schemata")), "L3:0=7\n");
        fs::remove_dir_all(fake.root.join(&id).join("mon_data")).unwrap();
        fake.empty(&id);
        fake.call(&["delete", "--force", &id]).ok();
    });
}

#[test]
fn what_the_group_refuses_is_told_and_nothing_is_left() {
    let cases = [
        ("closID", json!({"closID": "a/b"}), "invalid intelRdt.ClosID \"a/b\""),
        (
            "missing group",
            json!({"closID": "nope"}),
            "unable to start container process: unable to apply Intel RDT configuration: clos dir not accessible (must be \
             pre-created when schemata, l3CacheSchema and memBwSchema are empty): stat ",
        ),
        (
            "other schemata",
            json!({"closID": "/", "schemata": ["L3:0=f"]}),
            "exists already with other schemata: L3:0=f is asked for, L3:0=fffff is there",
        ),
        (
            "the kernel",
            json!({"closID": "bad", "enableMonitoring": true}),
            "no such file or directory, last_cmd_status: the kernel's words",
        ),
    ];
    rows(cases.map(|(n, rdt, text)| (n, (rdt, text))), |(rdt, text)| {
        let t = Sandbox::new();
        let fake = Fake::new(&t);
        fake.put("bad/schemata", "");
        fake.create(rdt).1.fails(1, text);
        assert_eq!(t.entries(), 0);
        assert!(!fake.root.join("nope").exists());
    });
}

#[test]
fn without_resctrl_the_config_and_update_are_refused() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.set("/linux/intelRdt", json!({"closID": "."}));
        t.try_create(&b).fails(1, "intelRdt is specified in config, but Intel RDT is not enabled");
        let c = t.waiting();
        t.call(["update", "--l3-cache-schema", "L3:0=f", &c.id])
            .fails(1, "Intel RDT/CAT: l3 cache schema is not enabled");
        t.call(["update", "--mem-bw-schema", "MB:0=20", &c.id])
            .fails(1, "Intel RDT/MBA: memory bandwidth schema is not enabled");
    });
}

//! What `state`, `list`, `ps`, `events` and `features` tell, in which shape.

use pintle_tests::*;
use std::fs;

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// The keys of the first object in a text, in the order of the text: serde_json sorts its own.
fn order(text: &str) -> Vec<String> {
    let value: Value = serde_json::from_str(text).unwrap();
    let object = if value.is_array() { value[0].clone() } else { value };
    let mut keys: Vec<String> = keys(&object).into_iter().map(str::to_owned).collect();
    keys.sort_by_key(|k| text.find(&format!("\"{k}\":")));
    keys
}

#[test]
fn state_is_indented_json_in_a_fixed_order_without_a_newline_at_the_end() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.create(&t.bundle());
        let text = c.call("state").ok().stdout;
        assert_eq!(
            order(&text),
            ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "owner"]
        );
        assert!(text.starts_with("{\n  \"ociVersion\"") && text.ends_with('}'), "{text:?}");
    });
}

#[test]
fn state_names_the_container_its_bundle_and_rootfs() {
    behaviour(|| {
        let t = Sandbox::new();
        let b = t.bundle();
        let c = t.create(&b);
        let state = c.state();
        assert_eq!(state["id"], json!(c.id));
        assert_eq!(state["bundle"], json!(b.dir));
        assert_eq!(state["rootfs"], json!(b.rootfs()));
        assert_eq!(state["owner"], json!(""));
        assert!(alive(c.pid()));
    });
}

#[test]
fn created_is_a_time_in_utc() {
    behaviour(|| {
        let t = Sandbox::new();
        let created = t.create(&t.bundle()).state()["created"].as_str().unwrap().to_owned();
        assert!(
            created.starts_with("20") && created.as_bytes()[10] == b'T' && created.ends_with('Z'),
            "{created}"
        );
    });
}

#[test]
fn annotations_appear_in_the_state_when_there_are_any() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        assert!(t.create(&b).state().get("annotations").is_none());
        b.set("/annotations", json!({"org.example.a": "b"}));
        assert_eq!(t.create(&b).state()["annotations"], json!({"org.example.a": "b"}));
    });
}

#[test]
fn a_stopped_container_has_the_pid_0() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.start(&t.bundle());
        c.wait_until("stopped");
        assert_eq!(c.pid(), 0);
    });
}

#[test]
fn a_kill_from_outside_is_noticed() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.waiting();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(c.pid()), nix::sys::signal::Signal::SIGKILL)
            .unwrap();
        c.wait_until("stopped");
    });
}

#[test]
fn list_is_a_table() {
    behaviour(|| {
        let t = Sandbox::new();
        let b = t.bundle();
        let c = t.create(&b);
        let text = t.call(["list"]).ok().stdout;
        let rows: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(rows[0], ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
        assert_eq!(rows[1][..4], [c.id.as_str(), &c.pid().to_string(), "created", &b.dir.to_string_lossy()]);
        assert_eq!(rows[1][5], "root");
    });
}

#[test]
fn the_columns_of_list_are_at_least_twelve_wide_with_three_spaces_between() {
    behaviour(|| {
        let t = Sandbox::new();
        fs::create_dir(t.root()).unwrap();
        let text = t.call(["list"]).ok().stdout;
        assert_eq!(text, "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n");
    });
}

#[test]
fn list_as_json_is_one_line() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.create(&t.bundle());
        let output = t.call(["list", "--format", "json"]).ok();
        assert_eq!(output.json()[0]["id"], json!(c.id));
        assert_eq!(output.json()[0]["owner"], json!("root"));
        assert_eq!(output.stdout.lines().count(), 1);
        let expected = ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "owner"];
        assert_eq!(order(&output.stdout), expected);
    });
}

#[test]
fn an_empty_list_as_json_is_null() {
    behaviour(|| {
        let t = Sandbox::new();
        fs::create_dir(t.root()).unwrap();
        assert_eq!(t.call(["list", "-f", "json"]).ok().stdout.trim(), "null");
    });
}

#[test]
fn a_quiet_list_has_only_ids() {
    behaviour(|| {
        let t = Sandbox::new();
        let (a, b) = (t.create(&t.bundle()), t.create(&t.bundle()));
        let text = t.call(["list", "-q"]).ok().stdout;
        let mut ids: Vec<&str> = text.lines().collect();
        ids.sort_unstable();
        assert_eq!(ids, [&a.id, &b.id]);
    });
}

#[test]
fn list_passes_over_a_broken_entry_with_a_word_on_stderr() {
    behaviour(|| {
        let t = Sandbox::new();
        fs::create_dir_all(t.root().join("broken")).unwrap();
        let c = t.create(&t.bundle());
        let output = t.call(["list", "-q"]).ok();
        assert_eq!(output.stdout, format!("{}\n", c.id));
        assert!(output.stderr.contains("load container broken: container does not exist"), "{output:?}");
    });
}

#[test]
fn list_refuses_an_unknown_format() {
    behaviour(|| {
        let t = Sandbox::new();
        fs::create_dir(t.root()).unwrap();
        t.call(["list", "-f", "xml"]).fails(1, "invalid format option");
    });
}

#[test]
fn ps_as_json_lists_the_hosts_numbers() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.args(&["/probe", "crowd", "2"]);
        let c = t.start(&b);
        wait_for("three processes", || {
            t.call(["ps", "-f", "json", &c.id]).ok().json().as_array().is_some_and(|a| a.len() == 3)
        });
        let pids = t.call(["ps", "--format", "json", &c.id]).ok().json();
        assert!(pids.as_array().unwrap().contains(&json!(c.pid())), "{pids}");
    });
}

#[test]
fn ps_as_a_table_is_the_hosts_ps_cut_to_the_container() {
    behaviour(|| {
        needs_program("ps");
        let t = Sandbox::new();
        let c = t.waiting();
        let text = c.call("ps").ok().stdout;
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].starts_with("UID") && lines[1].contains(&format!(" {} ", c.pid())), "{text}");
        let short = t.call(["ps", &c.id, "-o", "pid,comm"]).ok().stdout;
        assert!(short.lines().count() == 2 && short.contains("probe"), "{short}");
    });
}

#[test]
fn ps_needs_the_pid_column_and_a_known_format() {
    behaviour(|| {
        needs_program("ps");
        let t = Sandbox::new();
        let c = t.waiting();
        t.call(["ps", &c.id, "-o", "comm"]).fails(1, "couldn't find PID field in ps output");
        t.call(["ps", "-f", "xml", &c.id]).fails(1, "invalid format option");
    });
}

#[test]
fn events_with_stats_is_one_line_of_json() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.waiting();
        let output = t.call(["events", "--stats", &c.id]).ok();
        let event = output.json();
        assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!(c.id)));
        for key in ["cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt"] {
            assert!(event["data"][key].is_object(), "data.{key} in {event}");
        }
        assert_eq!(event["data"]["network_interfaces"], Value::Null);
        assert!(event["data"]["cpu"]["usage"]["kernel"].is_u64(), "{event}");
    });
}

#[test]
fn events_of_a_stopped_container_fail() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.start(&t.bundle());
        c.wait_until("stopped");
        t.call(["events", "--stats", &c.id]).fails(1, &format!("container with id {} is not running", c.id));
    });
}

#[test]
fn events_wants_a_positive_interval() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.waiting();
        t.call(["events", "--interval", "0s", &c.id]).fails(1, "duration interval must be greater than 0");
    });
}

#[test]
fn features_tells_what_engines_ask() {
    behaviour(|| {
        let t = Sandbox::new();
        let output = t.call(["features"]).ok();
        let features = output.json();
        assert_eq!(output.stderr, "");
        assert_eq!(features["ociVersionMin"], "1.0.0");
        assert!(features["ociVersionMax"].as_str().unwrap().starts_with("1."));
        let hooks =
            ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
        assert_eq!(features["hooks"], json!(hooks));
        let options = features["mountOptions"].as_array().unwrap();
        for option in ["rro", "bind", "rslave", "nosymfollow"] {
            assert!(options.contains(&json!(option)), "{option}");
        }
        let linux = &features["linux"];
        for kind in ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"] {
            assert!(linux["namespaces"].as_array().unwrap().contains(&json!(kind)), "{kind}");
        }
        assert_eq!(linux["seccomp"]["enabled"], json!(true));
        assert_eq!(linux["cgroup"]["v2"], json!(true));
        assert_eq!(linux["mountExtensions"]["idmap"]["enabled"], json!(true));
    });
}

#[test]
fn the_saved_state_has_the_keys_that_others_read() {
    behaviour(|| {
        let t = Sandbox::new();
        let c = t.waiting();
        let text = fs::read_to_string(t.root().join(&c.id).join("state.json")).expect("state.json");
        let state: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(state["id"], json!(c.id));
        assert_eq!(state["init_process_pid"], json!(c.pid()));
        assert!(state["init_process_start"].is_u64() && state["created"].is_string());
        assert_eq!(state["cgroup_paths"][""], json!(cgroup_of(c.pid())));
        assert_eq!(state["namespace_paths"]["NEWNET"], json!(format!("/proc/{}/ns/net", c.pid())));
        assert!(state["config"].is_object());
    });
}

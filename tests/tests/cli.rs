//! The command line: version, help, where flags may stand, exit codes, and the two shapes of the log.

use pintle_tests::*;
use std::fs;
use std::process::Command;

/// A call without the harness's own `--root` and `--log`.
fn plain(t: &Sandbox, args: &[&str]) -> Output {
    let mut command = Command::new(Runtime::under_test().binary());
    command.args(args).stdin(std::process::Stdio::null());
    t.finish(command)
}

#[test]
fn the_version_begins_as_engines_parse_it() {
    rows(["--version", "-v"].map(|f| (f, f)), |flag| {
        let t = Sandbox::new();
        let text = plain(&t, &[flag]).ok().stdout;
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("runc version 1."), "{text}");
        assert!(lines.iter().any(|l| l.starts_with("commit: ")), "{text}");
        assert!(lines.iter().any(|l| l.starts_with("spec: 1.")), "{text}");
    });
}

#[test]
fn help_is_on_stdout_with_success() {
    rows(
        [&["--help"][..], &["-h"], &["help"], &["kill", "--help"], &["create", "-h"]]
            .map(|a| (a.join(" "), a)),
        |args| {
            let t = Sandbox::new();
            let text = plain(&t, args).ok().stdout;
            assert!(text.starts_with("NAME:\n   ") && text.contains("USAGE:"), "{text}");
        },
    );
}

#[test]
fn help_names_the_program_as_it_was_called() {
    behaviour(|| {
        let t = Sandbox::new();
        let called = t.dir.join("oci-runtime");
        std::os::unix::fs::symlink(Runtime::under_test().binary(), &called).unwrap();
        let first = |args: &[&str]| {
            let mut command = Command::new(&called);
            command.args(args).stdin(std::process::Stdio::null());
            t.finish(command).ok().stdout.lines().nth(1).unwrap_or("").to_owned()
        };
        assert_eq!(first(&["--help"]), "   oci-runtime - Open Container Initiative runtime");
        assert!(first(&["delete", "-h"]).starts_with("   oci-runtime delete - "));
    });
}

#[test]
fn what_is_not_there_yet_has_a_help_that_says_so() {
    rows(["checkpoint", "restore"].map(|v| (v, v)), |verb| {
        if Runtime::under_test() != Runtime::Pintle {
            skip("the verb is there");
        }
        let t = Sandbox::new();
        for args in [[verb, "-h"], ["help", verb]] {
            let text = plain(&t, &args).ok().stdout;
            let name = Runtime::under_test().binary();
            let name = name.file_name().unwrap().to_string_lossy();
            assert!(text.starts_with(&format!("NAME:\n   {name} {verb} - ")), "{text}");
            assert!(text.contains("pintle can't checkpoint or restore yet"), "{text}");
        }
        // podman takes success for a yes.
        let refusal = plain(&t, &[verb, "--help"]).exits(1).stderr;
        assert!(refusal.contains(&format!("{verb} is not there yet")), "{refusal}");
    });
}

#[test]
fn the_help_names_every_verb() {
    behaviour(|| {
        let t = Sandbox::new();
        let text = plain(&t, &["--help"]).ok().stdout;
        for verb in [
            "create", "delete", "events", "exec", "features", "kill", "list", "pause", "ps", "resume", "run",
            "spec", "start", "state", "update",
        ] {
            assert!(text.contains(&format!("\n   {verb}")), "{verb} in {text}");
        }
    });
}

#[test]
fn a_wrong_number_of_arguments_shows_the_help_and_says_how_many() {
    let cases: [(&[&str], &str); 9] = [
        (&["create"], "\"create\" requires exactly 1 argument(s)"),
        (&["create", "a", "b"], "\"create\" requires exactly 1 argument(s)"),
        (&["start"], "\"start\" requires exactly 1 argument(s)"),
        (&["state"], "\"state\" requires exactly 1 argument(s)"),
        (&["kill"], "\"kill\" requires a minimum of 1 argument(s)"),
        (&["kill", "a", "b", "c"], "\"kill\" requires a maximum of 2 argument(s)"),
        (&["exec"], "\"exec\" requires a minimum of 1 argument(s)"),
        (&["delete"], "\"delete\" requires exactly 1 argument(s)"),
        (&["features", "a"], "\"features\" requires exactly 0 argument(s)"),
    ];
    rows(cases.map(|(a, text)| (a.join(" "), (a, text))), |(args, text)| {
        let t = Sandbox::new();
        let output = t.call(args).fails(1, text);
        assert!(output.stdout.starts_with("Incorrect Usage.\n\nNAME:\n"), "{output:?}");
    });
}

#[test]
fn an_unknown_flag_is_named() {
    behaviour(|| {
        let t = Sandbox::new();
        let output = t.call(["create", "--nosuch", "x"]).exits(1);
        assert!(output.error().contains("-nosuch"), "{output:?}");
    });
}

#[test]
fn an_unknown_verb_fails() {
    behaviour(|| {
        let t = Sandbox::new();
        assert_ne!(plain(&t, &["nosuch"]).code, 0);
    });
}

#[test]
fn flags_take_their_value_with_a_space_or_an_equals_sign() {
    behaviour(|| {
        let t = Sandbox::new();
        let b = t.bundle();
        b.write();
        let dir = b.dir.to_string_lossy().into_owned();
        t.call(["run", &format!("--bundle={dir}"), &t.id()]).ok();
        t.call(["run", "--bundle", &dir, &t.id()]).ok();
        t.call(["run", "-b", &dir, &t.id()]).ok();
    });
}

#[test]
fn long_flags_may_have_one_dash() {
    behaviour(|| {
        let t = Sandbox::new();
        let b = t.bundle();
        b.write();
        t.call(["run", "-no-subreaper", "-bundle", &b.dir.to_string_lossy(), &t.id()]).ok();
    });
}

#[test]
fn with_a_log_the_error_is_also_bare_on_stderr() {
    behaviour(|| {
        let t = Sandbox::new();
        let output = t.call(["state", "nobody"]).exits(1);
        assert_eq!(output.stderr, "container does not exist\n");
        assert_eq!(output.log.len(), 1);
        assert_eq!(fs::read_to_string(t.dir.join("log")).unwrap().lines().count(), 1);
    });
}

#[test]
fn a_log_line_in_json_has_level_msg_and_time_and_nothing_else() {
    behaviour(|| {
        let t = Sandbox::new();
        let output = t.call(["state", "nobody"]).exits(1);
        let record = output.log[0].as_object().unwrap();
        assert_eq!(record.keys().collect::<Vec<_>>(), ["level", "msg", "time"]);
        let time = record["time"].as_str().unwrap();
        assert!(time.len() >= 20 && time.as_bytes()[10] == b'T', "{time}");
    });
}

#[test]
fn without_a_log_the_error_is_a_log_line_on_stderr() {
    behaviour(|| {
        let t = Sandbox::new();
        let root = t.root().to_string_lossy().into_owned();
        let text = plain(&t, &["--root", &root, "state", "nobody"]).exits(1).stderr;
        assert!(
            text.starts_with("time=\"20")
                && text.ends_with("\" level=error msg=\"container does not exist\"\n"),
            "{text}"
        );
        let json = plain(&t, &["--root", &root, "--log-format", "json", "state", "nobody"]).exits(1).stderr;
        assert!(
            json.starts_with("{\"level\":\"error\",\"msg\":\"container does not exist\",\"time\":\"20"),
            "{json}"
        );
    });
}

#[test]
fn quotes_and_line_ends_in_the_log_are_escaped() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        let root = t.root().to_string_lossy().into_owned();
        b.args(&["no\"thing\nat all"]).write();
        let text =
            plain(&t, &["--root", &root, "run", "-b", &b.dir.to_string_lossy(), &t.id()]).exits(1).stderr;
        let line = text.lines().find(|l| l.contains("level=error")).unwrap_or_else(|| panic!("{text}"));
        assert!(line.ends_with("executable file not found in $PATH\""), "{line}");
    });
}

#[test]
fn the_log_is_appended_to() {
    behaviour(|| {
        let t = Sandbox::new();
        t.call(["state", "nobody"]);
        t.call(["state", "nobody"]);
        assert_eq!(fs::read_to_string(t.dir.join("log")).unwrap().lines().count(), 2);
    });
}

#[test]
fn an_unknown_log_format_is_refused() {
    behaviour(|| {
        let t = Sandbox::new();
        let text = plain(&t, &["--log-format", "xml", "list"]).exits(1).stderr;
        assert!(text.contains("invalid log-format: xml"), "{text}");
    });
}

#[test]
fn a_log_that_cannot_be_written_is_an_error() {
    behaviour(|| {
        let t = Sandbox::new();
        let text = plain(&t, &["--log", "/nothing/log", "list"]).exits(1).stderr;
        assert!(text.contains("open /nothing/log: no such file or directory"), "{text}");
    });
}

#[test]
fn the_root_may_not_be_the_root() {
    behaviour(|| {
        let t = Sandbox::new();
        let text = plain(&t, &["--root", "/", "list"]).exits(1).stderr;
        assert!(text.contains("Option --root argument should not be set to /"), "{text}");
    });
}

#[test]
fn spec_writes_a_default_configuration_that_is_ours_with_a_terminal() {
    behaviour(|| {
        let t = Sandbox::new();
        let dir = t.dir.to_string_lossy().into_owned();
        t.call(["spec", "--bundle", &dir]).ok();
        let mut written: Value =
            serde_json::from_str(&fs::read_to_string(t.dir.join("config.json")).unwrap()).unwrap();
        let mut expected = default_config();
        expected["process"]["terminal"] = json!(true);
        expected["process"]["args"] = json!(["sh"]);
        assert!(written["ociVersion"].as_str().unwrap().starts_with("1."));
        written["ociVersion"] = expected["ociVersion"].clone();
        assert_eq!(written, expected);
        t.call(["spec", "--bundle", &dir]).fails(1, "File config.json exists. Remove it first");
    });
}

#[test]
fn a_rootless_spec_has_a_user_namespace_and_no_network() {
    behaviour(|| {
        let t = Sandbox::new();
        t.call(["spec", "--rootless", "--bundle", &t.dir.to_string_lossy()]).ok();
        let written: Value =
            serde_json::from_str(&fs::read_to_string(t.dir.join("config.json")).unwrap()).unwrap();
        let kinds: Vec<&str> = written["linux"]["namespaces"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|n| n["type"].as_str())
            .collect();
        assert!(kinds.contains(&"user") && !kinds.contains(&"network"), "{kinds:?}");
        assert_eq!(written["linux"]["uidMappings"], json!([{"containerID": 0, "hostID": 0, "size": 1}]));
    });
}

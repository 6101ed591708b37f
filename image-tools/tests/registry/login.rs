//! Logging in: what a registry says to credentials, and what is written where.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use pintle_image::error::Kind;
use pintle_image::manifest::media;
use pintle_image::registry::credentials::{self, Credentials};
use pintle_image::registry::proxy::Proxies;
use pintle_image::registry::{Client, Settings};

use super::pull::tempfile;
use super::server::{Fault, Gate, Server};
use super::{client_as, credentials, error, name, settings};

#[test]
fn a_registry_is_asked_whether_it_takes_a_password() {
    let server = Server::new();
    let host = server.host();
    for gate in [Gate::Basic("me", "geheim"), Gate::Bearer(format!("http://{host}"), Some(("me", "geheim")))]
    {
        server.gate(gate);
        client_as("me", "geheim").login(&host).unwrap();
        let got = error(client_as("me", "falsch").login(&host));
        assert_eq!(got.kind(), Kind::Denied);
        assert_eq!(got.to_string(), format!("{host}: it does not take the user name \"me\" or its password"));
    }
    assert_eq!(error(super::client().login(&host)).kind(), Kind::Usage);
}

#[test]
fn a_page_that_is_not_there_is_no_welcome_where_nobody_asked() {
    let server = Server::new();
    let client = client_as("me", "geheim");
    let v2 = |status, headers, times| server.fault("GET", "/v2/", Fault::Status(status, headers), times);
    v2(404, vec![], 2);
    let got = error(client.login(&server.host()));
    assert_eq!(got.to_string(), format!("not found on {} (fault 404)", server.host()));
    v2(401, vec![("www-authenticate", "Basic realm=x".to_owned())], 1);
    v2(404, vec![], 1);
    client.login(&server.host()).unwrap();
}

/// A host without a dot or a port would be a repository of Docker's in an image's name.
#[test]
fn a_password_for_a_host_of_one_word_is_not_docker_s() {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let https = Some(format!("http://{}", proxy.local_addr().unwrap()));
    let asked = std::thread::spawn(move || {
        let mut line = String::new();
        BufReader::new(proxy.accept().unwrap().0).read_line(&mut line).unwrap();
        line
    });
    let credentials = Some(credentials("me", "geheim"));
    let proxies = Proxies { https, ..Proxies::default() };
    let client = Client::new(Settings { credentials, proxies, retries: 0, ..settings() }).unwrap();
    error(client.login("myhost"));
    let line = asked.join().unwrap();
    assert!(line.starts_with("CONNECT myhost:443 "), "{line}");
}

#[test]
fn logins_are_stored_for_their_owner_only_and_nothing_else_is_lost() {
    let dir = tempfile("auth");
    let file = dir.join("new/containers/auth.json");
    credentials::store(&file, "r.example", &credentials("me", "geheim")).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(fs::metadata(dir.join("new")).unwrap().permissions().mode() & 0o777, 0o700);
    let find = |registry: &str| credentials::find(std::slice::from_ref(&file), registry, "a/b").unwrap();
    assert_eq!(find("r.example"), Some(credentials("me", "geheim")));

    fs::write(&file, r#"{"future":{"a":[1]},"auths":{"https://r.example/v2/":{"auth":"eDp5"},"o.example":{"auth":"eDp5"}}}"#)
        .unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let link = dir.join("link.json");
    symlink(&file, &link).unwrap();
    credentials::store(&link, "r.example", &Credentials::Identity("t".into())).unwrap();
    assert!(link.is_symlink());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("future") && !text.contains("https://r.example"), "{text}");
    assert_eq!(find("r.example"), Some(Credentials::Identity("t".into())));
    assert_eq!(find("o.example"), Some(credentials("x", "y")));

    assert!(credentials::erase(&file, "r.example").unwrap());
    assert!(!credentials::erase(&file, "r.example").unwrap());
    assert_eq!(find("r.example"), None);
    assert_eq!(find("o.example"), Some(credentials("x", "y")));
    assert_eq!(fs::read_dir(dir.join("new/containers")).unwrap().count(), 1, "no temporary file stays");
    let docker = dir.join("config.json");
    credentials::store(&docker, "docker.io", &credentials("me", "geheim")).unwrap();
    assert!(fs::read_to_string(&docker).unwrap().contains("https://index.docker.io/v1/"));
}

#[test]
fn logins_at_the_same_time_lose_nothing() {
    let file = tempfile("auth-race").join("auth.json");
    std::thread::scope(|scope| {
        for i in 0..16 {
            let file = &file;
            scope.spawn(move || {
                credentials::store(file, &format!("r{i}.example"), &credentials("me", "geheim")).unwrap()
            });
        }
    });
    for i in 0..16 {
        assert!(
            credentials::find(std::slice::from_ref(&file), &format!("r{i}.example"), "a").unwrap().is_some(),
            "{i}"
        );
    }
}

#[test]
fn a_broken_file_is_named_and_not_repeated() {
    let file = tempfile("auth-broken").join("auth.json");
    for text in [
        "{\"auths\":{\"r.example\":{\"auth\":\"geheim",
        "[\"geheim\"]",
        r#"{"auths":{"r.example":{"auth":"geheim!"}}}"#,
    ] {
        fs::write(&file, text).unwrap();
        let got = error(credentials::find(std::slice::from_ref(&file), "r.example", "a")).to_string();
        assert!(got.starts_with(&file.display().to_string()) && !got.contains("geheim"), "{got}");
    }
    fs::write(&file, "").unwrap();
    assert_eq!(credentials::find(&[file], "r.example", "a").unwrap(), None);
}

#[test]
fn the_first_file_that_knows_the_registry_counts() {
    let server = Server::new();
    server.gate(Gate::Basic("me", "geheim"));
    server.add_manifest("a", "1", media::MANIFEST, b"{}");
    let dir = tempfile("auth-order");
    let file = |name: &str, key: &str, password: &str| {
        let path = dir.join(name);
        credentials::store(&path, key, &credentials("me", password)).unwrap();
        path
    };
    let host = server.host();
    let files = [
        dir.join("absent.json"),
        file("other.json", "r.example", "falsch"),
        file("mine.json", &format!("{host}/a"), "geheim"),
        file("late.json", &host, "falsch"),
    ];
    let client = Client::new(Settings { auth_files: files.into(), ..settings() }).unwrap();
    client.manifest(&name(&server, "a:1")).unwrap();
    assert_eq!(error(client.manifest(&name(&server, "b:1"))).kind(), Kind::Denied);
}

/// The environment of a test can't be changed; a child's can.
const CHILD: &str = "PINTLE_TEST_HELPER_DIR";

#[test]
fn helpers_are_asked_and_told() {
    let dir = tempfile("helper");
    let program = dir.join("docker-credential-test");
    let script = r#"#!/bin/sh
cd "$PINTLE_TEST_HELPER_DIR" || exit 9
case $1 in
get) read -r url; echo "get $url" >>log
	case $url in
	r.example) echo '{"ServerURL":"r.example","Username":"me","Secret":"geheim"}';;
	t.example) echo '{"Username":"<token>","Secret":"t"}';;
	broken.example) echo 'geheim';;
	bad.example) echo 'no keyring'; exit 1;;
	*) echo 'credentials not found in native keychain'; exit 1;;
	esac;;
store) cat >stored;;
erase) cat >erased;;
esac
"#;
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", dir.display());
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "registry::login::helper_child", "--ignored", "--nocapture"])
        .env("PATH", path)
        .env(CHILD, &dir)
        .status()
        .unwrap();
    assert!(child.success());
}

#[test]
#[ignore = "helpers_are_asked_and_told runs it"]
fn helper_child() {
    let Some(dir) = std::env::var_os(CHILD).map(std::path::PathBuf::from) else { return };
    let file = dir.join("config.json");
    fs::write(
        &file,
        r#"{"credsStore":"absent","credHelpers":{"r.example":"test","t.example":"test","docker.io":"test",
        "bad.example":"test","broken.example":"test","new.example":"test","evil.example":"../x"}}"#,
    )
    .unwrap();
    let find = |registry: &str| credentials::find(std::slice::from_ref(&file), registry, "a");
    assert_eq!(find("r.example").unwrap(), Some(credentials("me", "geheim")));
    assert_eq!(find("t.example").unwrap(), Some(Credentials::Identity("t".into())));
    assert_eq!(find("docker.io").unwrap(), None);
    assert!(fs::read_to_string(dir.join("log")).unwrap().contains("get https://index.docker.io/v1/\n"));
    let words = |registry: &str| error(find(registry)).to_string();
    assert!(words("bad.example").ends_with("no keyring"));
    assert!(!words("broken.example").contains("geheim"));
    assert!(words("evil.example").contains("is not the name of a credential helper"));
    assert!(
        words("any.example")
            .ends_with("docker-credential-absent, which an auth file asks for: no such file or directory")
    );
    credentials::store(&file, "new.example", &credentials("me", "geheim")).unwrap();
    let stored = fs::read_to_string(dir.join("stored")).unwrap();
    assert_eq!(stored, r#"{"Secret":"geheim","ServerURL":"new.example","Username":"me"}"#);
    assert!(!fs::read_to_string(&file).unwrap().contains("auths"));
    assert!(credentials::erase(&file, "r.example").unwrap());
    assert_eq!(fs::read_to_string(dir.join("erased")).unwrap(), "r.example");
}

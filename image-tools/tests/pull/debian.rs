//! The program and Debian's docker-registry, with TLS and a password: there and back, and who may do what.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use pintle_image::digest::Digest;
use serde_json::{Value, json};

use super::image::{Image, Tar, layer_differences, layers_of_all_kinds};
use super::{Outcome, Place, finish};
use crate::registry::oracle::{self, Registry};
use crate::sandbox::Sandbox;

/// A registry, and a store `here` with an image under two names of that registry.
fn start(what: &str) -> Option<(Registry, Place, Image)> {
    let registry = oracle::start()?;
    let place = Place::new(what);
    let image = Image::of(&layers_of_all_kinds(200_000), json!({"Cmd": ["/bin/true"]}));
    let layout = image.layout(&place.path("layout"));
    let name = format!("{}/team/app:1", registry.host);
    place.ok("here", &["load", "--name", &name, &layout]);
    // A user's own folder of certificates.
    let certificates = place.path(".config/containers");
    fs::create_dir_all(&certificates).unwrap();
    std::os::unix::fs::symlink(registry.dir.join("certs.d"), certificates.join("certs.d")).unwrap();
    Some((registry, place, image))
}

fn login(place: &Place, host: &str, password: &str, more: &[&str]) -> Outcome {
    let mut command = place.command("here", &["login", host, "-u", "me", "--password-stdin"]);
    let mut child = command.args(more).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).unwrap();
    finish(child)
}

fn lines(text: &str, word: &str) -> usize {
    text.lines().filter(|line| line.contains(word)).count()
}

#[test]
fn an_image_is_pushed_and_pulled() {
    let Some((registry, place, image)) = start("debian") else { return };
    let host = &registry.host;
    let (name, second) = (format!("{host}/team/app:1"), format!("{host}/other:1"));
    assert_eq!(login(&place, host, "geheim", &[]).code, Some(0));

    let pushed = place.run("here", &["push", &name]);
    assert_eq!((pushed.code, lines(&pushed.err, " pushed, ")), (Some(0), 4), "{}", pushed.err);
    let again = place.run("here", &["push", &name]);
    assert_eq!((again.code, lines(&again.err, " there already, ")), (Some(0), 4), "{}", again.err);
    let mounted = place.run("here", &["push", &name, &second]);
    assert_eq!((mounted.code, lines(&mounted.err, " mounted, ")), (Some(0), 4), "{}", mounted.err);

    let digest = image.manifest.0.digest.as_str();
    let by_digest = format!("{host}/other@{digest}");
    for from in [&name, &second, &by_digest] {
        let out = place.ok("there", &["--json", "pull", from]);
        let pulled: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((&pulled[0]["name"], &pulled[0]["digest"]), (&json!(from), &json!(digest)));
    }
    place.is_tidy("there");
    assert_eq!(place.names("there/blobs/sha256"), place.names("here/blobs/sha256"));
    let there = crate::tree::walk(&place.path("there/layers")).unwrap();
    let here = crate::tree::walk(&place.path("here/layers")).unwrap();
    assert_eq!(layer_differences(&here, &there), [""; 0]);

    let said = place.fails(3, "there", &["pull", &format!("{host}/team/app:2")]);
    assert!(said.contains("/team/app:2") && said.contains("manifest unknown"), "{said}");
    let absent = format!("{host}/team/app@{}", Digest::of(b"absent"));
    place.fails(3, "there", &["pull", &absent]);
    let config: Value = serde_json::from_str(&place.ok("there", &["inspect", "--config", &name])).unwrap();
    assert_eq!(config["config"]["Cmd"], json!(["/bin/true"]));
}

#[test]
fn passwords_are_asked_for_checked_and_forgotten() {
    let Some((registry, place, _)) = start("login") else { return };
    let host = &registry.host;
    let name = format!("{host}/team/app:1");
    let auth = place.path("run/containers/auth.json");
    let said = place.fails(4, "here", &["push", &name]);
    assert!(said.contains(&format!("log in with pintle-image login {host}")), "{said}");
    let wrong = login(&place, host, "falsch", &[]);
    assert_eq!(wrong.code, Some(4), "{}", wrong.err);
    assert!(wrong.err.contains("user name \"me\"") && !wrong.err.contains("falsch"), "{}", wrong.err);
    assert!(!auth.exists());

    assert_eq!(login(&place, host, "geheim", &[]).code, Some(0));
    assert_eq!(fs::metadata(&auth).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(login(&place, host, "falsch", &[]).code, Some(4), "the file is not asked");
    place.ok("here", &["push", &name]);
    place.ok("here", &["logout", host]);
    assert!(!fs::read_to_string(&auth).unwrap().contains(host));
    place.fails(3, "here", &["logout", host]);
    place.fails(4, "there", &["pull", &name]);
    assert_eq!(place.names("there/blobs/sha256"), [""; 0]);

    place.ok("there", &["pull", "--creds", "me:geheim", &name]);
    place.fails(4, "there", &["pull", "--creds", "me:falsch", &name]);
    place.fails(2, "there", &["pull", "--creds", "me", &name]);
    let own = place.path("own.json").display().to_string();
    assert_eq!(login(&place, host, "geheim", &["--authfile", &own]).code, Some(0));
    place.fails(4, "there", &["pull", &name]);
    place.ok("there", &["pull", "--authfile", &own, &name]);
    let elsewhere = place.command("there", &["pull", &name]).env("REGISTRY_AUTH_FILE", &own).spawn().unwrap();
    assert_eq!(finish(elsewhere).code, Some(0));
    place.ok("there", &["logout", "--authfile", &own, host]);
    place.fails(4, "there", &["pull", "--authfile", &own, &name]);
}

#[test]
fn certificates_are_checked_unless_somebody_says_otherwise() {
    let Some((registry, place, _)) = start("certificates") else { return };
    let host = &registry.host;
    let name = format!("{host}/team/app:1");
    let certificates = registry.dir.join("certs.d").display().to_string();
    place.ok("here", &["push", "--creds", "me:geheim", &name]);
    fs::remove_file(place.path(".config/containers/certs.d")).unwrap();

    let pull = |more: &[&str]| place.run("there", &[&["pull", "--creds", "me:geheim", &name], more].concat());
    let strange = pull(&[]);
    assert_eq!(strange.code, Some(5), "{}", strange.err);
    let help = format!("put its issuer's into /etc/containers/certs.d/{host}/ca.crt, or use --insecure");
    assert!(
        strange.err.contains("issued by nobody we know") && strange.err.contains(&help),
        "{}",
        strange.err
    );
    assert_eq!(login(&place, host, "geheim", &[]).code, Some(5));
    assert_eq!(place.names("there/blobs/sha256"), [""; 0]);
    for more in [&["--cert-dir", &certificates][..], &["--insecure"]] {
        let pulled = pull(more);
        assert_eq!(pulled.code, Some(0), "{more:?}: {}", pulled.err);
    }
    assert_eq!(login(&place, host, "geheim", &["--cert-dir", &certificates]).code, Some(0));
    // A further folder does not hide the user's own.
    std::os::unix::fs::symlink(&certificates, place.path(".config/containers/certs.d")).unwrap();
    let elsewhere = place.path("layout").display().to_string();
    assert_eq!(pull(&["--cert-dir", &elsewhere]).code, Some(0));
}

#[test]
fn a_pulled_image_runs() {
    let Some((registry, place, _)) = start("run") else { return };
    let Some(sandbox) = Sandbox::new() else { return };
    let name = format!("{}/busy:1", registry.host);
    let busybox = fs::read(sandbox.inside("bin/busybox")).unwrap();
    let image = Image::of(
        &[
            Tar::default().dir("bin").file("bin/busybox", 0o755, busybox).archive(),
            Tar::default().dir("etc").file("etc/greeting", 0o644, b"hello\n".into()).archive(),
        ],
        json!({"Entrypoint": ["/bin/busybox"], "Cmd": ["cat", "/etc/greeting"]}),
    );
    place.ok("here", &["load", "--name", &name, &image.layout(&place.path("busy"))]);
    place.ok("here", &["push", "--creds", "me:geheim", &name]);
    place.ok("there", &["pull", "--creds", "me:geheim", &name]);
    place.ok("there", &["bundle", &name, "bundle"]);
    let bundle = place.path("bundle").display().to_string();
    let ran = sandbox.runtime(&["run", "--bundle", &bundle, "pulled"]);
    place.ok("there", &["umount", "--delete", "bundle"]);
    assert_eq!((ran.code, &*ran.stdout), (Some(0), "hello\n"), "{ran:?}");
}

#[test]
fn skopeo_reads_what_was_pushed() {
    let Some((registry, place, image)) = start("skopeo") else { return };
    let name = format!("{}/team/app:1", registry.host);
    place.ok("here", &["push", "--creds", "me:geheim", &name]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/image-oracle");
    // That root folder has no /etc/hosts, and the certificate is for localhost.
    let address = name.replace("localhost", "127.0.0.1");
    let output = Command::new(script)
        .args(["skopeo", "inspect", "--creds", "me:geheim", "--tls-verify=false", "--format", "{{.Digest}}"])
        .arg(format!("docker://{address}"))
        .current_dir(place.path(""))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), image.manifest.0.digest.as_str(), "{errors}");
}

//! Images that want harm: every hole that an image tool had and that an image can try, by its number, and every limit. Afterwards the
//! host is as it was, there is no tree, the store has no image, and it took no long time.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink as host_symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::layer::{Member, Pack, dir, fifo, file, hardlink, member, opaque, record, symlink, tar, white};
use crate::layout::{CONFIG, INDEX, LAYER, Layout, MANIFEST, Place, Said, Stored, descriptor, names, sha256};
use crate::tree::{self, Tree};

/// What a refusal may take, on a busy machine without optimization.
const QUICK: Duration = Duration::from_secs(8);

/// A place with something on the host that an image must not reach.
struct Host {
    place: Place,
    before: Tree,
}

impl Host {
    fn new() -> Option<Self> {
        let place = Place::new()?;
        let host = place.path("host");
        fs::create_dir(&host).expect("a folder");
        fs::write(host.join("secret"), "untouched").expect("a file");
        for (path, mode) in [("host", 0o700), ("host/secret", 0o600)] {
            fs::set_permissions(place.path(path), fs::Permissions::from_mode(mode)).expect("a mode");
        }
        let before = tree::walk(&host).expect("a tree");
        Some(Self { place, before })
    }

    /// Inside of the machine's root, without the slash: as a path in an archive.
    fn host(&self) -> String {
        self.place.word("host")
    }

    /// From any depth of the tree.
    fn up(&self) -> String {
        format!("{}{}", "../".repeat(20), &self.host()[1..])
    }

    #[track_caller]
    fn untouched(&self) {
        let now = tree::walk(&self.place.path("host")).expect("a tree");
        assert_eq!(tree::diff(&self.before, &now), [""; 0]);
    }

    fn layout(&self, layers: &[Vec<Member>]) -> Layout {
        let mut layout = Layout::new(Path::new(&self.place.next("layout")));
        layout.add_layers("", layers);
        layout
    }

    /// Neither form takes it.
    #[track_caller]
    fn refuses(&self, layout: &Layout, code: i32, words: &str) {
        self.place.fresh_store();
        for args in [&["unpack", &layout.image(), "out"][..], &["load", &layout.image()]] {
            let said = self.place.fails(args, code, words);
            assert!(said.took < QUICK, "{said:?}");
            self.untouched();
            assert!(!self.place.path("out").exists());
        }
    }

    #[track_caller]
    fn refuses_layers(&self, layers: &[Vec<Member>], code: i32, words: &str) {
        self.refuses(&self.layout(layers), code, words);
    }

    #[track_caller]
    fn refuses_archive(&self, bytes: &[u8], code: i32, words: &str) {
        let mut layout = Layout::new(Path::new(&self.place.next("layout")));
        let stored = layout.archive(bytes, Pack::Gzip);
        layout.add("", &[stored]);
        self.refuses(&layout, code, words);
    }

    /// Both forms have these paths, inside.
    #[track_caller]
    fn holds(&self, layout: &Layout, expect: &[&str]) -> Tree {
        let flat = self.place.flat(&layout.word(), &[]);
        let overlay = self.place.overlay(&layout.word());
        let paths: Vec<&str> = flat.keys().map(String::as_str).filter(|path| *path != ".").collect();
        assert_eq!(paths, expect);
        assert_eq!(tree::diff(&flat, &overlay), [""; 0]);
        self.untouched();
        flat
    }

    #[track_caller]
    fn holds_archive(&self, bytes: &[u8], expect: &[&str]) -> Tree {
        let mut layout = Layout::new(Path::new(&self.place.next("layout")));
        let stored = layout.archive(bytes, Pack::Gzip);
        layout.add("", &[stored]);
        self.holds(&layout, expect)
    }
}

#[track_caller]
fn quick(said: &Said) {
    assert!(said.took < QUICK, "{said:?}");
}

#[test]
fn cve_2021_29136_the_root_is_no_link() {
    let Some(host) = Host::new() else { return };
    for root in [".", "./", "/", "/.", "..", "a/..", "./."] {
        for target in [host.host(), host.up()] {
            let layer = vec![symlink(root, &target), file("pwn", "")];
            host.refuses_layers(&[vec![dir("a")], layer], 5, "the root is a directory");
        }
    }
    for other in [file(".", "x"), fifo("."), hardlink("./", "a"), member(b'3', "/")] {
        host.refuses_layers(&[vec![file("a", "")], vec![other]], 5, "the root is a directory");
    }
    host.refuses_layers(&[vec![symlink("./.wh..", "x")]], 5, "a whiteout of no name");
}

/// A header that would be read as a member of its own by whoever takes the wrong size.
fn inner() -> Vec<u8> {
    [file("inner", "").bytes(), vec![0; 512]].concat()
}

#[test]
fn cve_2025_62518_the_size_of_pax_counts_where_ustar_has_none() {
    let Some(host) = Host::new() else { return };
    let outer = file("outer", inner()).size(0).pax("size", "1024");
    let tree = host.holds_archive(&tar(&[outer, file("z", "")]), &["outer", "z"]);
    assert_eq!(tree["outer"]["sha256"], sha256(&inner()));
}

#[test]
fn cve_2026_33055_the_size_of_pax_counts_where_ustar_has_another() {
    let Some(host) = Host::new() else { return };
    for wrong in [512, 1, 5000, 1 << 40] {
        let outer = file("outer", inner()).size(wrong).pax("size", "1024");
        let tree = host.holds_archive(&tar(&[outer, file("after", "")]), &["after", "outer"]);
        assert_eq!(tree["outer"]["sha256"], sha256(&inner()));
    }
}

#[test]
fn ghsa_3cv2_h65g_fgmm_the_size_of_pax_is_the_file_s_and_not_the_long_name_s() {
    let Some(host) = Host::new() else { return };
    let name = member(b'L', "././@LongLink");
    let name = Member { data: b"longname.txt\0".to_vec(), ..name };
    let pax = Member { data: record("size", b"1024"), ..member(b'x', "pax") };
    let outer = file("short", inner()).size(0);
    let tree = host.holds_archive(&tar(&[pax, name, outer]), &["longname.txt"]);
    assert_eq!(tree["longname.txt"]["sha256"], sha256(&inner()));
}

#[test]
fn cve_2026_33056_a_directory_s_mode_is_not_given_to_what_a_link_leads_to() {
    let Some(host) = Host::new() else { return };
    for target in [host.host(), host.up()] {
        let link = symlink("d", &target);
        let open = dir("d").mode(0o777).own(7, 7).xattr("user.x", "y");
        for layers in [vec![vec![link.clone(), open.clone()]], vec![vec![link], vec![open]]] {
            let tree = host.holds(&host.layout(&layers), &["d"]);
            assert_eq!((tree["d"]["type"].as_str(), tree["d"]["mode"].as_str()), ("directory", "0777"));
        }
    }
}

#[test]
fn rustsec_2018_0002_nothing_is_written_through_a_link() {
    let Some(host) = Host::new() else { return };
    for target in [host.host(), host.up()] {
        let secret = format!("{target}/secret");
        // In the place of the link.
        for link in [symlink("l", &secret), symlink("l", "./l")] {
            let layers = [vec![link.clone(), file("l", "pwn")], vec![hardlink("m", "l"), file("m", "pwn")]];
            host.holds(&host.layout(&layers), &["l", "m"]);
            let tree = host.holds(&host.layout(&[vec![link], vec![file("l", "pwn").mode(0o4777)]]), &["l"]);
            assert_eq!(tree["l"]["type"], "file");
        }
        // Through a link to a directory of the host, which is another one inside.
        for below in [file("d/secret", "pwn"), dir("d/new"), symlink("d/secret", "x"), fifo("d/new")] {
            let layer = vec![symlink("d", &target), below.clone()];
            host.refuses_layers(&[layer], 5, "is not a directory");
            let layers = [vec![symlink("d", &target)], vec![below]];
            host.refuses_layers(&layers, 5, "is not a directory");
        }
        // A hard link to a link of the same layer, and then through its name.
        let layer = vec![symlink("a", &target), hardlink("b", "a"), file("b/secret", "pwn")];
        host.refuses_layers(&[layer], 5, "is not a directory");
    }
}

#[test]
fn an_absolute_link_leads_to_its_place_inside() {
    let Some(host) = Host::new() else { return };
    let inside = host.host()[1..].to_owned();
    for target in [host.host(), host.up()] {
        let layer = vec![dir(&inside), symlink("d", &target), file("d/secret", "inside")];
        let layout = host.layout(&[layer]);
        let tree = host.place.flat(&layout.word(), &[]);
        assert_eq!(tree[&format!("{inside}/secret")]["size"], "6");
        host.untouched();
    }
}

#[test]
fn cve_2021_32760_a_hard_link_leads_to_nothing_of_the_host() {
    let Some(host) = Host::new() else { return };
    for target in [host.host(), host.up(), format!("/proc/self/root{}", host.host())] {
        let secret = format!("{target}/secret");
        for more in [vec![], vec![file("l", "pwn").mode(0o4777)], vec![dir("l").mode(0o777)]] {
            let layer = [vec![hardlink("l", &secret).mode(0o4777).own(7, 7)], more].concat();
            host.refuses_layers(std::slice::from_ref(&layer), 5, "which is not there");
            host.refuses_layers(&[vec![file("x", "")], layer], 5, "which is not there");
        }
        // Through a link of the image.
        let layer = vec![symlink("d", &target), hardlink("l", "d/secret")];
        host.refuses_layers(&[layer], 5, "which is not there");
    }
}

#[test]
fn paths_with_dots_and_slashes_stay_inside() {
    let Some(host) = Host::new() else { return };
    let layer = vec![
        file("../../../up", ""),
        file("/absolute", ""),
        file("//double//slash", ""),
        file("a/../../b", ""),
        file("./c/./d", ""),
        dir("../e/"),
    ];
    host.holds(&host.layout(&[layer]), &["absolute", "b", "c", "c/d", "double", "double/slash", "e", "up"]);
}

#[test]
fn whiteouts_hide_nothing_of_the_host() {
    let Some(host) = Host::new() else { return };
    for target in [host.host(), host.up()] {
        let mark = vec![white("d/secret"), opaque("d"), white(&format!("{}/secret", host.up()))];
        let tree = host.holds(&host.layout(&[vec![symlink("d", &target)], mark.clone()]), &["d"]);
        assert_eq!(tree["d"]["type"], "symlink");
        let layer = [vec![symlink("d", &target)], mark].concat();
        host.holds(&host.layout(&[vec![dir("d"), file("d/x", "")], layer]), &["d"]);
    }
}

#[test]
fn links_in_a_circle_are_an_error() {
    let Some(host) = Host::new() else { return };
    let circle = vec![symlink("a", "b"), symlink("b", "a"), symlink("self", "self")];
    for below in ["a/x", "self/x"] {
        host.refuses_layers(&[circle.clone(), vec![file(below, "")]], 1, "symbolic links");
    }
    let chain: Vec<Member> = (0..60).map(|n| symlink(format!("l{n}"), format!("l{}", n + 1))).collect();
    host.refuses_layers(&[[chain, vec![dir("l60"), file("l0/x", "")]].concat()], 1, "symbolic links");
}

/// GHSA-x86f-5xw2-fm2r, CVE-2019-14271, CVE-2022-1227: decompressors, libraries, NSS modules that the image brings.
#[test]
fn nothing_of_the_image_is_executed() {
    let Some(host) = Host::new() else { return };
    if Command::new("strace").arg("-V").output().is_err() {
        println!("SKIP no strace");
        return;
    }
    let script = format!("#!/bin/sh\necho pwn > {}/secret\n", host.host());
    let mut layer =
        vec![dir("etc"), file("etc/passwd", "app:x:5:5::/:\n"), file("etc/nsswitch.conf", "passwd: evil\n")];
    for program in ["bin/sh", "usr/bin/unpigz", "usr/bin/gzip", "usr/bin/xz", "bin/tar", "usr/bin/newuidmap"]
    {
        layer.push(file(program, &script).mode(0o4755));
    }
    for library in ["lib/libnss_evil.so.2", "lib/x86_64-linux-gnu/libc.so.6", "etc/ld.so.preload"] {
        layer.push(file(library, &script).mode(0o755));
    }
    let mut layout = Layout::new(&host.place.path("layout"));
    let stored = layout.layer(&layer);
    let manifest = layout.manifest(&[stored], json!({"User": "app", "WorkingDir": "/new"}));
    let manifest = layout.document(MANIFEST, &manifest);
    layout.name(manifest, "evil");
    let image = layout.image();
    for args in [&["unpack", &image, "flat"][..], &["load", &image], &["bundle", "evil", "overlay"]] {
        let log = host.place.next("strace");
        let mut command = Command::new("strace");
        command.args(["-f", "-o", &log, "-e", "trace=execve,execveat,chroot,open,openat,openat2"]);
        command.arg(crate::layout::PROGRAM).arg("--root").arg(host.place.store()).args(args);
        let output = command.current_dir(&host.place.dir).output().expect("strace");
        assert!(output.status.success(), "{args:?}: {output:?}");
        let log = fs::read_to_string(log).expect("a log");
        let calls = |name: &str| log.lines().filter(|line| line.contains(name)).collect::<Vec<_>>();
        assert_eq!(calls("execve").len(), 1, "{:?}", calls("execve"));
        assert_eq!(calls("chroot(").len(), 0);
        // Behind the loader's own, whatever is opened as a library is the image's.
        let begin = log.find("/etc/passwd").or_else(|| log.find("oci-layout")).expect("it reads the layout");
        assert!(!log[begin..].contains("nsswitch.conf\", O_RDONLY"), "{args:?}");
        assert!(!log[begin..].lines().any(|l| l.contains(".so") && !l.contains("O_CREAT")), "{args:?}");
    }
    host.untouched();
}

#[test]
fn cve_2024_9676_the_users_of_an_image_are_a_regular_file_inside() {
    let Some(host) = Host::new() else { return };
    fs::write(host.place.path("host/passwd"), "app:x:66:66::/:\n").expect("a file");
    let host = Host { before: tree::walk(&host.place.path("host")).expect("a tree"), ..host };
    let users = format!("{}/passwd", host.host());
    let outside = format!("{}/passwd", host.up());
    for passwd in [
        vec![fifo("etc/passwd")],
        vec![symlink("etc/passwd", "/dev/zero"), dir("dev"), crate::layer::character("dev/zero", 1, 5)],
        vec![symlink("etc/passwd", "/dev/zero")],
        vec![symlink("etc/passwd", &users)],
        vec![symlink("etc/passwd", &outside)],
        vec![symlink("etc/passwd", "/proc/self/fd/0")],
        vec![symlink("etc", host.host())],
        vec![dir("etc/passwd")],
        vec![file("etc/passwd", "app:x:99999999999:5::/:\n")],
        vec![file("etc/passwd", "app:x:-1:5::/:\n")],
        vec![file("etc/passwd", "app:x:4294967295:5::/:\n")],
    ] {
        let mut layout = Layout::new(Path::new(&host.place.next("layout")));
        let stored = layout.layer(&passwd);
        let manifest = layout.manifest(&[stored], json!({"User": "app"}));
        let manifest = layout.document(MANIFEST, &manifest);
        layout.name(manifest, "evil");
        let said = host.place.run(&["unpack", &layout.image(), "out"]);
        quick(&said);
        assert!(matches!(said.code, Some(1..=6)), "{said:?}");
        host.place.nothing_is_left();
        host.place.succeeds(&["load", &layout.image()]);
        let said = host.place.run(&["bundle", "evil", "overlay"]);
        quick(&said);
        assert!(matches!(said.code, Some(1..=6)), "{said:?}");
        assert_eq!(names(&host.place.path("overlay")), Default::default());
        host.place.succeeds(&["rm", "evil"]);
        host.untouched();
    }
}

#[test]
fn cve_2024_40635_a_user_s_number_does_not_wrap() {
    let Some(host) = Host::new() else { return };
    for user in ["4294967296", "4294967295", "-1", "2147483648000", "0:4294967296", "99999999999999999999"] {
        let mut layout = Layout::new(Path::new(&host.place.next("layout")));
        let manifest = layout.manifest(&[], json!({"User": user}));
        let manifest = layout.document(MANIFEST, &manifest);
        layout.name(manifest, "");
        let said = host.place.run(&["unpack", &layout.image(), "out"]);
        assert!(matches!(said.code, Some(1..=6)), "{user}: {said:?}");
        host.place.nothing_is_left();
    }
}

#[test]
fn cve_2022_23648_volumes_and_the_working_directory_stay_inside() {
    let Some(host) = Host::new() else { return };
    for target in [host.host(), host.up()] {
        let mut layout = Layout::new(Path::new(&host.place.next("layout")));
        let stored = layout.layer(&[symlink("v", &target), symlink("w", &target), file("etc/x", "")]);
        let config = json!({"Volumes": {"/v": {}, "/../../v": {}, "v/new": {}}, "WorkingDir": "/w/new"});
        let manifest = layout.document(MANIFEST, &layout.manifest(&[stored], config));
        layout.name(manifest, "evil");
        let [flat, overlay] = [host.place.next("flat"), host.place.next("overlay")];
        host.place.run(&["unpack", &layout.image(), &flat]);
        host.place.run(&["load", &layout.image()]);
        host.place.run(&["bundle", "evil", &overlay]);
        host.untouched();
        for bundle in [flat, overlay] {
            let Ok(text) = fs::read_to_string(format!("{bundle}/config.json")) else { continue };
            let config: Value = serde_json::from_str(&text).expect("JSON");
            let source = |m: &Value| m["source"].as_str().unwrap_or_default().to_owned();
            let mounts = config["mounts"].as_array().expect("mounts");
            assert!(!mounts.iter().any(|m| source(m).contains("host")), "{text}");
            host.place.run(&["umount", "--delete", &bundle]);
        }
        host.untouched();
    }
}

const TRAVERSALS: [&str; 8] = [
    "sha256:../../../host/secret",
    "../../x:0000000000000000000000000000000000000000000000000000000000000000",
    "sha256:..",
    "sha256:",
    "",
    "sha256:ABCDEF0000000000000000000000000000000000000000000000000000000000",
    "md5:d41d8cd98f00b204e9800998ecf8427e",
    "sha256:000000000000000000000000000000000000000000000000000000000000000/",
];

#[test]
fn cve_2024_3727_a_digest_is_no_path() {
    let Some(host) = Host::new() else { return };
    for digest in TRAVERSALS {
        for place in ["index", "config", "layer", "diff_id", "child"] {
            let mut layout = Layout::new(Path::new(&host.place.next("layout")));
            let stored = layout.layer(&[file("a", "")]);
            let mut manifest = layout.manifest(std::slice::from_ref(&stored), json!({}));
            let set = |descriptor: &mut Value| descriptor["digest"] = json!(digest);
            match place {
                "config" => set(&mut manifest["config"]),
                "layer" => set(&mut manifest["layers"][0]),
                "diff_id" => {
                    let stored = Stored { diff_id: digest.into(), ..stored };
                    manifest = layout.manifest(&[stored], json!({}));
                }
                _ => {}
            }
            let mut top = layout.document(MANIFEST, &manifest);
            match place {
                "index" => set(&mut top),
                "child" => {
                    set(&mut top);
                    top = layout.document(INDEX, &json!({"schemaVersion": 2, "manifests": [top]}));
                }
                _ => {}
            }
            layout.name(top, "");
            host.refuses(&layout, 5, "digest ");
        }
    }
}

#[test]
fn cve_2024_9675_a_name_is_no_path() {
    let Some(host) = Host::new() else { return };
    for name in ["../../host/secret", "..", "/etc/passwd", "a/../../b", "host/secret\nx", "x:../y"] {
        let mut layout = Layout::new(Path::new(&host.place.next("layout")));
        layout.add_layers(name, &[vec![file("a", "")]]);
        host.place.fresh_store();
        host.place.fails(&["load", &layout.image(), "--name", name], 2, "");
        host.place.succeeds(&["load", &layout.image()]);
        host.place.succeeds(&["bundle", &layout.image(), "overlay"]);
        host.place.succeeds(&["umount", "--delete", "overlay"]);
        host.place.succeeds(&["ls"]);
        host.place.succeeds(&["rm", name]);
        host.place.nothing_is_left();
        host.untouched();
    }
}

#[test]
fn cve_2021_41190_a_document_is_a_manifest_or_an_index() {
    let Some(host) = Host::new() else { return };
    let layout = Layout::new(&host.place.path("layout"));
    let stored = layout.layer(&[file("a", "")]);
    let manifest = layout.manifest(&[stored], json!({}));
    let mut both = manifest.clone();
    both["manifests"] = json!([]);
    let mut silent = both.clone();
    silent.as_object_mut().expect("an object").remove("mediaType");
    let mut lies = manifest.clone();
    lies["mediaType"] = json!(INDEX);
    for (document, media_type, words) in [
        (&both, MANIFEST, "both a manifest and an index"),
        (&both, INDEX, "announced as"),
        (&silent, MANIFEST, "both a manifest and an index"),
        (&silent, INDEX, "both a manifest and an index"),
        (&lies, MANIFEST, "announced as"),
        (&manifest, INDEX, "announced as"),
    ] {
        let mut layout = Layout::new(Path::new(&host.place.next("layout")));
        let top = layout.document(media_type, document);
        layout.name(top, "");
        host.refuses(&layout, 5, words);
    }
}

#[test]
fn what_is_no_image_is_told_as_what_it_is() {
    let Some(host) = Host::new() else { return };
    let place = &host.place;
    let layout = |change: &dyn Fn(&mut Value)| {
        let mut layout = Layout::new(Path::new(&place.next("layout")));
        let stored = layout.layer(&[file("a", "")]);
        let mut manifest = layout.manifest(&[stored], json!({}));
        change(&mut manifest);
        let top = layout.document(MANIFEST, &manifest);
        layout.name(top, "");
        layout
    };
    let artifact = layout(&|m| m["config"]["mediaType"] = json!("application/vnd.oci.empty.v1+json"));
    host.refuses(&artifact, 6, "an artifact, not an image");
    let chart = layout(&|m| m["layers"][0]["mediaType"] = json!("application/vnd.in-toto+json"));
    host.refuses(&chart, 6, "is no file system layer");
    let old = layout(&|m| *m = json!({"schemaVersion": 1, "fsLayers": [], "history": []}));
    host.refuses(&old, 6, "schemaVersion 1");
    let many = layout(&|m| m["layers"] = json!(vec![m["layers"][0].clone(); 501]));
    host.refuses(&many, 6, "more than 500");
    for (field, value) in
        [("size", json!(-1)), ("size", json!(1.5)), ("size", json!("1")), ("digest", json!(null))]
    {
        host.refuses(&layout(&|m| m["layers"][0][field] = value.clone()), 5, "layers[0]");
    }
    for (field, value) in [("layers", json!({})), ("config", json!(null)), ("layers", json!(null))] {
        host.refuses(&layout(&|m| m[field] = value.clone()), 5, "");
    }
    // May be had, not passed on.
    let foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
    host.holds(&layout(&|m| m["layers"][0]["mediaType"] = json!(foreign)), &["a"]);
}

#[test]
fn layers_and_diff_ids_and_history_are_as_many() {
    let Some(host) = Host::new() else { return };
    let change = |change: &dyn Fn(&mut Value)| {
        let mut layout = Layout::new(Path::new(&host.place.next("layout")));
        let stored = layout.layer(&[file("a", "")]);
        let mut config = json!({
            "os": "linux", "architecture": "amd64",
            "rootfs": {"type": "layers", "diff_ids": [stored.diff_id]}, "history": [{}],
        });
        change(&mut config);
        let config = layout.document(CONFIG, &config);
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": [stored.descriptor]});
        let top = layout.document(MANIFEST, &manifest);
        layout.name(top, "");
        layout
    };
    host.refuses(&change(&|c| c["rootfs"]["diff_ids"] = json!([])), 5, "rootfs.diff_ids: 0 for 1");
    host.refuses(&change(&|c| c["history"] = json!([{}, {}])), 5, "history: 2 steps");
    host.refuses(&change(&|c| c["history"] = json!([{"empty_layer": true}])), 5, "history: 0 steps");
    host.refuses(
        &change(&|c| c["rootfs"]["diff_ids"][0] = json!(format!("sha256:{}", sha256(b"x")))),
        5,
        "digest is",
    );
    host.holds(
        &change(&|c| c["history"] = json!([{"empty_layer": true}, {}, {"empty_layer": true}])),
        &["a"],
    );
    host.holds(&change(&|c| c["history"] = json!(null)), &["a"]);
}

#[test]
fn indexes_within_indexes_have_an_end() {
    let Some(host) = Host::new() else { return };
    let nested = |depth: usize| {
        let mut layout = Layout::new(Path::new(&host.place.next("layout")));
        let stored = layout.layer(&[file("a", "")]);
        let mut top = layout.document(MANIFEST, &layout.manifest(&[stored], json!({})));
        for _ in 0..depth {
            top = layout.document(INDEX, &json!({"schemaVersion": 2, "manifests": [top]}));
        }
        layout.name(top, "");
        layout
    };
    host.refuses(&nested(5), 5, "indexes within indexes");
    host.refuses(&nested(300), 5, "indexes within indexes");
    host.holds(&nested(2), &["a"]);
    // One that names itself has a digest that can't be right.
    let mut layout = Layout::new(Path::new(&host.place.next("layout")));
    let mut own = descriptor(INDEX, b"");
    own["size"] = json!(300);
    let document = json!({"schemaVersion": 2, "manifests": [own]}).to_string();
    fs::write(layout.blob_path(&own), format!("{document:300}")).expect("a blob");
    layout.name(own, "");
    host.refuses(&layout, 5, "digest is");
}

#[test]
fn every_blob_is_verified() {
    let Some(host) = Host::new() else { return };
    type Harm = fn(&mut Vec<u8>);
    let harms: [Harm; 5] = [
        |b| b[0] ^= 1,
        |b| *b.last_mut().expect("a byte") ^= 1,
        |b| b.truncate(b.len() - 1),
        |b| b.push(0),
        |b| b.clear(),
    ];
    for which in 0..3 {
        for harm in harms {
            for form in [Pack::None, Pack::Gzip, Pack::Zstd] {
                let mut layout = Layout::new(Path::new(&host.place.next("layout")));
                let stored = layout.archive(&tar(&[file("a", "text")]), form);
                let manifest = layout.manifest(std::slice::from_ref(&stored), json!({}));
                let top = layout.document(MANIFEST, &manifest);
                let blob = [&stored.descriptor, &manifest["config"], &top][which];
                let path = layout.blob_path(blob);
                let mut bytes = fs::read(&path).expect("a blob");
                harm(&mut bytes);
                fs::write(&path, bytes).expect("a blob");
                layout.name(top.clone(), "");
                host.refuses(&layout, 5, "");
                fs::remove_file(&path).expect("a blob");
                host.refuses(&layout, 3, "missing");
            }
        }
    }
}

#[test]
fn blobs_and_documents_are_regular_files() {
    let Some(host) = Host::new() else { return };
    for name in ["index.json", "oci-layout", "manifest", "layer"] {
        for what in ["pipe", "zero", "folder", "socket"] {
            let mut layout = Layout::new(Path::new(&host.place.next("layout")));
            let stored = layout.layer(&[file("a", "text")]);
            let top = layout.add("", std::slice::from_ref(&stored));
            let path = match name {
                "manifest" => layout.blob_path(&top),
                "layer" => layout.blob_path(&stored.descriptor),
                name => layout.dir.join(name),
            };
            fs::remove_file(&path).expect("a file");
            match what {
                "pipe" => rustix::fs::mknodat(
                    rustix::fs::CWD,
                    &path,
                    rustix::fs::FileType::Fifo,
                    rustix::fs::Mode::RUSR,
                    0,
                )
                .expect("a pipe"),
                "zero" => host_symlink("/dev/zero", &path).expect("a link"),
                "folder" => fs::create_dir(&path).expect("a folder"),
                _ => drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket")),
            }
            for args in [&["unpack", &layout.image(), "out"][..], &["load", &layout.image()]] {
                let said = host.place.run(args);
                quick(&said);
                assert!(matches!(said.code, Some(1..=6)), "{name} {what}: {said:?}");
                host.place.nothing_is_left();
            }
        }
    }
}

/// A frame of zstd that grows 30,000 times: blocks of one repeated byte.
fn zstd_zeros(bytes: u64) -> Vec<u8> {
    const BLOCK: u64 = 128 << 10;
    // Magic; no checksum, no size; a window of 1 MiB.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 10 << 3];
    let blocks = bytes / BLOCK;
    for n in 1..=blocks {
        let header = u32::try_from(BLOCK).expect("small") << 3 | 1 << 1 | u32::from(n == blocks);
        frame.extend(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

/// Members of gzip one after another.
fn gzip_zeros(bytes: u64) -> Vec<u8> {
    const MEMBER: u64 = 16 << 20;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut gzip, &vec![0; MEMBER as usize]).expect("into memory");
    gzip.finish().expect("into memory").repeat((bytes / MEMBER) as usize)
}

const TEN_GIB: u64 = 10 << 30;

fn bombs() -> [(&'static str, Vec<u8>, Pack); 2] {
    [("zstd", zstd_zeros(TEN_GIB), Pack::Zstd), ("gzip", gzip_zeros(TEN_GIB), Pack::Gzip)]
}

#[test]
fn a_file_of_ten_gib_of_zeros_is_refused_at_once() {
    let Some(host) = Host::new() else { return };
    for (name, zeros, form) in bombs() {
        let head = file("zeros", "").size(TEN_GIB).bytes();
        let bomb = [crate::layer::pack(&head[..512], form), zeros].concat();
        refuses_bomb(&host, name, &bomb, "--max-layer-size");
    }
}

#[test]
fn ten_gib_of_zeros_behind_the_archive_are_refused_at_the_limit() {
    let Some(host) = Host::new() else { return };
    for (name, zeros, form) in bombs() {
        let bomb = [crate::layer::pack(&tar(&[file("a", "")]), form), zeros].concat();
        refuses_bomb(&host, name, &bomb, "uncompressed: more than");
    }
}

/// The limit that there is takes a second; a smaller one shows that it is one.
#[track_caller]
fn refuses_bomb(host: &Host, name: &str, bomb: &[u8], words: &str) {
    let mut layout = Layout::new(Path::new(&host.place.next("layout")));
    let descriptor = layout.blob(&format!("{LAYER}+{name}"), bomb);
    let stored = Stored { descriptor, diff_id: format!("sha256:{}", sha256(b"")) };
    layout.add("", &[stored]);
    let image = layout.image();
    for args in [
        &["unpack", &image, "out"][..],
        &["--max-layer-size", "50000000", "unpack", &image, "out"],
        &["--max-layer-size", "50000000", "load", &image],
    ] {
        let said = host.place.fails(args, 5, words);
        quick(&said);
        println!("{name} {args:?}: {:?}", said.took);
    }
}

#[test]
fn an_archive_that_grows_without_end_is_refused() {
    let Some(host) = Host::new() else { return };
    for (name, zeros, form) in bombs() {
        let path = host.place.next(name);
        let head = file("zeros", "").size(TEN_GIB).bytes();
        fs::write(&path, [crate::layer::pack(&head[..512], form), zeros].concat()).expect("a file");
        for args in [&["load", &path][..], &["unpack", &format!("docker-archive:{path}"), "out"]] {
            let said = host.place.fails(args, 5, "uncompressed: more than");
            quick(&said);
        }
    }
}

#[test]
fn a_tree_to_import_that_grows_without_end_is_refused() {
    let Some(host) = Host::new() else { return };
    for (name, zeros, _) in bombs() {
        let path = host.place.next(name);
        fs::write(&path, zeros).expect("a file");
        for args in [&["import", &path, "x"][..], &["--max-layer-size", "50000000", "import", &path, "x"]] {
            quick(&host.place.fails(args, 5, "uncompressed: more than"));
        }
    }
}

#[test]
fn a_path_of_a_million_levels_is_refused() {
    let Some(host) = Host::new() else { return };
    let deep = "a/".repeat(1_000_000);
    host.refuses_layers(&[vec![file(format!("{deep}x"), "")]], 5, "extended header of");
    let deep = "a/".repeat(500_000);
    host.refuses_layers(&[vec![file(format!("{deep}x"), "")]], 5, "path");
    let name = Member { data: deep.clone().into_bytes(), ..member(b'L', "././@LongLink") };
    host.refuses_layers(&[vec![name, file("x", "")]], 5, "path");
    for at in [4095, 4096, 5000] {
        let path = format!("{}{}", "a/".repeat(at / 2 - 1), "b".repeat(at % 2 + 1));
        let layout = host.layout(&[vec![file(&path, "")]]);
        let said = host.place.run(&["unpack", "--rootfs-only", &layout.image(), &host.place.next("deep")]);
        assert_eq!(said.code, Some(if path.len() > 4095 { 5 } else { 0 }), "{}: {said:?}", path.len());
    }
}

#[test]
fn deep_directories_without_an_entry_take_no_long_time() {
    let Some(host) = Host::new() else { return };
    let deep = "a/".repeat(2000);
    let members: Vec<Member> = (0..4).map(|n| file(format!("{n:04}/{deep}x"), "")).collect();
    within_memory(&host, &host.layout(&[members]));
}

/// Deeper than any path is long: every link begins where the one before ended.
#[test]
fn a_very_deep_tree_is_made_and_removed() {
    let Some(host) = Host::new() else { return };
    let part = vec!["d"; 40].join("/");
    let mut layer = Vec::new();
    let mut above = String::new();
    for level in 0..60 {
        layer.push(file(format!("{above}{part}/file"), ""));
        layer.push(symlink(format!("link{level}"), format!("{above}{part}")));
        above = format!("link{level}/");
        // Each step through one link only: the next one leads to where this one is.
        layer.push(symlink(format!("{above}up"), "x"));
    }
    let layout = host.layout(&[layer.clone()]);
    let said = host.place.run(&["unpack", "--rootfs-only", &layout.image(), "deep"]);
    quick(&said);
    layer.push(member(b'?', "at the end"));
    let layout = host.layout(&[vec![file("x", "")], layer]);
    for args in [&["unpack", &layout.image(), "out"][..], &["load", &layout.image()]] {
        let said = host.place.run(args);
        quick(&said);
        assert!(matches!(said.code, Some(1..=6)), "{said:?}");
        host.place.nothing_is_left();
    }
}

#[test]
fn lengths_without_end_are_refused() {
    let Some(host) = Host::new() else { return };
    for size in [1 << 63, u64::MAX, i64::MAX as u64, 1 << 62] {
        host.refuses_layers(&[vec![file("f", "").size(size)]], 5, "");
        host.refuses_layers(&[vec![file("f", "").pax("size", size.to_string())]], 5, "");
        for kind in [b'x', b'g', b'L', b'K'] {
            host.refuses_layers(&[vec![member(kind, "f").size(size), file("f", "")]], 5, "");
        }
    }
    for size in ["-1", "1e3", "0x10", " 1", "99999999999999999999", "1.5"] {
        host.refuses_layers(&[vec![file("f", "").pax("size", size)]], 5, "is no number");
    }
    for (field, at) in [("uid", 108), ("mode", 100), ("mtime", 136), ("size", 124)] {
        let mut bytes = tar(&[file("f", "")]);
        bytes[at..at + 7].copy_from_slice(b"99999zz");
        let sum: u32 = bytes[..148].iter().chain(&bytes[156..512]).map(|b| u32::from(*b)).sum::<u32>() + 256;
        bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        println!("{field}");
        host.refuses_archive(&bytes, 5, "no octal number");
    }
}

#[test]
fn extended_headers_say_the_truth_about_their_length() {
    let Some(host) = Host::new() else { return };
    for records in [
        &b"99999999999 path=x\n"[..],
        b"9223372036854775808 path=x\n",
        b"18446744073709551615 path=x\n",
        b"99999999999999999999999999 path=x\n",
        b"0 path=x\n",
        b"1 path=x\n",
        b"8 path=x\n",
        b"11 path=x",
        b"-5 path=x\n",
        b"path=x\n",
        b"7 pathx\n",
        b"\n",
        b"11 path=x\n\0",
    ] {
        let pax = Member { data: records.to_vec(), ..member(b'x', "pax") };
        host.refuses_layers(&[vec![pax, file("f", "")]], 5, "");
    }
}

/// As much memory as an honest layer may take, and time.
#[track_caller]
fn within_memory(host: &Host, layout: &Layout) {
    for args in [format!("unpack --rootfs-only {} out", layout.image()), format!("load {}", layout.image())] {
        let store = host.place.store();
        let script =
            format!("ulimit -v 400000; exec {} --root {} {args}", crate::layout::PROGRAM, store.display());
        let begin = std::time::Instant::now();
        let output =
            Command::new("sh").args(["-c", &script]).current_dir(&host.place.dir).output().expect("sh");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(begin.elapsed() < QUICK, "{:?}: {text}", begin.elapsed());
        assert!(matches!(output.status.code(), Some(0..=6)), "{:?}: {text}", output.status);
    }
    host.untouched();
}

#[test]
fn many_attributes_take_no_long_time() {
    let Some(host) = Host::new() else { return };
    let mut records = Vec::new();
    for n in 0.. {
        records.extend(record(&format!("SCHILY.xattr.user.{n}"), b""));
        if records.len() > (1 << 20) - 100 {
            break;
        }
    }
    let pax = Member { data: records, ..member(b'x', "pax") };
    within_memory(&host, &host.layout(&[vec![pax.clone(), file("f", "")]]));
    let again = vec![pax; 40];
    within_memory(&host, &host.layout(&[[again, vec![file("f", "")]].concat()]));
}

#[test]
fn extended_headers_one_after_another_share_their_limit() {
    let Some(host) = Host::new() else { return };
    let large = |kind: u8, n: usize| Member {
        data: record(&format!("SCHILY.xattr.user.{n}"), &[b'x'; 60_000]),
        ..member(kind, "pax")
    };
    for kind in [b'x', b'L', b'K'] {
        let headers: Vec<Member> = (0..20).map(|n| large(kind, n)).collect();
        host.refuses_layers(&[[headers, vec![file("f", "")]].concat()], 5, "extended header of");
    }
    let sparse = Member { data: record("GNU.sparse.offset", b"0").repeat(10_000), ..member(b'x', "pax") };
    host.refuses_layers(&[[vec![sparse; 6], vec![file("f", "")]].concat()], 5, "extended header of");
}

#[test]
fn a_global_header_is_not_paid_for_by_every_member() {
    let Some(host) = Host::new() else { return };
    let records = record("SCHILY.xattr.security.selinux", &vec![b'x'; 1_000_000]);
    let mut layer = vec![Member { data: records, ..member(b'g', "pax") }];
    layer.extend((0..20_000).map(|n| hardlink(format!("f{n}"), "f0")));
    layer[1] = file("f0", "");
    within_memory(&host, &host.layout(&[layer]));
}

#[test]
fn many_global_headers_are_refused() {
    let Some(host) = Host::new() else { return };
    let global = |n: usize| Member {
        data: record(&format!("SCHILY.xattr.user.{n}"), &[b'x'; 3000]),
        ..member(b'g', "pax")
    };
    let mut layer: Vec<Member> = (0..300).map(global).collect();
    layer.extend((0..4000).map(|n| file(format!("f{n}"), "")));
    host.refuses_layers(&[layer], 5, "extended header of");
}

#[test]
fn sparse_maps_are_checked() {
    let Some(host) = Host::new() else { return };
    let sparse = |map: &str, size: &str, data: &[u8]| {
        vec![file("f", data).pax("GNU.sparse.map", map).pax("GNU.sparse.size", size)]
    };
    for (map, size, data) in [
        ("0,512,256,512", "1024", 1024),
        ("1024,512,0,512", "2048", 1024),
        ("0,512", "100", 512),
        ("0,9223372036854775807,1,9223372036854775807", "9223372036854775807", 512),
        ("18446744073709551615,512", "18446744073709551615", 512),
        ("0,512", "512", 1024),
        ("0,1024", "1024", 512),
        ("0", "512", 512),
        ("0,512,", "512", 512),
        ("x", "512", 512),
    ] {
        host.refuses_layers(&[sparse(map, size, &vec![1; data])], 5, "");
    }
    // A size that no layer has is refused though it takes no room.
    host.refuses_layers(&[sparse("0,512", "1152921504606846976", &[1; 512])], 5, "--max-layer-size");
    for lines in ["99999999999999999999\n", "1000000\n", "2\n0\n512\n", "x", "-1\n"] {
        let layer = file("f", lines.as_bytes()).pax("GNU.sparse.major", "1").pax("GNU.sparse.minor", "0");
        let layer = layer.pax("GNU.sparse.realsize", "1024");
        let said = host.place.run(&["load", &host.layout(&[vec![layer]]).image()]);
        assert!(matches!(said.code, Some(5 | 6)), "{lines:?}: {said:?}");
    }
}

#[test]
fn marks_again_and_again_take_no_long_time() {
    let Some(host) = Host::new() else { return };
    let lower: Vec<Member> =
        [dir("d")].into_iter().chain((0..4000).map(|n| hardlink(format!("d/{n}"), "f"))).collect();
    let lower = [vec![file("f", "")], lower].concat();
    let mut upper = vec![file("f", ""), dir("d")];
    for n in 0..4000 {
        upper.push(hardlink(format!("d/own{n}"), "f"));
        upper.push(opaque("d"));
        upper.push(white(&format!("d/{n}")));
        upper.push(white("d"));
    }
    let layout = host.layout(&[lower, upper]);
    for args in [&["unpack", "--rootfs-only", &layout.image(), "out"][..], &["load", &layout.image()]] {
        quick(&host.place.succeeds(args));
    }
    assert_eq!(names(&host.place.path("out/d")).len(), 4000);
}

#[test]
fn names_that_no_file_can_have_are_errors() {
    let Some(host) = Host::new() else { return };
    for path in [&b""[..], b"a\0b", b"\0"] {
        host.refuses_layers(&[vec![file("x", "").pax("path", path), file(path, "")]], 5, "path");
    }
    host.refuses_layers(&[vec![file("n".repeat(256), "")]], 1, "too long");
    host.refuses_layers(&[vec![symlink("l", "")]], 5, "link target");
    host.refuses_layers(&[vec![hardlink("l", "")]], 5, "link target");
    host.refuses_layers(&[vec![symlink("l", "t".repeat(4096))]], 5, "link target");
    host.refuses_layers(&[vec![symlink("l", "x").pax("linkpath", b"a\0b")]], 5, "link target");
}

#[test]
fn a_file_below_a_whiteout_is_an_error() {
    let Some(host) = Host::new() else { return };
    host.refuses_layers(&[vec![dir(".wh.d"), file(".wh.d/x", "")]], 5, "below the whiteout");
    host.refuses_layers(&[vec![file("a/.wh.d/e/x", "")]], 5, "below the whiteout");
}

#[test]
fn members_of_unknown_types_are_errors() {
    let Some(host) = Host::new() else { return };
    for kind in [b'V', b'M', b'D', b'N', b'8', b'Z', 0xff] {
        host.refuses_layers(&[vec![file("a", ""), member(kind, "f")]], 6, "type");
    }
}

#[test]
fn archives_that_are_cut_or_broken_are_errors() {
    let Some(host) = Host::new() else { return };
    let whole = tar(&[file("a", "text"), file("b", vec![7; 2000])]);
    for cut in [1, 100, 511, 513, 600, 1025, 1600, 2600, 3000] {
        host.refuses_archive(&whole[..cut], 5, "");
    }
    // Without its end it is whole.
    host.holds_archive(&whole[..whole.len() - 1024], &["a", "b"]);
    for at in [0, 150, 1024 + 5] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        host.refuses_archive(&bytes, 5, "");
    }
    let between = [file("a", "").bytes(), vec![0; 512], file("b", "").bytes(), vec![0; 1024]].concat();
    host.refuses_archive(&between, 5, "one block of zeros");
    host.refuses_archive(b"PK\x03\x04 a zip archive, not a tar at all", 5, "");
}

#[test]
fn the_sizes_of_layers_do_not_overflow() {
    let Some(host) = Host::new() else { return };
    let mut layout = Layout::new(&host.place.path("layout"));
    let mut stored = layout.layer(&[file("a", "")]);
    stored.descriptor["size"] = json!(u64::MAX);
    layout.add("x", &[stored.clone(), stored]);
    for args in [&["inspect", &layout.image()][..], &["history", &layout.image()]] {
        let said = host.place.run(args);
        assert!(matches!(said.code, Some(0..=6)), "{said:?}");
    }
    host.refuses(&layout, 5, "");
    host.place.succeeds(&["ls"]);
}

/// Docker's archive, by its members.
#[track_caller]
fn saved(host: &Host, members: &[Member]) -> Said {
    let path = host.place.next("archive");
    fs::write(&path, tar(members)).expect("a file");
    let said = host.place.run(&["load", &path]);
    quick(&said);
    host.untouched();
    said
}

#[test]
fn a_layer_that_is_named_often_is_read_once() {
    let Some(host) = Host::new() else { return };
    let large = file("l", vec![b'x'; 32 << 20]);
    for (n, words) in [(400, ""), (501, "layers: 501, more than 500")] {
        let ids = vec![format!("sha256:{}", "0".repeat(64)); n];
        let config = json!({"os": "linux", "rootfs": {"type": "layers", "diff_ids": ids}}).to_string();
        let list = json!([{"Config": "c.json", "RepoTags": ["x:1"], "Layers": vec!["l"; n]}]).to_string();
        let said = saved(&host, &[file("manifest.json", list), file("c.json", config), large.clone()]);
        assert!(said.code != Some(0) && said.stderr.contains(words), "{said:?}");
        host.place.nothing_is_left();
    }
}

#[test]
fn an_archive_of_many_images_takes_no_memory_for_their_configurations() {
    let Some(host) = Host::new() else { return };
    let config = |n: usize| {
        let filler = "x".repeat(4_000_000);
        json!({"os": "linux", "architecture": "none", "author": format!("{n}{filler}"), "rootfs": {"diff_ids": []}})
    };
    let list = |n: usize| {
        json!([{"Config": format!("{n}"), "RepoTags": [format!("x:{n}")], "Layers": []}])[0].clone()
    };
    let mut members: Vec<Member> = (0..60).map(|n| file(format!("{n}"), config(n).to_string())).collect();
    let all: Vec<Value> = (0..60).map(list).collect();
    members.push(file("manifest.json", json!(all).to_string()));
    let path = host.place.next("archive");
    fs::write(&path, tar(&members)).expect("a file");
    let script = format!("ulimit -v 150000; exec {} --root store load {path}", crate::layout::PROGRAM);
    let output = Command::new("sh").args(["-c", &script]).current_dir(&host.place.dir).output().expect("sh");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{text}");
}

#[test]
fn an_archive_of_more_than_a_thousand_images_is_refused() {
    let Some(host) = Host::new() else { return };
    let config = file("c", json!({"os": "linux", "rootfs": {"diff_ids": []}}).to_string());
    let many = |tags: usize| json!({"Config": "c", "RepoTags": vec!["x:1"; tags], "Layers": []});
    for list in [vec![many(0); 1001], vec![many(1001)], vec![many(600); 2]] {
        let said = saved(&host, &[file("manifest.json", json!(list).to_string()), config.clone()]);
        assert!(said.code == Some(6) && said.stderr.contains("more than 1000"), "{said:?}");
        host.place.nothing_is_left();
    }
}

#[test]
fn an_archive_of_images_holds_all_that_it_names() {
    let Some(host) = Host::new() else { return };
    let layer = tar(&[file("a", "")]);
    let diff_id = format!("sha256:{}", sha256(&layer));
    let config = |ids: &Value| {
        json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": ids}})
            .to_string()
    };
    let list =
        |layer: &str| json!([{"Config": "c.json", "RepoTags": ["x:1"], "Layers": [layer]}]).to_string();
    let with = |list: &str, more: Member| {
        vec![file("manifest.json", list), file("c.json", config(&json!([diff_id]))), more]
    };
    for (path, more) in [
        ("../../../../../../etc/hostname", file("l", "")),
        (&*format!("{}/secret", host.up()), file("l", "")),
        ("l", symlink("l", format!("{}/secret", host.up()))),
        ("l", symlink("l", "l")),
        ("l", hardlink("l", "m")),
        ("l", dir("l")),
        ("l", fifo("l")),
    ] {
        let said = saved(&host, &with(&list(path), more));
        assert_eq!(said.code, Some(5), "{path}: {said:?}");
        host.place.nothing_is_left();
    }
    let said = saved(&host, &with("[", file("l", &layer)));
    assert_eq!(said.code, Some(5), "{said:?}");
    let said = saved(&host, &with(&list("l"), file("l", &layer)));
    assert_eq!(said.code, Some(0), "{said:?}");
    host.place.succeeds(&["rm", "x:1"]);
    let said =
        saved(&host, &[file("manifest.json", list("l")), file("c.json", config(&json!([]))), file("l", "")]);
    assert_eq!(said.code, Some(5), "{said:?}");
    let many: Vec<Member> = (0..100_010).map(|n| file(format!("{n}"), "")).collect();
    let said = saved(&host, &many);
    assert_eq!(said.code, Some(5), "{said:?}");
    host.place.nothing_is_left();
}

/// A bundle with a file, a folder, and links to the host that change places with them.
struct Race {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Race {
    fn begin(rootfs: &Path, host: &str) -> Self {
        host_symlink(format!("{host}/secret"), rootfs.join("file.other")).expect("a link");
        host_symlink(host, rootfs.join("dir.other")).expect("a link");
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (seen, rootfs) = (std::sync::Arc::clone(&stop), rootfs.to_owned());
        let thread = std::thread::spawn(move || {
            let here = rustix::fs::CWD;
            while !seen.load(std::sync::atomic::Ordering::Relaxed) {
                for name in ["file", "dir"] {
                    let (one, other) = (rootfs.join(name), rootfs.join(format!("{name}.other")));
                    match rustix::fs::renameat_with(here, one, here, other, rustix::fs::RenameFlags::EXCHANGE)
                    {
                        // overlayfs moves no directory of a lower layer.
                        Ok(()) | Err(rustix::io::Errno::XDEV) => {}
                        Err(e) => panic!("names change: {e}"),
                    }
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Race {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the thread ends");
        }
    }
}

/// CVE-2018-15664, CVE-2023-0778: a name that is checked and then opened may be a link in between.
#[test]
fn cve_2018_15664_what_is_written_back_is_never_the_host_s() {
    let Some(host) = Host::new() else { return };
    let place = &host.place;
    let layer = vec![file("file", "inside"), dir("dir"), file("dir/secret", "inside")];
    let layout = host.layout(&[layer]);
    for (make, rootfs) in [("unpack", "rootfs"), ("bundle", "rootfs")] {
        place.succeeds(&[make, &layout.image(), make]);
        let race = Race::begin(&place.path(make).join(rootfs), &host.host());
        for round in 0..15 {
            // It may fail where something vanished; it may not tell the host's.
            let out = place.next("out");
            place.run(&["export", make, "--output", &out]);
            place.run(&["commit", make, &format!("{make}:{round}"), "--compress", "none"]);
            let mut files = vec![Path::new(&out).to_owned()];
            files.extend(
                names(&place.store().join("blobs/sha256"))
                    .iter()
                    .map(|n| place.store().join("blobs/sha256").join(n)),
            );
            for path in files {
                let bytes = fs::read(&path).unwrap_or_default();
                assert!(!bytes.windows(9).any(|w| w == b"untouched"), "{make}: {}", path.display());
            }
        }
        drop(race);
        host.untouched();
        place.succeeds(&["umount", "--delete", make]);
    }
}

#[test]
fn what_is_inserted_or_removed_is_inside() {
    let Some(host) = Host::new() else { return };
    let place = &host.place;
    fs::write(place.path("new"), "new").expect("a file");
    fs::create_dir(place.path("folder"))
        .and_then(|()| fs::write(place.path("folder/secret"), "new"))
        .expect("a folder");
    for target in [host.host(), host.up()] {
        let mut layout = Layout::new(Path::new(&place.next("layout")));
        layout.add_layers("evil:1", &[vec![symlink("d", &target), symlink("f", format!("{target}/secret"))]]);
        place.succeeds(&["load", &layout.image()]);
        for args in [
            &["insert", "evil:1", "new", "/d/secret", "--name", "a:1"][..],
            &["insert", "evil:1", "new", "/f", "--name", "a:2"],
            &["insert", "evil:1", "folder", "/d", "--name", "a:3"],
            &["insert", "evil:1", "folder", "/d", "--replace", "--name", "a:4"],
            &["insert", "evil:1", "/d/secret", "--remove", "--name", "a:5"],
            &["insert", "evil:1", "/f", "--remove", "--name", "a:6"],
            &["insert", "evil:1", &format!("/{}/secret", host.up()), "--remove", "--name", "a:7"],
        ] {
            let said = place.run(args);
            assert!(matches!(said.code, Some(0..=6)), "{said:?}");
            host.untouched();
        }
    }
}

#[test]
fn what_is_mounted_in_a_bundle_is_not_removed_with_it() {
    let Some(host) = Host::new() else { return };
    let place = &host.place;
    let layout = host.layout(&[vec![dir("mnt"), dir("mnt/deep")]]);
    place.succeeds(&["unpack", &layout.image(), "flat"]);
    let at = place.path("flat/rootfs/mnt/deep");
    rustix::mount::mount_bind(place.path("host"), &at).expect("a mount");
    let said = place.run(&["umount", "--delete", "flat"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stderr.contains("something is mounted on"), "{said:?}");
    host.untouched();
    // Nor does it take away what it has not mounted.
    let said = place.run(&["umount", &at.display().to_string()]);
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(at.join("secret").exists());
    rustix::mount::unmount(&at, rustix::mount::UnmountFlags::DETACH).expect("it was mounted");
    place.succeeds(&["umount", "--delete", "flat"]);
    assert!(!place.path("flat").exists());
}

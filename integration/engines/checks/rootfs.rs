//! Root file systems that are out of the ordinary: of many layers, id-mapped, of files that somebody else serves and does not.

use pintle_engines::{Check, Engine, check, place, skip};

pub const CHECKS: &[Check] =
    &[check!(sixty_layers), check!(a_hundred_and_thirty_layers), check!(id_mapped_layers)];

/// More options than mount(2) takes, by the paths of a snapshotter.
fn layers(e: &Engine, count: usize) {
    let archive = place::image().with_file_name(format!("layers-{count}.tar"));
    e.ctr(&["image", "import", &archive.to_string_lossy()]).ok();
    let image = format!("docker.io/test/layers:{count}");
    let script = "cat /last; ls /layers | wc -l; cat /layers/1; echo new >/layers/1; cat /layers/1; rm /last; ls /last";
    let mut words = e.run_words(&["--rm"], "many", &["sh", "-c", script]);
    let named = words.iter_mut().find(|word| **word == place::IMAGE).expect("the image is named");
    *named = &image;
    let answer = e.ctr(&words).exits(1);
    assert_eq!(answer.stdout, format!("{count}\n{count}\n1\nnew\n"), "{answer:?}");
}

fn sixty_layers(e: &Engine) {
    layers(e, 60);
}

fn a_hundred_and_thirty_layers(e: &Engine) {
    layers(e, 130);
}

fn id_mapped_layers(e: &Engine) {
    if place::containerd() == "host" {
        skip("containerd 1.6 gives a user namespace a copy with other owners, not a map");
    }
    let map = "0:100000:65536";
    let flags = ["--uidmap", map, "--gidmap", map, "--remap-labels"];
    let script =
        "id -u; stat -c '%u %g' /bin/busybox /etc; touch /new; stat -c %u /new; cat /proc/self/uid_map";
    let answer = e.run(&flags, &["sh", "-c", script]).ok();
    let words: Vec<&str> = answer.stdout.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "0", "0", "0", "0", "0", "100000", "65536"], "{answer:?}");
}

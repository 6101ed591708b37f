//! config.json to a plan, for callers of several kinds: never a panic, the same twice, steps that read back as they were
//! written, what is saved readable for later verbs, and a few things that must be so in every birth. Then an exec, an update.

use crate::seccomp::machine;
use pintle::host::{Facts, Host, IdRanges};
use pintle::plan::cgroup::changes::Changes;
use pintle::plan::cgroup::{self, Driver};
use pintle::plan::rdt::Machine;
use pintle::plan::steps::Steps;
use pintle::plan::{Birth, Options, Plan, Saved, exec};
use pintle::spec::{Spec, parse};
use pintle_init::order::{Order, Place, Step};
use std::sync::OnceLock;

/// Keys and values of config.json.
pub const WORDS: &str = include_str!("../dictionaries/config.dict");

/// One text.
pub fn check(text: &[u8]) {
    let [one, two] = [(); 2].map(|()| parse::<Spec>(text, "config.json").map_err(|error| error.to_string()));
    let (one, two) = match (one, two) {
        (Ok(one), Ok(two)) => (one, two),
        (one, two) => return assert_eq!(one.err(), two.err(), "read once, or for two reasons"),
    };
    for (host, options) in callers() {
        let [plan, again] = [&one, &two].map(|spec| decide(spec, host, options));
        let (plan, again) = match (plan, again) {
            (Ok(plan), Ok(again)) => (plan, again),
            (plan, again) => {
                assert_eq!(plan.err(), again.err(), "decided once, or refused for two reasons");
                continue;
            }
        };
        assert_eq!(described(&plan), described(&again), "decided in two ways");
        look(&plan.birth);
        order_of_a_birth(&plan.birth, &one);
        let saved = read_back(&plan.saved);
        add(&saved, &one, host);
        change(&saved);
    }
}

/// Who creates: root by files and by systemd, a user who must not sleep, an old kernel with all switches on.
fn callers() -> &'static [(Host, Options)] {
    static CALLERS: OnceLock<Vec<(Host, Options)>> = OnceLock::new();
    CALLERS.get_or_init(|| {
        let mut root = Host::probe(false).expect("a machine that pintle runs on");
        // What this machine has plays no part.
        (root.kernel, root.euid, root.egid, root.capabilities) = ((6, 12), 0, 0, 0x1ff_ffff_ffff);
        (root.in_user_namespace, root.set_groups, root.selinux, root.kcore) = (false, true, false, true);
        (root.tree_namespace, root.own_cgroup) = (false, "/own".into());
        let user =
            Host { euid: 1000, egid: 1000, in_user_namespace: true, set_groups: false, ..root.clone() };
        let old = Host { kernel: (5, 14), selinux: true, capabilities: 0, ..root.clone() };
        let files = Options {
            id: "fuzz".into(),
            bundle: "/bundle".into(),
            wait_for_start: true,
            environment: vec!["PATH=/bin".into()],
            cgroup_mount: "/sys/fs/cgroup".into(),
            resctrl: Some(Machine {
                root: "/sys/fs/resctrl".into(),
                cache: true,
                bandwidth: true,
                bandwidth_step: 10,
            }),
            ..Options::default()
        };
        let systemd = Options { driver: Driver::Systemd, foreground: true, listen_fds: 2, ..files.clone() };
        let turns = Options { driver: Driver::UserSystemd, rootless: true, by_turns: true, ..files.clone() };
        let switched = Options {
            no_pivot: true,
            no_new_keyring: true,
            preserve_fds: 3,
            pidfd_socket: true,
            notify: Some("/run/notify".into()),
            terminal_size: (24, 80),
            rehearsal: true,
            ..files.clone()
        };
        let newer = Host { tree_namespace: true, ..root.clone() };
        vec![(root.clone(), files.clone()), (root, systemd), (user, turns), (old, switched), (newer, files)]
    })
}

fn decide(spec: &Spec, host: &Host, options: &Options) -> Result<Plan, String> {
    let linux = spec.linux.as_ref();
    let namespaces = linux.and_then(|linux| linux.namespaces.as_deref()).unwrap_or_default();
    // As if every namespace with a path had been opened, and had the maps that are listed.
    let all = || serde_json::from_str(r#"[{"containerID":0,"hostID":0,"size":4294967295}]"#).expect("a map");
    let ids = |maps: &Option<Vec<_>>| maps.clone().unwrap_or_else(all);
    let joined_maps = linux
        .map(|linux| IdRanges { uids: ids(&linux.uid_mappings), gids: ids(&linux.gid_mappings) })
        .unwrap_or_default();
    let inode = |path: &std::path::Path| path.as_os_str().len() as u64 + 100;
    let facts = Facts {
        rootfs: "/bundle/rootfs".into(),
        rootfs_mount: 1,
        namespaces: namespaces
            .iter()
            .map(|namespace| namespace.path().as_deref().filter(|path| path.is_absolute()).map(inode))
            .collect(),
        own_network: 105,
        joined_maps,
    };
    Plan::new(spec, host, &facts, options).map_err(|error| error.to_string())
}

/// All of it; what has no order of its own (maps of limits) in one.
fn described(plan: &Plan) -> (Vec<u8>, String, serde_json::Value) {
    let birth = Birth { steps: Steps::new(), ..plan.birth.clone() };
    let rest =
        format!("{birth:?} {:?} {:?} {:?} {:?}", plan.cgroup, plan.cgroup_owner, plan.hooks, plan.warnings);
    (order(&plan.birth.steps), rest, serde_json::to_value(&plan.saved).expect("what is saved is JSON"))
}

fn order(steps: &Steps) -> Vec<u8> {
    let descriptors: Vec<i32> = (10..).take(steps.slots().len()).collect();
    steps.order(3, &descriptors)
}

/// The order as init reads it: whole, the same when written again, and no descriptor that is not there.
fn look(birth: &Birth) {
    let written = order(&birth.steps);
    let read = Order::read(&written).expect("the head of an order");
    assert_eq!(read.head.descriptors.iter().count(), birth.steps.slots().len());
    let (mut again, mut count) = (Steps::new(), 0);
    for step in read {
        let step = step.expect("a step that was written can be read");
        again.push(&step);
        one_step(&step, birth);
        count += 1;
    }
    assert_eq!(again.order(0, &[]), birth.steps.order(0, &[]), "another order when it is written again");
    let mut seen = 0;
    birth.steps.each(|_, _| seen += 1);
    assert_eq!(seen, count);
}

fn one_step(step: &Step<'_>, birth: &Birth) {
    let descriptors = birth.steps.slots().len();
    let there = |place: u32| assert!((place as usize) < descriptors, "{step:?}: no such descriptor");
    match step {
        Step::Join { descriptor, .. } => there(*descriptor),
        Step::ForkInto { cgroup, .. } => there(*cgroup),
        Step::Console { socket, .. } | Step::SendPidfd { socket, .. } => there(*socket),
        Step::AwaitStart { fifo } => there(*fifo),
        Step::CloseRest { keep } => there(*keep),
        Step::Bind { id_map, parents_map, place, .. } => {
            there(*id_map);
            assert!(*parents_map as usize <= birth.mount_maps.len(), "{step:?}: no such maps");
            target(place);
        }
        Step::Filesystem { place, .. } | Step::CgroupMount { place, .. } => target(place),
        Step::Seccomp { program, .. } => machine::verify(&crate::seccomp::instructions(program)),
        _ => {}
    }
}

/// A path inside the rootfs, without a way out of it, and not the rootfs itself.
pub fn target(place: &Place<'_>) {
    let path = place.target.to_bytes();
    let mut names = path.split(|byte| *byte == b'/');
    assert_eq!(names.next(), Some(&b""[..]), "{place:?}: not absolute");
    assert!(names.all(|name| !matches!(name, b"" | b"." | b"..")), "{place:?}: not clean");
}

/// What the order of a birth is for: each of these comes, once, after the one before it.
fn order_of_a_birth(birth: &Birth, spec: &Spec) {
    let (mut last, mut masks, mut own_root) = (0, 0, false);
    birth.steps.each(|n, step| {
        let stage = match step {
            Step::Root { .. } => 1,
            Step::OwnRoot { .. } => {
                own_root = true;
                1
            }
            Step::EnterOwnRoot { .. } => return assert!(own_root, "step {n}: where to?"),
            Step::Tree { .. } => return assert!(own_root, "step {n}: a source is in sight"),
            // `/` is the rootfs already.
            Step::CloseRest { .. } if own_root => {
                assert_eq!(last, 1, "step {n}: two ways to be the root");
                last = 2;
                3
            }
            Step::Pivot {} | Step::MoveRoot {} | Step::Chroot {} => 2,
            Step::CloseRest { .. } => 3,
            Step::Bounding { .. } => 4,
            Step::Identity { .. } => 5,
            Step::Capabilities { .. } => 6,
            Step::Lookup { .. } => 7,
            Step::Done { .. } => 8,
            Step::Exec { .. } => 9,
            Step::Filesystem { .. } | Step::Bind { .. } | Step::CgroupMount { .. } => {
                return assert_eq!(last, 1, "step {n}: a mount out of its place");
            }
            Step::Mask { .. } | Step::ReadOnly { .. } | Step::RootReadOnly {} | Step::Seal { .. } => {
                masks += usize::from(matches!(step, Step::Mask { .. }));
                return assert_eq!(last, 1, "step {n}: hidden out of its place");
            }
            _ => return,
        };
        assert_eq!(stage, last + 1, "step {n}: {step:?} after stage {last}");
        last = stage;
    });
    assert!(last >= 8, "ends at stage {last}");
    let masked = spec.linux.as_ref().and_then(|linux| linux.masked_paths.as_deref()).unwrap_or_default();
    assert_eq!(masks, masked.len(), "a masked path is missing");
}

/// What `create` saves, later verbs have to be able to read: else nobody could delete the container.
fn read_back(saved: &Saved) -> Saved {
    let text = serde_json::to_vec(saved).expect("what is saved is JSON");
    let read: Saved = serde_json::from_slice(&text)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&text)));
    let [before, after] =
        [saved, &read].map(|saved| serde_json::to_value(saved).expect("what is saved is JSON"));
    assert_eq!(before, after, "saved and read are not the same");
    Saved { seccomp_program: saved.seccomp_program.clone(), ..read }
}

/// The same process once more, in the container.
fn add(saved: &Saved, spec: &Spec, host: &Host) {
    let Some(process) = &spec.process else { return };
    for (placed_later, by_turns, foreground) in [(false, false, true), (true, true, false)] {
        let options = exec::Options {
            id: "fuzz".into(),
            rootfs: "/bundle/rootfs".into(),
            more_capabilities: 1 << 21,
            placed_later,
            by_turns,
            foreground,
            ..exec::Options::default()
        };
        let [one, two] = [(); 2].map(|()| {
            exec::plan(saved, process, host, &options, &mut Vec::new()).map_err(|error| error.to_string())
        });
        match (one, two) {
            (Ok(one), Ok(two)) => {
                assert!(one.steps == two.steps, "an exec decided in two ways");
                look(&one);
            }
            (one, two) => assert_eq!(one.err(), two.err()),
        }
    }
}

/// The limits, as `update` would take them.
fn change(saved: &Saved) {
    let Some(old) = &saved.resources else { return };
    let text = serde_json::to_string(old).expect("limits are JSON");
    let Ok(changes) = Changes::parse(&text) else { return };
    let new = changes.over(Some(old));
    for driver in [Driver::Files, Driver::Systemd] {
        // Only a panic would be wrong: what update refuses, create refuses too, but not in reverse.
        drop(cgroup::limits(Some(&new), driver));
    }
    drop(cgroup::systemd::changed(&new).and_then(|_| cgroup::systemd::undone(Some(old), &new)));
}

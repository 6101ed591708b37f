//! A shim, started as containerd starts it, hears what nobody should say: it stays, keeps its descriptors, and then does what it is told.
//! Who tells it is the client of containerd-shim-protos.

use crate::frames;
use crate::recording::{self, Kind, Record};
use crate::rubbish::{bytes, spoiled, whole};
use containerd_shim_protos::protobuf::Message as _;
use containerd_shim_protos::ttrpc::context::{self, Context};
use containerd_shim_protos::{Client, TaskClient, api, bootstrap_api, shim::oci};
use fastrand::Rng;
use pintle_shim::wire::frame::{Frame, Request};
use pintle_shim::wire::task::{CreateRequest, SERVICES};
use pintle_tests::{default_config, json, wait_for};
use prost::Message as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The container: one that the recordings speak of, too.
const ID: &str = "c0";
/// Frames on one connection.
const EACH: usize = 20;

static PLACES: AtomicU32 = AtomicU32::new(0);

/// A shim in a folder of its own, with its socket, its container's bundle and the runtime's states.
struct Shim {
    dir: PathBuf,
    socket: PathBuf,
    pid: u32,
    client: TaskClient,
}

fn patience() -> Context {
    context::with_duration(Duration::from_secs(60))
}

impl Shim {
    fn start() -> Self {
        let number = PLACES.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("pw{}-{number}", std::process::id()));
        let bundle = dir.join("bundle");
        fs::create_dir_all(&bundle).expect("a bundle");
        fs::write(bundle.join("config.json"), "{}").expect("config.json");
        let text = |path: &Path| path.to_str().expect("text").to_owned();
        let mut params = bootstrap_api::BootstrapParams::new();
        (params.instance_id, params.namespace) = (ID.into(), "wire".into());
        params.containerd_ttrpc_address = text(&dir.join("events"));
        params.socket_dir = Some(text(&dir));
        hear_events(&dir.join("events"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_containerd-shim-pintle-v1"));
        command.args([
            "-namespace",
            "wire",
            "-address",
            "/none",
            "-publish-binary",
            "/bin/false",
            "-id",
            ID,
            "start",
        ]);
        command.current_dir(bundle).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("start");
        let input = params.write_to_bytes().expect("a message");
        child.stdin.take().expect("a pipe").write_all(&input).expect("it reads");
        let answer = child.wait_with_output().expect("an answer").stdout;
        let answer =
            bootstrap_api::BootstrapResult::parse_from_bytes(&answer).expect("an answer by protobuf");
        let client = TaskClient::new(Client::connect(&answer.address).expect("it listens"));
        let mut shim =
            Self { dir, socket: answer.address.trim_start_matches("unix://").into(), pid: 0, client };
        shim.pid = shim.asked_pid();
        shim
    }

    /// Its process, as it says.
    #[track_caller]
    fn asked_pid(&self) -> u32 {
        let mut request = api::ConnectRequest::new();
        request.id = ID.into();
        self.client.connect(patience(), &request).expect("an answer").shim_pid
    }

    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid)).map_or(0, Iterator::count)
    }

    /// So many frames that nobody should send, but for those that may not be sent.
    #[track_caller]
    fn hears(&self, count: usize, seed: u64, may: impl Fn(&Request) -> bool) {
        let recorded = recorded();
        let mut random = Rng::with_seed(seed);
        for round in 0..count / EACH {
            let mut stream = Vec::new();
            for _ in 0..EACH {
                let [frame, other] = [(); 2].map(|()| random.choice(&recorded).expect("some"));
                let length = stream.len();
                stream.extend(spoiled(&mut random, frame, other));
                // One whose length is wrong begins or ends in another.
                let read = |frame: Frame| Request::decode(frame.body.as_slice()).unwrap_or_default();
                if !frames(&stream).into_iter().map(read).all(|request| may(&request)) {
                    stream.truncate(length);
                }
            }
            let mut client = UnixStream::connect(&self.socket).expect("it listens");
            client.set_write_timeout(Some(Duration::from_secs(60))).expect("a time limit");
            client.write_all(&stream).expect("it reads");
            if round % 50 == 0 {
                assert_eq!(self.asked_pid(), self.pid, "round {round}");
            }
        }
        assert_eq!(self.asked_pid(), self.pid);
    }

    /// It ends when it is told to, and leaves nothing.
    fn ends(self) {
        let mut request = api::ShutdownRequest::new();
        request.id = ID.into();
        // Its end may be faster than its answer.
        let _either = self.client.shutdown(patience(), &request);
        wait_for("the end of the shim", || !pintle_tests::alive(self.pid as i32));
        assert!(!self.socket.exists(), "its socket is left");
        assert_eq!(fs::read_dir(self.dir.join("root/wire")).map_or(0, Iterator::count), 0, "a state is left");
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        // Of a test that failed: it is no child of ours, but nobody else's either.
        if Path::new(&format!("/proc/{}", self.pid)).exists() {
            pintle_tests::kill(self.pid.cast_signed());
        }
        let _gone = fs::remove_dir_all(&self.dir);
    }
}

/// The requests of all recordings, without what would have a program outside the container started, or a file made.
fn recorded() -> Vec<Vec<u8>> {
    let records = recording::all().into_iter().flat_map(|(_, records)| records);
    let mut frames: Vec<Vec<u8>> =
        records.filter(|record| record.kind == Kind::Request).map(|record: Record| record.bytes).collect();
    for frame in &mut frames {
        while let Some(at) = frame.windows(3).position(|bytes| bytes == b"://") {
            frame.splice(at..at + 3, *b"///");
        }
    }
    frames
}

/// Takes events as a containerd that says strange things before it says that it has one.
fn hear_events(path: &Path) {
    let listener = UnixListener::bind(path).expect("a socket for events");
    let records = recording::all().into_iter().flat_map(|(_, records)| records);
    let heard: Vec<Vec<u8>> =
        records.filter(|record| record.kind == Kind::Heard).map(|record| record.bytes).collect();
    std::thread::spawn(move || {
        let mut random = Rng::with_seed(0xe4e47);
        for mut shim in listener.incoming().flatten() {
            let mut header = [0; 10];
            while shim.read_exact(&mut header).is_ok() {
                let length = u32::from_be_bytes(*header.first_chunk().expect("four bytes"));
                let mut body = vec![0; length as usize];
                shim.read_exact(&mut body).expect("a body");
                // A response that nobody waits for, its body spoiled; and now and then the connection ends instead.
                let strange = bytes(&mut random, 60);
                let mut other = random.choice(&heard).expect("some").clone();
                other.splice(4..8, [0xff, 0xff, 0xff, random.u8(..)]);
                let _gone = shim.write_all(&whole(&other, &strange));
                if random.u8(..10) == 0 {
                    break;
                }
                header[8] = 2;
                let _gone = shim.write_all(&whole(&header, &[]));
            }
        }
    });
}

#[test]
fn rubbish_never_ends_a_shim() {
    let shim = Shim::start();
    let before = shim.descriptors();
    // That would end it, and rightly.
    shim.hears(20_000, 0x5eed, |request| !is(request, &["Shutdown"]));
    // The note of a server without a container goes with the first request for one.
    wait_for("as many descriptors as before, but the note's", || shim.descriptors() == before - 1);
    shim.ends();
}

/// A request that the shim would take for one of these.
fn is(request: &Request, methods: &[&str]) -> bool {
    SERVICES.contains(&request.service.as_str()) && methods.contains(&request.method.as_str())
}

/// A container that sleeps; none where there can't be any.
fn make_container(shim: &Shim) -> Option<()> {
    let busybox = pintle_tests::static_busybox()?;
    let bundle = shim.dir.join("bundle");
    for folder in ["proc", "dev", "sys", "bin"] {
        fs::create_dir_all(bundle.join("rootfs").join(folder)).expect("a rootfs");
    }
    pintle_tests::copy_program(busybox, bundle.join("rootfs/bin/busybox"));
    for name in ["sh", "sleep", "true", "cat", "echo"] {
        symlink("busybox", bundle.join("rootfs/bin").join(name)).expect("a link");
    }
    let mut config = default_config();
    config["process"]["env"] = json!(["PATH=/bin"]);
    config["process"]["args"] = json!(["sleep", "1000"]);
    fs::write(bundle.join("config.json"), config.to_string()).expect("config.json");
    let mut options = oci::Options::new();
    options.root = shim.dir.join("root").to_str().expect("text").into();
    let mut request = api::CreateTaskRequest::new();
    (request.id, request.bundle) = (ID.into(), bundle.to_str().expect("text").into());
    let any = request.options.mut_or_insert_default();
    any.type_url = "containerd.runc.v1.Options".into();
    any.value = options.write_to_bytes().expect("a message");
    shim.client.create(patience(), &request).expect("a container");
    let mut request = api::StartRequest::new();
    request.id = ID.into();
    shim.client.start(patience(), &request).expect("a start");
    Some(())
}

/// Ends it, whatever it was told before.
fn remove_container(client: &TaskClient) {
    let mut request = api::ResumeRequest::new();
    request.id = ID.into();
    let _either = client.resume(patience(), &request);
    let mut request = api::KillRequest::new();
    (request.id, request.signal) = (ID.into(), 9);
    client.kill(patience(), &request).expect("a signal");
    let mut request = api::WaitRequest::new();
    request.id = ID.into();
    assert_eq!(client.wait(patience(), &request).expect("its end").exit_status, 137);
    let mut request = api::DeleteRequest::new();
    request.id = ID.into();
    client.delete(patience(), &request).expect("a deletion");
}

#[test]
fn rubbish_about_a_container_never_ends_its_shim() {
    let shim = Shim::start();
    let before = shim.descriptors();
    if make_container(&shim).is_none() {
        return shim.ends();
    }
    // The container is to live as long as the shim hears of it, and to stay the only one: its bundle is the shim's working directory.
    let kills = |request: &Request| is(request, &["Kill"]) && request.payload.contains(&9);
    let creates = |request: &Request| {
        let create = CreateRequest::decode(request.payload.as_slice()).unwrap_or_default();
        is(request, &["Create"]) && !create.bundle.starts_with('/')
    };
    let ends = |request: &Request| is(request, &["Shutdown", "Delete"]);
    shim.hears(2_000, 0xc0ffee, |request| !kills(request) && !creates(request) && !ends(request));
    remove_container(&shim.client);
    wait_for("as many descriptors as before", || shim.descriptors() <= before + 1);
    shim.ends();
}

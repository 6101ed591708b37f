//! The wire, beside somebody else's: every recorded message of containerd and of the shim is read by our types and by those of
//! containerd-shim-protos, and says the same; and whatever comes on the socket, the shim goes on. With `RECORDINGS=target/engines/recorded`
//! whole recordings are read instead of the kept ones.

mod recording;
mod rubbish;
mod same;
mod server;

use containerd_shim_protos::protobuf::Message as _;
use containerd_shim_protos::protobuf::reflect::FileDescriptor;
use containerd_shim_protos::{TASK_API_VERSION, bootstrap_api, shim, ttrpc};
use pintle_shim::bootstrap::Bootstrap;
use pintle_shim::cli::Arguments;
use pintle_shim::wire::frame::{Connection, Frame, Incoming, REQUEST, RESPONSE, Request, Response};
use pintle_shim::wire::{Any, events, task};
use prost::Message as _;
use recording::{Kind, Record};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use same::{Pair, methods, named};
use std::collections::{BTreeMap, BTreeSet};

/// `ctr` has no use for them, or not in these runs.
const NEVER_SAID: [&str; 2] = ["Checkpoint", "Update"];
/// No shim tells it yet.
const NEVER_TOLD: [&str; 1] = ["checkpointed"];

/// The frames in these bytes, by our connection.
pub fn frames(bytes: &[u8]) -> Vec<Frame> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("sockets");
    let mut connection = Connection::new(ours);
    let mut found = Vec::new();
    for chunk in bytes.chunks(16 << 10) {
        rustix::net::send(&theirs, chunk, rustix::net::SendFlags::empty()).expect("room");
        connection.receive();
        found.extend(std::iter::from_fn(|| connection.frame()).filter_map(|incoming| match incoming {
            Incoming::Frame(frame) => Some(frame),
            Incoming::TooLong(_) => None,
        }));
    }
    found
}

/// The frame of a record, of which both sides see the same, and its message.
fn only_frame(record: &Record) -> Frame {
    let found = frames(&record.bytes);
    let [frame] = found.as_slice() else { panic!("{}: {} frames", record.name, found.len()) };
    let header = ttrpc::MessageHeader::from(record.bytes.get(..10).expect("a header"));
    let theirs = (header.stream_id, header.type_, header.length as usize);
    assert_eq!((frame.stream, frame.kind, frame.body.len()), theirs, "{}", record.name);
    frame.clone()
}

/// What stands in an Any, by its type's name.
fn check_inside(any: &Any) {
    if any.type_url.contains("opencontainers/runtime-spec/1/") {
        let json: Result<serde_json::Value, _> = serde_json::from_slice(&any.value);
        json.unwrap_or_else(|e| panic!("{}: {e}", any.type_url));
        return;
    }
    let pair = named(any.name()).unwrap_or_else(|| panic!("{}: a type that nobody knows", any.type_url));
    pair.check(&any.value);
}

/// All that travels in a message, inside and out.
fn check_all(pair: &Pair, bytes: &[u8]) {
    pair.check(bytes);
    // The Anys that requests and answers have.
    let insides = match pair.theirs.name() {
        "CreateTaskRequest" => task::CreateRequest::decode(bytes).map(|it| Vec::from_iter(it.options)),
        "ExecProcessRequest" => task::ExecRequest::decode(bytes).map(|it| Vec::from_iter(it.spec)),
        "UpdateTaskRequest" => task::UpdateRequest::decode(bytes).map(|it| Vec::from_iter(it.resources)),
        "StatsResponse" => task::StatsResponse::decode(bytes).map(|it| Vec::from_iter(it.stats)),
        "PidsResponse" => task::PidsResponse::decode(bytes)
            .map(|it| it.processes.into_iter().filter_map(|process| process.info).collect()),
        "ForwardRequest" => events::ForwardRequest::decode(bytes)
            .map(|it| it.envelope.and_then(|envelope| envelope.event).into_iter().collect()),
        _ => Ok(Vec::new()),
    };
    insides.expect("just read").iter().for_each(check_inside);
}

fn method(name: &str) -> (Pair, Pair) {
    let found = methods().into_iter().find(|(known, ..)| *known == name);
    let (_, request, response) = found.unwrap_or_else(|| panic!("{name}: no such method"));
    (request, response)
}

fn check_request(record: &Record) {
    let frame = only_frame(record);
    assert_eq!(frame.kind, REQUEST);
    named("grpc.Request").expect("around requests").check(&frame.body);
    let request = Request::decode(frame.body.as_slice()).expect("just read");
    if record.kind == Kind::Event {
        check_all(
            &named("containerd.services.events.ttrpc.v1.ForwardRequest").expect("ours"),
            &request.payload,
        );
    } else {
        assert!(task::SERVICES.contains(&request.service.as_str()), "{}", request.service);
        check_all(&method(&request.method).0, &request.payload);
    }
}

fn check_response(record: &Record) {
    let frame = only_frame(record);
    assert_eq!(frame.kind, RESPONSE);
    named("grpc.Response").expect("around responses").check(&frame.body);
    let response = Response::decode(frame.body.as_slice()).expect("just read");
    if response.status.is_some_and(|status| status.code != 0) {
        assert_eq!(response.payload, b"");
    } else if record.kind == Kind::Heard {
        assert_eq!(response.payload, b"", "Empty");
    } else {
        check_all(&method(record.subject()).1, &response.payload);
    }
}

/// The words of a recorded call: its variables, and its arguments as the shim knows them.
fn words(line: &str) -> (BTreeMap<String, String>, Arguments) {
    let words: Vec<&str> = line.split(' ').collect();
    let variables =
        words.iter().take_while(|word| !word.starts_with('-')).filter_map(|word| word.split_once('='));
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let after = |flag: &str| {
        let at = words.iter().position(|word| *word == flag);
        at.and_then(|at| words.get(at + 1)).copied().unwrap_or_default().to_owned()
    };
    let mut arguments = Arguments::default();
    (arguments.id, arguments.namespace) = (after("-id"), after("-namespace"));
    (arguments.address, arguments.debug) = (after("-address"), words.contains(&"-debug"));
    (variables, arguments)
}

/// What `start` was told, and what it said: told the same again, it would say the same.
fn check_start(input: &Record, output: &Record) {
    let (variables, arguments) = words(&input.name);
    let bootstrap = Bootstrap::read(&input.bytes, &arguments, |name| variables.get(name).cloned());
    let any = Any::decode(input.bytes.as_slice()).expect("options, or nothing");
    named("google.protobuf.Any").expect("ours").check(&input.bytes);
    if !any.value.is_empty() {
        check_inside(&any);
        let theirs = shim::oci::Options::parse_from_bytes(&any.value).expect("runc's options");
        assert_eq!(bootstrap.options().shim_cgroup, theirs.shim_cgroup);
    }
    let text = std::str::from_utf8(&output.bytes).expect("text");
    let json: Option<serde_json::Value> = serde_json::from_str(text).ok();
    let address = json.as_ref().map_or(text, |json| json["address"].as_str().expect("an address"));
    assert!(address.starts_with("unix:///run/containerd/s/"), "{address}");
    assert_eq!(bootstrap.reply(address), output.bytes, "{text}");
}

fn check_call(records: &[Record], input: &Record) {
    // Calls overlap; the output of each has the words of its input.
    let output = records.iter().find(|other| other.kind == Kind::Output && other.name == input.name);
    // The shim, or all, may have been killed before.
    let Some(output) = output.filter(|output| !output.bytes.is_empty()) else { return };
    match input.name.rsplit(' ').next() {
        Some("start") => check_start(input, output),
        Some("delete") => named("containerd.task.v3.DeleteResponse").expect("ours").check(&output.bytes),
        Some("-info") => {
            named("containerd.types.RuntimeInfo").expect("ours").check(&output.bytes);
        }
        other => panic!("{other:?}: a verb that nobody knows"),
    }
}

#[test]
fn every_recorded_message_says_the_same_to_both() {
    for (daemon, records) in recording::all() {
        for record in &records {
            match record.kind {
                Kind::Request | Kind::Event => check_request(record),
                Kind::Response | Kind::Heard => check_response(record),
                Kind::Input => check_call(&records, record),
                Kind::Output => {}
            }
        }
        println!("{daemon}: {} records", records.len());
    }
}

#[test]
fn the_recordings_have_every_method_and_event() {
    for (daemon, records) in recording::all() {
        let subjects = |kind: Kind| -> BTreeSet<&str> {
            records.iter().filter(|record| record.kind == kind).map(Record::subject).collect()
        };
        let methods = methods();
        let said: BTreeSet<&str> =
            methods.iter().map(|(name, ..)| *name).filter(|n| !NEVER_SAID.contains(n)).collect();
        assert_eq!(subjects(Kind::Request), said, "{daemon}");
        assert_eq!(subjects(Kind::Response), said, "{daemon}");
        let topics = "create start exit delete oom exec-added exec-started paused resumed checkpointed";
        let told: BTreeSet<&str> = topics.split(' ').filter(|topic| !NEVER_TOLD.contains(topic)).collect();
        assert_eq!(subjects(Kind::Event), told, "{daemon}");
        assert_eq!(subjects(Kind::Heard), told, "{daemon}");
        for kind in [Kind::Input, Kind::Output] {
            for verb in ["start", "delete"] {
                let has = |record: &Record| record.kind == kind && record.name.ends_with(verb);
                assert!(records.iter().any(has), "{daemon}: {kind:?} of {verb}");
            }
        }
    }
}

#[test]
fn the_service_is_the_one_of_the_proto_file() {
    let file: &FileDescriptor = shim::shim::file_descriptor();
    let service = file.proto().service.first().expect("a service");
    let name = format!("{}.{}", file.proto().package(), service.name());
    assert!(task::SERVICES.contains(&name.as_str()), "{name}");
    let theirs: Vec<[String; 3]> = service
        .method
        .iter()
        .map(|method| {
            [method.name(), method.input_type(), method.output_type()]
                .map(|s| s.trim_start_matches('.').to_owned())
        })
        .collect();
    let name = |pair: &Pair| pair.theirs.full_name().to_owned();
    let mut ours: Vec<[String; 3]> = methods()
        .iter()
        .map(|(method, request, response)| [(*method).to_owned(), name(request), name(response)])
        .collect();
    let mut theirs = theirs;
    ours.sort();
    theirs.sort();
    assert_eq!(ours, theirs);
}

#[test]
fn every_field_says_the_same_to_both() {
    let methods = methods().into_iter().flat_map(|(_, request, response)| [request, response]);
    for pair in same::others().into_iter().chain(methods) {
        pair.check(&pair.filled());
        pair.check(&[]);
    }
}

#[test]
fn a_bootstrap_by_protobuf_is_understood_on_both_sides() {
    // No containerd here is as new as that: what theirs writes stands for it.
    let mut options = shim::oci::Options::new();
    options.shim_cgroup = "/shims".into();
    let mut params = bootstrap_api::BootstrapParams::new();
    (params.instance_id, params.namespace) = ("c1".into(), "ns".into());
    (params.containerd_ttrpc_address, params.socket_dir) = ("/run/t".into(), Some("/short".into()));
    let mut extension = bootstrap_api::Extension::new();
    let value = extension.value.mut_or_insert_default();
    value.type_url = "containerd.runc.v1.Options".into();
    value.value = options.write_to_bytes().expect("a message");
    params.extensions.push(extension);
    let mut arguments = Arguments::default();
    (arguments.id, arguments.namespace) = ("c1".into(), "ns".into());
    let found = Bootstrap::read(&params.write_to_bytes().expect("a message"), &arguments, |_| None);
    assert_eq!(found.options().shim_cgroup, "/shims");
    assert_eq!((found.events(), found.socket_folder().to_str()), ("/run/t", Some("/short")));
    let reply =
        bootstrap_api::BootstrapResult::parse_from_bytes(&found.reply("unix:///short/x")).expect("theirs");
    assert_eq!((reply.version, reply.protocol.as_str()), (TASK_API_VERSION, "ttrpc"));
    assert_eq!(reply.address, "unix:///short/x");
}

//! Our messages beside those of containerd-shim-protos, which are made from containerd's own .proto files: each field of theirs, found by
//! its name, has the value that ours has; nothing is left over on either side; and what ours writes is what theirs reads.

use containerd_shim_protos::bootstrap_api;
use containerd_shim_protos::protobuf::well_known_types::{any, empty, timestamp};
use containerd_shim_protos::protobuf::{MessageDyn, MessageFull, reflect};
use containerd_shim_protos::shim::{event, events as forward, oci};
use containerd_shim_protos::types::introspection;
use containerd_shim_protos::{api, cgroups_v2::metrics as v2, events::task as told, ttrpc};
use pintle_shim::wire::{Any, Empty, Mount, Timestamp, bootstrap, events, frame, metrics, options, task};
use reflect::{
    MessageDescriptor, ReflectFieldRef, ReflectRepeatedRef, ReflectValueBox, ReflectValueRef,
    RuntimeFieldType, RuntimeType,
};
use std::collections::HashMap;

/// A type of ours and the one of theirs that it is.
#[derive(Clone)]
pub struct Pair {
    pub theirs: MessageDescriptor,
    pub ours: fn(&[u8]) -> Read,
}

type Read = Result<Box<dyn Ours>, prost::DecodeError>;

fn pair<O: Ours + prost::Message + Default + 'static, T: MessageFull>() -> Pair {
    Pair { theirs: T::descriptor(), ours: |bytes| O::decode(bytes).map(|it| Box::new(it) as Box<dyn Ours>) }
}

impl Pair {
    /// Both sides read the same, and write it so that the other side reads it again.
    ///
    /// # Panics
    /// They don't.
    #[track_caller]
    pub fn check(&self, bytes: &[u8]) {
        let name = self.theirs.full_name();
        let theirs = self.theirs.parse_from_bytes(bytes).unwrap_or_else(|e| panic!("{name}: theirs: {e}"));
        let ours = (self.ours)(bytes).unwrap_or_else(|e| panic!("{name}: ours: {e}"));
        ours.same(&*theirs).unwrap_or_else(|e| panic!("{name}.{e}"));
        let again =
            self.theirs.parse_from_bytes(&ours.bytes()).unwrap_or_else(|e| panic!("{name}: again: {e}"));
        assert!(self.theirs.eq(&*again, &*theirs), "{name}: what ours writes is {again:?}, not {theirs:?}");
        let back = theirs.write_to_bytes_dyn().unwrap_or_else(|e| panic!("{name}: theirs: {e}"));
        let back = (self.ours)(&back).unwrap_or_else(|e| panic!("{name}: ours: {e}"));
        back.same(&*theirs).unwrap_or_else(|e| panic!("{name}.{e}, written by them"));
    }

    /// A message with a value in each field that both sides have, and in each field of what is inside, no two alike.
    pub fn filled(&self) -> Vec<u8> {
        let empty = (self.ours)(&[]).expect("an empty message");
        let mut message = self.theirs.new_instance();
        fill(&mut *message, &mut 1, empty.without());
        message.write_to_bytes_dyn().expect("a message")
    }
}

fn fill(message: &mut dyn MessageDyn, next: &mut i32, without: &[&str]) {
    for field in message.descriptor_dyn().fields().filter(|field| !without.contains(&field.name())) {
        match field.runtime_field_type() {
            RuntimeFieldType::Singular(kind) => field.set_singular_field(message, value(&kind, next)),
            RuntimeFieldType::Repeated(kind) => {
                for _ in 0..2 {
                    field.mut_repeated(message).push(value(&kind, next));
                }
            }
            RuntimeFieldType::Map(key, kind) => {
                for _ in 0..2 {
                    field.mut_map(message).insert(value(&key, next), value(&kind, next));
                }
            }
        }
    }
}

fn value(kind: &RuntimeType, next: &mut i32) -> ReflectValueBox {
    *next += 1;
    match kind {
        RuntimeType::I32 => ReflectValueBox::I32(-*next),
        RuntimeType::I64 => ReflectValueBox::I64(i64::MIN + i64::from(*next)),
        RuntimeType::U32 => ReflectValueBox::U32(u32::MAX - next.cast_unsigned()),
        RuntimeType::U64 => ReflectValueBox::U64(u64::MAX - u64::from(next.cast_unsigned())),
        RuntimeType::F32 => ReflectValueBox::F32(*next as f32),
        RuntimeType::F64 => ReflectValueBox::F64(f64::from(*next) / 8.0),
        RuntimeType::Bool => ReflectValueBox::Bool(true),
        RuntimeType::String => ReflectValueBox::String(format!("text {next} ü")),
        RuntimeType::VecU8 => ReflectValueBox::Bytes(vec![0xff, *next as u8]),
        RuntimeType::Enum(kind) => {
            let last = kind.values().last().expect("an enumeration has values");
            ReflectValueBox::Enum(kind.clone(), last.value())
        }
        RuntimeType::Message(kind) => {
            let mut message = kind.new_instance();
            fill(&mut *message, next, &[]);
            ReflectValueBox::Message(message)
        }
    }
}

/// What differs, with the path to it.
type Same = Result<(), String>;

/// A message of ours.
pub trait Ours: std::fmt::Debug {
    /// A field by its name in the .proto file.
    fn field(&self, name: &str) -> Option<&dyn Field>;
    /// Fields of theirs that it has no use for.
    fn without(&self) -> &'static [&'static str];
    /// As it is written.
    fn bytes(&self) -> Vec<u8>;

    /// It has the fields of theirs, and the values; theirs knew every field that came.
    fn same(&self, theirs: &dyn MessageDyn) -> Same {
        for field in theirs.descriptor_dyn().fields() {
            match self.field(field.name()) {
                Some(ours) => {
                    ours.same(field.get_reflect(theirs)).map_err(|e| format!("{}{e}", field.name()))?
                }
                None if self.without().contains(&field.name()) && !field.has_field(theirs) => {}
                None => return Err(format!("{}: no such field in ours", field.name())),
            }
        }
        match theirs.unknown_fields_dyn().iter().next() {
            Some(unknown) => Err(format!("{unknown:?}: not in theirs")),
            None => Ok(()),
        }
    }
}

/// A field of ours.
pub trait Field {
    fn same(&self, theirs: ReflectFieldRef<'_>) -> Same;
}

/// One value of a field.
trait Value: std::fmt::Debug {
    fn is(&self, theirs: &ReflectValueRef<'_>) -> Same;
}

fn equal(alike: bool, ours: &dyn std::fmt::Debug, theirs: &ReflectValueRef<'_>) -> Same {
    alike.then_some(()).ok_or_else(|| format!(": {ours:?}, not {theirs:?}"))
}

macro_rules! values {
    ($($type:ty: $it:ident, $theirs:ident, $pattern:pat => $alike:expr;)*) => {$(
        impl Value for $type {
            fn is(&self, $theirs: &ReflectValueRef<'_>) -> Same {
                let $it = self;
                equal(matches!($theirs, $pattern if $alike), self, $theirs)
            }
        }
        impl Field for $type {
            fn same(&self, theirs: ReflectFieldRef<'_>) -> Same {
                let ReflectFieldRef::Optional(theirs) = theirs else { return Err(": not one value".into()) };
                match theirs.value() {
                    Some(theirs) => self.is(&theirs),
                    None if *self == Self::default() => Ok(()),
                    None => Err(format!(": {self:?}, not nothing")),
                }
            }
        }
    )*};
}

values! {
    String: it, theirs, ReflectValueRef::String(text) => it == text;
    Vec<u8>: it, theirs, ReflectValueRef::Bytes(bytes) => it == bytes;
    bool: it, theirs, ReflectValueRef::Bool(flag) => it == flag;
    u32: it, theirs, ReflectValueRef::U32(number) => it == number;
    u64: it, theirs, ReflectValueRef::U64(number) => it == number;
    i64: it, theirs, ReflectValueRef::I64(number) => it == number;
    f64: it, theirs, ReflectValueRef::F64(number) => it.to_bits() == number.to_bits();
    i32: it, theirs, ReflectValueRef::I32(number) | ReflectValueRef::Enum(_, number) => it == number;
}

impl<T: Value> Field for Option<T> {
    fn same(&self, theirs: ReflectFieldRef<'_>) -> Same {
        let ReflectFieldRef::Optional(theirs) = theirs else { return Err(": not one value".into()) };
        match (self, theirs.value()) {
            (Some(ours), Some(theirs)) => ours.is(&theirs),
            (None, None) => Ok(()),
            (ours, theirs) => Err(format!(": {ours:?}, not {theirs:?}")),
        }
    }
}

impl<T: Value + Ours> Field for Vec<T> {
    fn same(&self, theirs: ReflectFieldRef<'_>) -> Same {
        let ReflectFieldRef::Repeated(theirs) = theirs else { return Err(": not a list".into()) };
        list(self, &theirs)
    }
}

impl Field for Vec<String> {
    fn same(&self, theirs: ReflectFieldRef<'_>) -> Same {
        let ReflectFieldRef::Repeated(theirs) = theirs else { return Err(": not a list".into()) };
        list(self, &theirs)
    }
}

fn list(ours: &[impl Value], theirs: &ReflectRepeatedRef<'_>) -> Same {
    if ours.len() != theirs.len() {
        return Err(format!(": {} of them, not {}", ours.len(), theirs.len()));
    }
    ours.iter()
        .enumerate()
        .try_for_each(|(at, ours)| ours.is(&theirs.get(at)).map_err(|e| format!("[{at}]{e}")))
}

impl Field for HashMap<String, String> {
    fn same(&self, theirs: ReflectFieldRef<'_>) -> Same {
        let ReflectFieldRef::Map(theirs) = theirs else { return Err(": not a map".into()) };
        if self.len() != theirs.len() {
            return Err(format!(": {} of them, not {}", self.len(), theirs.len()));
        }
        self.iter().try_for_each(|(key, ours)| match theirs.get(ReflectValueRef::String(key)) {
            Some(theirs) => ours.is(&theirs).map_err(|e| format!("[{key}]{e}")),
            None => Err(format!("[{key}]: not in theirs")),
        })
    }
}

/// Our types, with all of their fields.
macro_rules! ours {
    ($($type:ty: $($field:ident)* $(- $($without:ident)*)?;)*) => {$(
        impl Ours for $type {
            fn field(&self, name: &str) -> Option<&dyn Field> {
                $(if name == stringify!($field).trim_start_matches("r#") {
                    return Some(&self.$field);
                })*
                let _none = name;
                None
            }

            fn without(&self) -> &'static [&'static str] {
                &[$($(stringify!($without)),*)?]
            }

            fn bytes(&self) -> Vec<u8> {
                prost::Message::encode_to_vec(self)
            }
        }
        impl Value for $type {
            fn is(&self, theirs: &ReflectValueRef<'_>) -> Same {
                let ReflectValueRef::Message(theirs) = theirs else { return Err(": not a message".into()) };
                self.same(&**theirs).map_err(|e| format!(".{e}"))
            }
        }
    )*};
}

ours! {
    Any: type_url value;
    Empty: ;
    Mount: r#type source target options;
    Timestamp: seconds nanos;
    bootstrap::BootstrapResult: version address protocol - capabilities metadata;
    bootstrap::Extension: value;
    bootstrap::Params: instance_id namespace log_level containerd_version containerd_ttrpc_address containerd_grpc_address
        containerd_binary extensions socket_dir;
    bootstrap::RuntimeInfo: name version options features annotations;
    bootstrap::RuntimeVersion: version revision;
    events::Checkpointed: container_id checkpoint;
    events::Create: container_id bundle rootfs io checkpoint pid;
    events::Delete: container_id pid exit_status exited_at id;
    events::Envelope: timestamp namespace topic event;
    events::ExecAdded: container_id exec_id;
    events::ExecStarted: container_id exec_id pid;
    events::Exit: container_id id pid exit_status exited_at;
    events::ForwardRequest: envelope;
    events::Io: stdin stdout stderr terminal;
    events::Oom: container_id;
    events::Paused: container_id;
    events::Resumed: container_id;
    events::Start: container_id pid;
    frame::KeyValue: key value;
    frame::Request: service method payload timeout_nano metadata;
    frame::Response: status payload;
    frame::Status: code message details;
    metrics::Cpu: usage_usec user_usec system_usec nr_periods nr_throttled throttled_usec psi nr_bursts burst_usec;
    metrics::HugeTlb: current max pagesize failcnt;
    metrics::Io: usage psi;
    metrics::IoEntry: major minor rbytes wbytes rios wios;
    metrics::Memory: anon file kernel_stack slab sock shmem file_mapped file_dirty file_writeback anon_thp inactive_anon active_anon
        inactive_file active_file unevictable slab_reclaimable slab_unreclaimable pgfault pgmajfault workingset_refault
        workingset_activate workingset_nodereclaim pgrefill pgscan pgsteal pgactivate pgdeactivate pglazyfree pglazyfreed
        thp_fault_alloc thp_collapse_alloc usage usage_limit swap_usage swap_limit max_usage swap_max_usage psi;
    metrics::MemoryEvents: low high max oom oom_kill oom_group_kill;
    metrics::Metrics: pids cpu memory rdma io hugetlb memory_events network;
    metrics::Network: name rx_bytes rx_packets rx_errors rx_dropped tx_bytes tx_packets tx_errors tx_dropped;
    metrics::Pids: current limit;
    metrics::Pressure: avg10 avg60 avg300 total;
    metrics::Psi: some full;
    metrics::Rdma: current limit;
    metrics::RdmaEntry: device hca_handles hca_objects;
    options::Options: no_pivot_root no_new_keyring shim_cgroup io_uid io_gid binary_name root systemd_cgroup criu_image_path
        criu_work_path task_api_address task_api_version;
    options::ProcessDetails: exec_id;
    task::CheckpointRequest: id path options;
    task::CloseIoRequest: id exec_id stdin;
    task::ConnectResponse: shim_pid task_pid version;
    task::ContainerRequest: id;
    task::CreateRequest: id bundle rootfs terminal stdin stdout stderr checkpoint parent_checkpoint options;
    task::DeleteResponse: pid exit_status exited_at;
    task::ExecRequest: id exec_id terminal stdin stdout stderr spec;
    task::KillRequest: id exec_id signal all;
    task::PidResponse: pid;
    task::PidsResponse: processes;
    task::ProcessInfo: pid info;
    task::ProcessRequest: id exec_id;
    task::ResizePtyRequest: id exec_id width height;
    task::ShutdownRequest: id now;
    task::StateResponse: id bundle pid status stdin stdout stderr terminal exit_status exited_at exec_id;
    task::StatsResponse: stats;
    task::UpdateRequest: id resources annotations;
    task::WaitResponse: exit_status exited_at;
}

/// The methods of the task service, with what they take and what they answer.
pub fn methods() -> Vec<(&'static str, Pair, Pair)> {
    let empty = pair::<Empty, empty::Empty>;
    vec![
        (
            "State",
            pair::<task::ProcessRequest, api::StateRequest>(),
            pair::<task::StateResponse, api::StateResponse>(),
        ),
        (
            "Create",
            pair::<task::CreateRequest, api::CreateTaskRequest>(),
            pair::<task::PidResponse, api::CreateTaskResponse>(),
        ),
        (
            "Start",
            pair::<task::ProcessRequest, api::StartRequest>(),
            pair::<task::PidResponse, api::StartResponse>(),
        ),
        (
            "Delete",
            pair::<task::ProcessRequest, api::DeleteRequest>(),
            pair::<task::DeleteResponse, api::DeleteResponse>(),
        ),
        (
            "Pids",
            pair::<task::ContainerRequest, api::PidsRequest>(),
            pair::<task::PidsResponse, api::PidsResponse>(),
        ),
        ("Pause", pair::<task::ContainerRequest, api::PauseRequest>(), empty()),
        ("Resume", pair::<task::ContainerRequest, api::ResumeRequest>(), empty()),
        ("Checkpoint", pair::<task::CheckpointRequest, api::CheckpointTaskRequest>(), empty()),
        ("Kill", pair::<task::KillRequest, api::KillRequest>(), empty()),
        ("Exec", pair::<task::ExecRequest, api::ExecProcessRequest>(), empty()),
        ("ResizePty", pair::<task::ResizePtyRequest, api::ResizePtyRequest>(), empty()),
        ("CloseIO", pair::<task::CloseIoRequest, api::CloseIORequest>(), empty()),
        ("Update", pair::<task::UpdateRequest, api::UpdateTaskRequest>(), empty()),
        (
            "Wait",
            pair::<task::ProcessRequest, api::WaitRequest>(),
            pair::<task::WaitResponse, api::WaitResponse>(),
        ),
        (
            "Stats",
            pair::<task::ContainerRequest, api::StatsRequest>(),
            pair::<task::StatsResponse, api::StatsResponse>(),
        ),
        (
            "Connect",
            pair::<task::ContainerRequest, api::ConnectRequest>(),
            pair::<task::ConnectResponse, api::ConnectResponse>(),
        ),
        ("Shutdown", pair::<task::ShutdownRequest, api::ShutdownRequest>(), empty()),
    ]
}

/// What is not a method's own: around methods, inside an Any, on standard input and output.
pub fn others() -> Vec<Pair> {
    vec![
        pair::<Any, any::Any>(),
        pair::<Timestamp, timestamp::Timestamp>(),
        pair::<frame::Request, ttrpc::Request>(),
        pair::<frame::Response, ttrpc::Response>(),
        pair::<events::ForwardRequest, forward::ForwardRequest>(),
        pair::<events::Envelope, event::Envelope>(),
        pair::<events::Create, told::TaskCreate>(),
        pair::<events::Start, told::TaskStart>(),
        pair::<events::Exit, told::TaskExit>(),
        pair::<events::Delete, told::TaskDelete>(),
        pair::<events::Oom, told::TaskOOM>(),
        pair::<events::ExecAdded, told::TaskExecAdded>(),
        pair::<events::ExecStarted, told::TaskExecStarted>(),
        pair::<events::Paused, told::TaskPaused>(),
        pair::<events::Resumed, told::TaskResumed>(),
        pair::<events::Checkpointed, told::TaskCheckpointed>(),
        pair::<options::Options, oci::Options>(),
        pair::<options::ProcessDetails, oci::ProcessDetails>(),
        pair::<metrics::Metrics, v2::Metrics>(),
        pair::<bootstrap::Params, bootstrap_api::BootstrapParams>(),
        pair::<bootstrap::BootstrapResult, bootstrap_api::BootstrapResult>(),
        pair::<bootstrap::RuntimeInfo, introspection::RuntimeInfo>(),
    ]
}

/// The pair whose type has this name.
pub fn named(name: &str) -> Option<Pair> {
    let methods = methods().into_iter().flat_map(|(_, request, response)| [request, response]);
    others().into_iter().chain(methods).find(|pair| pair.theirs.full_name() == name)
}

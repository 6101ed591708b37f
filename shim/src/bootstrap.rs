//! How containerd says what it wants of `start`, and how it wants to be answered: three generations, each in its own words. Up to 1.6
//! nothing but an address is understood; 1.7 to 2.2 read JSON; from 2.3 on both sides speak protobuf.

use crate::cli::Arguments;
use crate::socket;
use crate::wire::Any;
use crate::wire::bootstrap::{BootstrapResult, Params};
use crate::wire::options::Options;
use prost::Message as _;
use serde_json::json;
use std::path::PathBuf;

/// What all generations of ctr and CRI call runc's options.
const RUNC_OPTIONS: &str = "containerd.runc.v1.Options";
/// slog's number for debug; smaller ones say even more.
const DEBUG: i32 = -4;

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Generation {
    /// Up to 1.6: a plain address.
    Plain,
    /// 1.7 to 2.2: JSON with this version of the task service.
    Json(u32),
    /// From 2.3.
    Protobuf,
}

/// What `start` was told.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    generation: Generation,
    params: Params,
    options: Options,
}

impl Bootstrap {
    /// Reads what stands on standard input and in the environment.
    pub fn read(input: &[u8], arguments: &Arguments, variable: impl Fn(&str) -> Option<String>) -> Self {
        // Options of an older caller can be read as parameters, too: only if both names agree are they meant so.
        let modern = Params::decode(input)
            .ok()
            .filter(|found| found.instance_id == arguments.id && found.namespace == arguments.namespace);
        if let Some(params) = modern {
            let mut extensions = params.extensions.iter().filter_map(|extension| extension.value.as_ref());
            let options = extensions.find_map(options).unwrap_or_default();
            return Self { generation: Generation::Protobuf, params, options };
        }
        let options = Any::decode(input).ok().and_then(|any| options(&any)).unwrap_or_default();
        let most: Option<u32> = variable("MAX_SHIM_VERSION").and_then(|text| text.parse().ok());
        let generation = match (most, variable("GRPC_ADDRESS")) {
            (None, None) => Generation::Plain,
            (version, _) => Generation::Json(version.unwrap_or(2).clamp(2, 3)),
        };
        let params = Params {
            log_level: if arguments.debug { DEBUG } else { 0 },
            containerd_ttrpc_address: arguments.events.clone(),
            ..Params::default()
        };
        Self { generation, params, options }
    }

    /// What the caller is told.
    pub fn reply(&self, address: &str) -> Vec<u8> {
        match self.generation {
            Generation::Plain => address.as_bytes().to_vec(),
            Generation::Json(version) => {
                json!({"version": version, "address": address, "protocol": "ttrpc"}).to_string().into_bytes()
            }
            Generation::Protobuf => {
                BootstrapResult { version: 3, address: address.into(), protocol: "ttrpc".into() }
                    .encode_to_vec()
            }
        }
    }

    /// Where the socket goes.
    pub fn socket_folder(&self) -> PathBuf {
        self.params.socket_dir.as_deref().filter(|dir| !dir.is_empty()).unwrap_or(socket::FOLDER).into()
    }

    /// Where containerd takes events.
    pub fn events(&self) -> &str {
        &self.params.containerd_ttrpc_address
    }

    /// The log says more.
    pub fn debug(&self) -> bool {
        self.params.log_level <= DEBUG
    }

    /// How the runtime is to be called, as far as it concerns the shim itself.
    pub fn options(&self) -> &Options {
        &self.options
    }
}

fn options(any: &Any) -> Option<Options> {
    (any.name() == RUNC_OPTIONS).then(|| Options::decode(any.value.as_slice()).ok())?
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::wire::bootstrap::Extension;

    fn arguments() -> Arguments {
        let mut arguments = Arguments::default();
        (arguments.id, arguments.namespace, arguments.events) = ("c1".into(), "ns".into(), "/run/t".into());
        arguments
    }

    fn read(input: &[u8], variables: &[(&str, &str)]) -> Bootstrap {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Bootstrap::read(input, &arguments(), variable)
    }

    #[test]
    fn each_generation_is_answered_in_its_own_words() {
        let address = "unix:///run/s/x";
        assert_eq!(read(b"", &[]).reply(address), address.as_bytes());
        let json = |version: u32| {
            json!({"version": version, "address": address, "protocol": "ttrpc"}).to_string().into_bytes()
        };
        assert_eq!(read(b"", &[("GRPC_ADDRESS", "/g"), ("MAX_SHIM_VERSION", "2")]).reply(address), json(2));
        assert_eq!(read(b"", &[("GRPC_ADDRESS", "/g"), ("MAX_SHIM_VERSION", "3")]).reply(address), json(3));
        let params = Params {
            instance_id: "c1".into(),
            namespace: "ns".into(),
            containerd_ttrpc_address: "/new".into(),
            socket_dir: Some("/short".into()),
            log_level: -8,
            ..Params::default()
        };
        let found = read(&params.encode_to_vec(), &[("MAX_SHIM_VERSION", "2")]);
        let reply = BootstrapResult::decode(found.reply(address).as_slice()).unwrap();
        assert_eq!((reply.version, reply.address.as_str(), reply.protocol.as_str()), (3, address, "ttrpc"));
        assert_eq!((found.events(), found.debug()), ("/new", true));
        assert_eq!(found.socket_folder(), PathBuf::from("/short"));
    }

    #[test]
    fn options_are_found_where_each_generation_puts_them() {
        let options = Options { shim_cgroup: "/shims".into(), ..Options::default() };
        let any = Any::of(RUNC_OPTIONS, &options);
        // Read as parameters this would be an instance called "containerd.runc.v1.Options".
        assert_eq!(read(&any.encode_to_vec(), &[]).options(), &options);
        let params = Params {
            instance_id: "c1".into(),
            namespace: "ns".into(),
            extensions: vec![Extension { value: Some(any) }],
            ..Params::default()
        };
        assert_eq!(read(&params.encode_to_vec(), &[]).options(), &options);
    }

    #[test]
    fn rubbish_is_a_caller_without_options() {
        for input in [&b"\xff\xff\xff\xff"[..], b"{}", &[0; 100]] {
            assert_eq!(read(input, &[]).reply("a"), b"a");
        }
    }
}

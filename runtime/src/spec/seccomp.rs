//! `linux.seccomp` as written: the seccomp profile of a container.
//!
//! oci-spec's own types are not used here because they are closed enums: an action, operator or architecture that
//! they don't know would end the parse of the whole file, and runc's sentences ("string SCMP_FOO is not a valid
//! action for seccomp") could not be said. So every such word stays a string until `plan::seccomp` judges it.
//! As in Go, `null` is the same as absent, and unknown keys are ignored.

use serde::{Deserialize, Deserializer};

/// The profile. Without a default action and without any syscalls it means: no seccomp.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct Profile {
    /// What happens to a system call that no rule names: `SCMP_ACT_…`.
    #[serde(deserialize_with = "or_default")]
    pub default_action: String,
    /// The errno (or the tracer's message) of the default action.
    pub default_errno_ret: Option<u64>,
    /// `SCMP_ARCH_…`: the architectures beside the native one.
    #[serde(deserialize_with = "or_default")]
    pub architectures: Vec<String>,
    /// `SECCOMP_FILTER_FLAG_…`. An absent list is not an empty one: its meaning is left to the runtime.
    pub flags: Option<Vec<String>>,
    /// The socket on which a seccomp agent waits for the notify fd.
    #[serde(deserialize_with = "or_default")]
    pub listener_path: String,
    /// An opaque text for the agent.
    #[serde(deserialize_with = "or_default")]
    pub listener_metadata: String,
    /// The rules.
    #[serde(deserialize_with = "or_default")]
    pub syscalls: Vec<Syscalls>,
}

/// One rule: the same action and conditions for several system calls.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct Syscalls {
    /// System calls by name; unknown names are ignored.
    #[serde(deserialize_with = "or_default")]
    pub names: Vec<String>,
    /// `SCMP_ACT_…`.
    #[serde(deserialize_with = "or_default")]
    pub action: String,
    /// The errno (or the tracer's message) of this action.
    pub errno_ret: Option<u64>,
    /// Conditions on arguments.
    #[serde(deserialize_with = "or_default")]
    pub args: Vec<Arg>,
}

/// One condition on one argument.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct Arg {
    /// Which argument: 0 to 5.
    #[serde(deserialize_with = "or_default")]
    pub index: u64,
    /// What it is compared with; for `SCMP_CMP_MASKED_EQ` the mask.
    #[serde(deserialize_with = "or_default")]
    pub value: u64,
    /// For `SCMP_CMP_MASKED_EQ` what the masked argument is compared with.
    #[serde(deserialize_with = "or_default")]
    pub value_two: u64,
    /// `SCMP_CMP_…`.
    #[serde(deserialize_with = "or_default")]
    pub op: String,
}

/// `null` is Go's zero value.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Profile {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn every_field_is_read() {
        let profile = parse(
            r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"architectures":["SCMP_ARCH_X86"],
                "flags":[],"listenerPath":"/run/agent.sock","listenerMetadata":"m","someday":{"new":1},
                "syscalls":[{"names":["personality"],"action":"SCMP_ACT_ALLOW","errnoRet":1,"comment":"",
                "args":[{"index":0,"value":18446744073709551615,"valueTwo":8,"op":"SCMP_CMP_EQ"}]}]}"#,
        );
        assert_eq!(profile.default_errno_ret, Some(38));
        assert_eq!(profile.flags, Some(vec![]));
        assert_eq!(profile.listener_path, "/run/agent.sock");
        let arg = &profile.syscalls[0].args[0];
        assert_eq!((arg.index, arg.value, arg.value_two), (0, u64::MAX, 8));
    }

    #[test]
    fn null_is_absent() {
        let nulls = parse(
            r#"{"defaultAction":null,"defaultErrnoRet":null,"architectures":null,"flags":null,"listenerPath":null,
                "listenerMetadata":null,"syscalls":null}"#,
        );
        assert_eq!(nulls, parse("{}"));
        let rule = parse(r#"{"syscalls":[{"names":null,"action":null,"errnoRet":null,"args":null}]}"#);
        assert_eq!(rule.syscalls, [Syscalls::default()]);
        let arg = parse(r#"{"syscalls":[{"args":[{"index":null,"value":null,"valueTwo":null,"op":null}]}]}"#);
        assert_eq!(arg.syscalls[0].args, [Arg::default()]);
    }

    #[test]
    fn numbers_are_unsigned_integers() {
        for bad in [r#"{"defaultErrnoRet":-1}"#, r#"{"defaultErrnoRet":1.5}"#, r#"{"defaultErrnoRet":"1"}"#] {
            assert!(serde_json::from_str::<Profile>(bad).is_err(), "{bad}");
        }
    }
}

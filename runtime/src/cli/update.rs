//! `update`: flags or a JSON object become the new limits.

use super::Verb;
use super::flags::{Arguments, Flag, Kind};
use super::values;
use crate::error::{Context as _, Error, Result};
use crate::log;
use crate::ops::Context;
use crate::ops::update::{self, Flags, Resources};
use crate::plan::rdt::Changes;
use std::io::Read as _;
use std::num::{IntErrorKind, ParseIntError};
use std::path::Path;
use std::str::FromStr;

pub(super) const VERB: Verb = Verb {
    description: "\
Changes the limits of a container. What is not named stays as it is.

A file for \"--resources\" holds the object \"linux.resources\" of config.json, e.g.

{
  \"memory\": { \"limit\": 0, \"reservation\": 0, \"swap\": 0, \"checkBeforeUpdate\": true },
  \"cpu\": { \"shares\": 0, \"quota\": 0, \"burst\": 0, \"period\": 0, \"cpus\": \"\", \"mems\": \"\", \"idle\": 0 },
  \"blockIO\": { \"weight\": 0 }
}",
    flags: &[
        Flag::new(
            "resources",
            Kind::Path,
            "a file with the new limits, or '-' for the standard input; all other options are then ignored",
        )
        .short('r'),
        Flag::new("blkio-weight", Kind::Number, "weight of the block IO, from 10 to 1000").default("0"),
        Flag::new("cpu-period", Kind::Text, "CFS period (in usecs), 0 for the system's default"),
        Flag::new("cpu-quota", Kind::Text, "CPU time allowed in a period (in usecs)"),
        Flag::new("cpu-burst", Kind::Text, "CPU time allowed beyond the quota once it was saved (in usecs)"),
        Flag::new("cpu-share", Kind::Text, "CPU shares (weight relative to other containers)"),
        Flag::new("cpu-rt-period", Kind::Text, "realtime period (in usecs), 0 for the system's default"),
        Flag::new("cpu-rt-runtime", Kind::Text, "realtime CPU time allowed in a period (in usecs)"),
        Flag::new("cpuset-cpus", Kind::Text, "CPU(s) to use"),
        Flag::new("cpuset-mems", Kind::Text, "memory node(s) to use"),
        Flag::new("kernel-memory", Kind::Text, "(obsolete)").hidden(),
        Flag::new("kernel-memory-tcp", Kind::Text, "(obsolete)").hidden(),
        Flag::new("memory", Kind::Text, "memory limit (in bytes)"),
        Flag::new("cpu-idle", Kind::Text, "1 to run only on CPUs that are idle (SCHED_IDLE), 0 for the default"),
        Flag::new("memory-reservation", Kind::Text, "memory reservation or soft limit (in bytes)"),
        Flag::new("memory-swap", Kind::Text, "memory and swap together (in bytes), '-1' for unlimited swap"),
        Flag::new("pids-limit", Kind::Number, "how many processes the container may have").default("0"),
        Flag::new("l3-cache-schema", Kind::Text, "L3 cache schema of Intel RDT/CAT"),
        Flag::new("mem-bw-schema", Kind::Text, "memory bandwidth schema of Intel RDT/MBA"),
    ],
    ..Verb::new("update", "change the limits of a container", run)
};

fn run(context: &Context, arguments: &Arguments) -> Result<u8> {
    update::update(context, &arguments.id()?, &resources(arguments)?, &schemata(arguments))?;
    Ok(0)
}

fn resources(arguments: &Arguments) -> Result<Resources> {
    Ok(match arguments.path("resources") {
        Some(path) => Resources::Json(read(&path)?),
        None => Resources::Flags(Box::new(flags(arguments)?)),
    })
}

fn read(path: &Path) -> Result<String> {
    if path != Path::new("-") {
        return std::fs::read_to_string(path).with_context(|| format!("open {}", path.display()));
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("read /dev/stdin")?;
    Ok(text)
}

fn flags(arguments: &Arguments) -> Result<Flags> {
    for obsolete in ["kernel-memory", "kernel-memory-tcp"] {
        if arguments.text(obsolete).is_some() {
            log::warn(format_args!("Setting --{obsolete} is ignored and will be removed"));
        }
    }
    Ok(Flags {
        blkio_weight: arguments.number("blkio-weight")?.filter(|weight| *weight != 0),
        cpu_period: unsigned(arguments, "cpu-period")?,
        cpu_quota: signed(arguments, "cpu-quota")?,
        cpu_burst: unsigned(arguments, "cpu-burst")?,
        cpu_share: unsigned(arguments, "cpu-share")?,
        cpu_rt_period: unsigned(arguments, "cpu-rt-period")?,
        cpu_rt_runtime: signed(arguments, "cpu-rt-runtime")?,
        cpuset_cpus: arguments.text("cpuset-cpus"),
        cpuset_mems: arguments.text("cpuset-mems"),
        cpu_idle: signed(arguments, "cpu-idle")?,
        memory: size(arguments, "memory")?,
        memory_reservation: size(arguments, "memory-reservation")?,
        memory_swap: size(arguments, "memory-swap")?,
        pids_limit: arguments.number("pids-limit")?,
    })
}

/// Beside `--resources`, too, which has no place for them.
fn schemata(arguments: &Arguments) -> Changes {
    Changes {
        l3_cache_schema: arguments.text("l3-cache-schema"),
        mem_bw_schema: arguments.text("mem-bw-schema"),
    }
}

fn unsigned(arguments: &Arguments, flag: &str) -> Result<Option<u64>> {
    number(arguments, flag, "ParseUint")
}

fn signed(arguments: &Arguments, flag: &str) -> Result<Option<i64>> {
    number(arguments, flag, "ParseInt")
}

fn number<N: FromStr<Err = ParseIntError>>(
    arguments: &Arguments,
    flag: &str,
    parser: &str,
) -> Result<Option<N>> {
    let Some(text) = arguments.text(flag) else { return Ok(None) };
    let number = text.parse().map_err(|error: ParseIntError| {
        let cause = match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        Error::new(format!("invalid value for {flag}: strconv.{parser}: parsing {text:?}: {cause}"))
    })?;
    Ok(Some(number))
}

fn size(arguments: &Arguments, flag: &str) -> Result<Option<i64>> {
    let size = arguments.text(flag).map(|text| values::size(&text)).transpose();
    size.with_context(|| format!("invalid value for {flag}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::flags as line;

    fn read_flags(words: &str) -> Result<Flags> {
        flags(&line::parse(VERB.flags, words.split(' ').map(Into::into), false).unwrap())
    }

    #[test]
    fn every_flag_reaches_its_limit() {
        let all = read_flags(
            "--blkio-weight 100 --cpu-period 1000 --cpu-quota -1 --cpu-burst 5 --cpu-share 6 --cpu-rt-period 7 \
             --cpu-rt-runtime 8 --cpuset-cpus 0-1 --cpuset-mems 0 --cpu-idle 1 --memory 10M \
             --memory-reservation 1g --memory-swap -1 --pids-limit 20 c1",
        )
        .unwrap();
        let shown = format!("{all:?}");
        let expect = "Flags { blkio_weight: Some(100), cpu_period: Some(1000), cpu_quota: Some(-1), \
             cpu_burst: Some(5), cpu_share: Some(6), cpu_rt_period: Some(7), cpu_rt_runtime: Some(8), \
             cpuset_cpus: Some(\"0-1\"), cpuset_mems: Some(\"0\"), cpu_idle: Some(1), memory: Some(10485760), \
             memory_reservation: Some(1073741824), memory_swap: Some(-1), pids_limit: Some(20) }";
        assert_eq!(shown, expect);
    }

    #[test]
    fn what_is_not_given_or_empty_stays() {
        let none = format!("{:?}", Flags::default());
        for words in ["c1", "--memory= --cpu-share= --cpuset-cpus= --blkio-weight 0 c1"] {
            assert_eq!(format!("{:?}", read_flags(words).unwrap()), none);
        }
    }

    #[test]
    fn a_wrong_value_is_told_with_its_flag() {
        for (words, expect) in [
            ("--memory 10X", "invalid value for memory: invalid suffix: 'X'"),
            ("--memory-swap -2", "invalid value for memory-swap: invalid size: '-2'"),
            (
                "--cpu-share -1",
                r#"invalid value for cpu-share: strconv.ParseUint: parsing "-1": invalid syntax"#,
            ),
            (
                "--cpu-quota x",
                r#"invalid value for cpu-quota: strconv.ParseInt: parsing "x": invalid syntax"#,
            ),
            ("--blkio-weight 70000", r#"invalid value "70000" for flag -blkio-weight: value out of range"#),
        ] {
            assert_eq!(read_flags(words).unwrap_err().to_string(), expect);
        }
    }
}

//! `org.systemd.property.NAME`: annotations by which the user sets properties of the unit. The values are GVariant
//! text, as gdbus and busctl print it.

use super::{Property, value};
use crate::bail;
use crate::error::{Context, Result};
use std::collections::BTreeMap;
use zbus::Variant;

const PREFIX: &str = "org.systemd.property.";
/// What the runtime says itself: with others a process of somebody else's could be drawn into the unit.
const OWN: [&str; 4] = ["PIDs", "PIDFDs", "Slice", "Delegate"];

/// The properties that annotations name, sorted by name.
pub(super) fn passed_on(annotations: Option<&BTreeMap<String, String>>) -> Result<Vec<Property>> {
    let named = annotations.into_iter().flatten();
    named
        .filter_map(|(key, text)| Some((key.strip_prefix(PREFIX)?, text)))
        .map(|(name, text)| one(name, text))
        .collect()
}

fn one(name: &str, text: &str) -> Result<Property> {
    let place = format!("annotations[\"{PREFIX}{name}\"]");
    if name.len() < 3 || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        bail!("{place}: name incorrect: {name:?} is not three or more letters");
    }
    if OWN.contains(&name) {
        bail!("{place}: name incorrect: {name} is for the runtime to say");
    }
    let value = value::parse(text).with_context(|| format!("{place}: value {text:?} parse error"))?;
    match name.strip_suffix("Sec").filter(|_| !name.ends_with("USec")) {
        None => Ok(Property::new(name, value)),
        Some(stem) => match microseconds(&value) {
            Some(count) => Ok(Property::new(&format!("{stem}USec"), count)),
            None => bail!("{place}: value {text:?} parse error: not a number of seconds"),
        },
    }
}

/// Seconds of any numeric type.
fn microseconds(value: &Variant) -> Option<u64> {
    let whole = |seconds: i128| u64::try_from(seconds.checked_mul(1_000_000)?).ok();
    match *value {
        Variant::U8(n) => whole(n.into()),
        Variant::U16(n) => whole(n.into()),
        Variant::I16(n) => whole(n.into()),
        Variant::U32(n) => whole(n.into()),
        Variant::I32(n) => whole(n.into()),
        Variant::U64(n) => whole(n.into()),
        Variant::I64(n) => whole(n.into()),
        Variant::F64(n) if n.is_finite() && n >= 0.0 => Some((n * 1e6) as u64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, text: &str, expect: std::result::Result<(&str, Variant<'_>), &str>) {
        let annotations =
            BTreeMap::from([(format!("{PREFIX}{name}"), text.to_owned()), ("other".into(), "x".into())]);
        match (passed_on(Some(&annotations)), expect) {
            (Ok(passed), Ok((name, value))) => {
                let [Property { name: got, value: is, .. }] = &passed[..] else { panic!("{passed:?}") };
                assert_eq!((got.as_str(), is), (name, &value));
            }
            (Err(error), Err(expect)) => assert!(error.to_string().contains(expect), "{error}"),
            (got, expect) => panic!("{got:?}, not {expect:?}"),
        }
    }

    #[test]
    fn seconds_become_microseconds() {
        check("TimeoutStopSec", "123", Ok(("TimeoutStopUSec", Variant::U64(123_000_000))));
        check("TimeoutStopSec", "uint64 2", Ok(("TimeoutStopUSec", Variant::U64(2_000_000))));
        check("RuntimeMaxSec", "0.5", Ok(("RuntimeMaxUSec", Variant::U64(500_000))));
        check("TimeoutStopUSec", "uint64 5", Ok(("TimeoutStopUSec", Variant::U64(5))));
        check("TimeoutStopSec", "'x'", Err("not a number of seconds"));
        check("TimeoutStopSec", "-1", Err("not a number of seconds"));
    }

    #[test]
    fn others_keep_their_type() {
        check(
            "CollectMode",
            "'inactive-or-failed'",
            Ok(("CollectMode", Variant::from("inactive-or-failed"))),
        );
        check("SendSIGHUP", "true", Ok(("SendSIGHUP", Variant::Bool(true))));
    }

    #[test]
    fn names_are_letters() {
        for name in ["", "ab", "Collect-Mode", "Collect Mode", "CollectMode1", "PIDs"] {
            check(name, "true", Err("name incorrect"));
        }
        check("CollectMode", "", Err("parse error"));
    }
}

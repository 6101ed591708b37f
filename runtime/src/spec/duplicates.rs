//! Keys that are there twice, in one spelling or in two (`cpu` and `CPU`): Go reads the second over the first, objects
//! into each other. serde refuses them; so where it did, and only there, the text is written anew with the two as one.

use super::keys::folds;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_path_to_error::{Path, Segment};
use std::fmt;

/// Merging is for a few keys of a person's, not for a text that is made of them.
pub(super) const MOST: usize = 64;

/// The first JSON value of `text`, without the duplicates that `error` is about; `None` if it is about something else.
pub(super) fn merged(text: &[u8], error: &serde_path_to_error::Error<serde_json::Error>) -> Option<Vec<u8>> {
    let cause = error.inner().to_string();
    let field = cause.strip_prefix("duplicate field `")?.split('`').next()?;
    let mut tree = Tree::deserialize(&mut serde_json::Deserializer::from_slice(text)).ok()?;
    if !tree.at(error.path())?.merge(field) {
        return None;
    }
    serde_json::to_vec(&tree).ok()
}

/// A JSON value in which objects are as written.
enum Tree {
    Leaf(serde_json::Value),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl Tree {
    fn at(&mut self, path: &Path) -> Option<&mut Self> {
        path.iter().try_fold(self, |here, segment| match (here, segment) {
            (Self::Object(entries), Segment::Map { key }) => {
                entries.iter_mut().find(|(name, _)| name == key || folds(name, key)).map(|(_, value)| value)
            }
            (Self::List(items), Segment::Seq { index }) => items.get_mut(*index),
            _ => None,
        })
    }

    /// Makes one entry of all that are read as `field`; whether there were several.
    fn merge(&mut self, field: &str) -> bool {
        let Self::Object(entries) = self else { return false };
        let before = entries.len();
        let (same, mut others): (Vec<_>, Vec<_>) =
            entries.drain(..).partition(|(name, _)| folds(name, field));
        let one = same.into_iter().map(|(_, value)| value).reduce(|first, second| match (first, second) {
            (Self::Object(mut first), Self::Object(second)) => {
                first.extend(second);
                Self::Object(first)
            }
            (_, second) => second,
        });
        others.extend(one.map(|value| (field.to_owned(), value)));
        *entries = others;
        entries.len() < before
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Whole)
    }
}

struct Whole;

macro_rules! leaves {
    ($($method:ident($kind:ty))*) => { $(
        fn $method<E: serde::de::Error>(self, value: $kind) -> Result<Tree, E> {
            Ok(Tree::Leaf(value.into()))
        }
    )* };
}

impl<'de> Visitor<'de> for Whole {
    type Value = Tree;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    leaves! { visit_bool(bool) visit_i64(i64) visit_u64(u64) visit_f64(f64) visit_str(&str) }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf(serde_json::Value::Null))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            list.push(entry);
        }
        Ok(Tree::Object(list))
    }
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Leaf(value) => value.serialize(to),
            Self::List(items) => items.serialize(to),
            Self::Object(entries) => {
                let mut map = to.serialize_map(Some(entries.len()))?;
                entries.iter().try_for_each(|(key, value)| map.serialize_entry(key, value))?;
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::cgroup::changes::Changes;
    use crate::spec::{Spec, parse};

    fn cpu(resources: &str) -> serde_json::Value {
        let text = format!(r#"{{"linux":{{"resources":{resources}}}}}"#);
        let spec: Spec = parse(text.as_bytes(), "config.json").unwrap();
        serde_json::to_value(spec.linux.unwrap().resources.unwrap().cpu()).unwrap()
    }

    #[test]
    fn the_second_is_read_over_the_first() {
        let both = serde_json::json!({"cpus": "1", "mems": "0", "quota": 5});
        assert_eq!(cpu(r#"{"cpu":{"cpus":"0","quota":5},"CPU":{"cpus":"1","mems":"0"}}"#), both);
        assert_eq!(cpu(r#"{"CPU":{"cpus":"0","QUOTA":4},"cpu":{"CPUS":"1","mems":"0","quota":5}}"#), both);
        assert_eq!(cpu(r#"{"cpu":{"cpus":"1","cpus":"1"},"cpu":{"mems":"0","quota":4,"quota":5}}"#), both);
    }

    #[test]
    fn what_is_no_object_is_replaced() {
        let spec: Spec =
            parse(br#"{"hostname":"a","mounts":[{}],"HostName":"b","Mounts":[]}"#, "config.json").unwrap();
        assert_eq!((spec.hostname.as_deref(), spec.mounts.unwrap().len()), (Some("b"), 0));
        let changes = Changes::parse(r#"{"pids":{"limit":1},"Pids":{"Limit":2}} more"#).unwrap();
        assert_eq!(changes.pids.unwrap().limit, Some(2));
    }

    #[test]
    fn other_errors_and_what_follows_are_still_told() {
        let error = |text: &str| parse::<Spec>(text.as_bytes(), "c").unwrap_err().to_string();
        assert!(
            error(r#"{"hostname":"a","hostname":5}"#).starts_with("c: hostname: invalid type: integer `5`")
        );
        assert!(error(r#"{"hostname":"a","hostname":"b"} x"#).contains("trailing characters"));
    }

    #[test]
    fn a_text_of_nothing_but_duplicates_is_refused() {
        let twice = r#"{"path":"/x","path":"/y"}"#;
        let text = format!(r#"{{"hooks":{{"poststop":[{}]}}}}"#, vec![twice; 1000].join(","));
        let error = parse::<Spec>(text.as_bytes(), "c").unwrap_err().to_string();
        assert!(error.contains("duplicate field `path`"), "{error}");
    }
}

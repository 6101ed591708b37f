//! Keys of JSON objects in any case, as Go reads them and so runc: `pagesize` is taken for `pageSize`. [`AnyCase`]
//! stands between a type and the deserializer of its text, there to give a struct the key as it is spelled in the
//! struct. What is a map (annotations, sysctl, unified) keeps its keys, and a key that fits no field is ignored.

use serde::Deserializer;
use serde::de::{DeserializeSeed, EnumAccess, MapAccess, SeqAccess, Unexpected, Visitor};
use std::fmt;

/// The names of a struct's fields.
type Fields = &'static [&'static str];

/// A deserializer whose structs are found by keys in any case, as deep as they lie.
pub struct AnyCase<D>(pub D);

/// Whatever goes down into the text, around what serde derives: a visitor with the fields of its struct (none for
/// anything else), an access to a sequence or an object, a seed of an element, the seed of a key, the visitor of it.
struct Inside<T>(T, Fields);
struct Element<T>(T);
struct Key<T>(T, Fields);

/// The field that Go takes `key` for: the same name if there is one, else the first that differs only in case.
fn field(key: &str, fields: Fields) -> &str {
    if fields.contains(&key) {
        return key;
    }
    fields.iter().find(|field| folds(key, field)).copied().unwrap_or(key)
}

/// Simple case folding of Unicode, where two letters beyond ASCII fall together with one of a field's name.
pub(super) fn folds(key: &str, field: &str) -> bool {
    let fold = |letter: char| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    key.chars().map(fold).eq(field.chars().map(fold))
}

macro_rules! as_it_is {
    ($($method:ident)*) => { $(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.0.$method(visitor)
        }
    )* };
}

macro_rules! inside {
    ($($method:ident($($name:ident: $kind:ty),*))*) => { $(
        fn $method<V: Visitor<'de>>(self, $($name: $kind,)* visitor: V) -> Result<V::Value, D::Error> {
            self.0.$method($($name,)* Inside(visitor, &[]))
        }
    )* };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for AnyCase<D> {
    type Error = D::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: Fields,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_struct(name, fields, Inside(visitor, fields))
    }

    as_it_is! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32
        deserialize_f64 deserialize_char deserialize_str deserialize_string deserialize_bytes
        deserialize_byte_buf deserialize_unit deserialize_identifier deserialize_ignored_any
    }

    inside! {
        deserialize_any()
        deserialize_option()
        deserialize_seq()
        deserialize_map()
        deserialize_unit_struct(name: &'static str)
        deserialize_newtype_struct(name: &'static str)
        deserialize_tuple(length: usize)
        deserialize_tuple_struct(name: &'static str, length: usize)
        deserialize_enum(name: &'static str, variants: Fields)
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }
}

macro_rules! visit {
    ($($method:ident($kind:ty))*) => { $(
        fn $method<E: serde::de::Error>(self, value: $kind) -> Result<V::Value, E> {
            self.0.$method(value)
        }
    )* };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Inside<V> {
    type Value = V::Value;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        self.0.expecting(formatter)
    }

    visit! {
        visit_bool(bool) visit_i8(i8) visit_i16(i16) visit_i32(i32) visit_i64(i64) visit_i128(i128) visit_u8(u8)
        visit_u16(u16) visit_u32(u32) visit_u64(u64) visit_u128(u128) visit_f32(f32) visit_f64(f64)
        visit_char(char) visit_str(&str) visit_borrowed_str(&'de str) visit_string(String) visit_bytes(&[u8])
        visit_borrowed_bytes(&'de [u8]) visit_byte_buf(Vec<u8>)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.0.visit_none()
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.0.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(AnyCase(from))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, from: D) -> Result<V::Value, D::Error> {
        self.0.visit_newtype_struct(AnyCase(from))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<V::Value, A::Error> {
        // serde would fill a struct from a list, in the order of its fields; Go does not.
        if !self.1.is_empty() {
            return Err(serde::de::Error::invalid_type(Unexpected::Seq, &self));
        }
        self.0.visit_seq(Inside(elements, &[]))
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(Inside(entries, self.1))
    }

    /// The specification's enums are words; nothing lies inside.
    fn visit_enum<A: EnumAccess<'de>>(self, word: A) -> Result<V::Value, A::Error> {
        self.0.visit_enum(word)
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Inside<A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, A::Error> {
        self.0.next_element_seed(Element(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Inside<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        self.0.next_key_seed(Key(seed, self.1))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        self.0.next_value_seed(Element(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, T: DeserializeSeed<'de>> DeserializeSeed<'de> for Element<T> {
    type Value = T::Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<T::Value, D::Error> {
        self.0.deserialize(AnyCase(from))
    }
}

impl<'de, T: DeserializeSeed<'de>> DeserializeSeed<'de> for Key<T> {
    type Value = T::Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<T::Value, D::Error> {
        self.0.deserialize(Key(from, self.1))
    }
}

macro_rules! key_as_it_is {
    ($($method:ident($($name:ident: $kind:ty),*))*) => { $(
        fn $method<V: Visitor<'de>>(self, $($name: $kind,)* visitor: V) -> Result<V::Value, D::Error> {
            self.0.$method($($name,)* visitor)
        }
    )* };
}

/// The deserializer of one key. A struct asks for an identifier; a map, which asks for what its keys are, is let be.
impl<'de, D: Deserializer<'de>> Deserializer<'de> for Key<D> {
    type Error = D::Error;

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_identifier(Key(visitor, self.1))
    }

    key_as_it_is! {
        deserialize_any() deserialize_bool() deserialize_i8() deserialize_i16() deserialize_i32()
        deserialize_i64() deserialize_i128() deserialize_u8() deserialize_u16() deserialize_u32()
        deserialize_u64() deserialize_u128() deserialize_f32() deserialize_f64() deserialize_char()
        deserialize_str() deserialize_string() deserialize_bytes() deserialize_byte_buf() deserialize_unit()
        deserialize_option() deserialize_seq() deserialize_map() deserialize_ignored_any()
        deserialize_unit_struct(name: &'static str)
        deserialize_newtype_struct(name: &'static str)
        deserialize_tuple(length: usize)
        deserialize_tuple_struct(name: &'static str, length: usize)
        deserialize_struct(name: &'static str, fields: Fields)
        deserialize_enum(name: &'static str, variants: Fields)
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Key<V> {
    type Value = V::Value;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        self.0.expecting(formatter)
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<V::Value, E> {
        self.0.visit_str(field(key, self.1))
    }

    fn visit_borrowed_str<E: serde::de::Error>(self, key: &'de str) -> Result<V::Value, E> {
        self.0.visit_borrowed_str(field(key, self.1))
    }

    fn visit_string<E: serde::de::Error>(self, key: String) -> Result<V::Value, E> {
        self.0.visit_str(field(&key, self.1))
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::cgroup::changes::Changes;
    use crate::spec::{Process, Spec, parse};

    fn spec(text: &str) -> Spec {
        parse(text.as_bytes(), "config.json").unwrap()
    }

    #[test]
    fn a_key_of_a_struct_is_found_in_any_case() {
        let spec = spec(
            r#"{"OCIVERSION":"1.0.0","Mounts":[{"DESTINATION":"/a"}],"linux":{"Resources":{
                "hugepagelimits":[{"pagesize":"2MB","LIMIT":5}],"blockio":{"Weight":7}}},
                "pro\u0063ess":{"CWD":"/","u\u017Fer":{"UID":1}}}"#,
        );
        assert_eq!(spec.oci_version.as_deref(), Some("1.0.0"));
        assert_eq!(spec.mounts.unwrap()[0].destination.as_deref(), Some("/a"));
        let resources = spec.linux.unwrap().resources.unwrap();
        let huge = &resources.hugepage_limits().as_ref().unwrap()[0];
        assert_eq!((huge.page_size().as_str(), huge.limit()), ("2MB", 5));
        assert_eq!(resources.block_io().as_ref().unwrap().weight(), Some(7));
        let process = spec.process.unwrap();
        assert_eq!((process.cwd.as_deref(), process.user.unwrap().uid), (Some("/"), Some(1)));
    }

    #[test]
    fn a_key_of_a_map_stays_as_it_is() {
        let spec = spec(
            r#"{"annotations":{"Linux":"a","linux":"b","ROOT":"c"},
                "linux":{"sysctl":{"Net.Core":"1"},"resources":{"unified":{"Memory.High":"1"}}}}"#,
        );
        let keys: Vec<_> = spec.annotations.unwrap().into_keys().collect();
        assert_eq!(keys, ["Linux", "ROOT", "linux"]);
        let linux = spec.linux.unwrap();
        assert!(linux.sysctl.unwrap().contains_key("Net.Core"));
        assert!(linux.resources.unwrap().unified().as_ref().unwrap().contains_key("Memory.High"));
    }

    #[test]
    fn a_key_that_fits_nothing_is_ignored_with_all_below_it() {
        let spec = spec(r#"{"hostname":"a","host name":"b","x":{"hostname":["c"]},"linu":[{}]}"#);
        assert_eq!(spec.hostname.as_deref(), Some("a"));
        assert!(spec.linux.is_none());
    }

    #[test]
    fn a_list_is_no_struct() {
        let error = parse::<Spec>(br#"{"root":["/",true]}"#, "config.json").unwrap_err().to_string();
        assert!(
            error.starts_with("config.json: root: invalid type: sequence, expected struct Root"),
            "{error}"
        );
    }

    #[test]
    fn words_that_are_values_keep_their_case() {
        let text = br#"{"linux":{"namespaces":[{"type":"PID"}]}}"#;
        let error = parse::<Spec>(text, "config.json").unwrap_err().to_string();
        assert!(error.starts_with("config.json: linux.namespaces[0].type: unknown variant `PID`"), "{error}");
    }

    #[test]
    fn an_error_names_the_path_as_the_specification_spells_it() {
        let text = br#"{"ARGS":["sh",5]}"#;
        let error = parse::<Process>(text, "p.json").unwrap_err().to_string();
        assert!(error.starts_with("p.json: args[1]: invalid type: integer `5`"), "{error}");
        let error = Changes::parse(r#"{"Memory":{"LIMIT":"a"}}"#).unwrap_err().to_string();
        assert!(error.starts_with("memory.limit: invalid type: string"), "{error}");
    }

    #[test]
    fn update_reads_keys_in_any_case_too() {
        let changes =
            Changes::parse(r#"{"BLOCKIO":{"throttlereadiopsdevice":[{"Major":8,"MINOR":0,"Rate":1}]}}"#);
        let devices = changes.unwrap().block_io.unwrap().throttle_read_iops_device.unwrap();
        assert_eq!((devices[0].major(), devices[0].rate()), (8, 1));
    }
}

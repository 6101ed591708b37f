//! Sets of processors and of memory nodes, as `0-3,7`: the list format of cpuset(7), with what runc takes beyond it.

use crate::bail;
use crate::error::{Error, Result};
use std::collections::BTreeSet;
use std::num::IntErrorKind;

/// The largest number that runc takes.
const LARGEST: u32 = 1023;

/// The members of a list, in order; `None` for an empty text. Blanks around an element and empty elements are nothing.
///
/// # Errors
/// In runc's words, which are those of Go's number parser.
pub fn members(text: &str) -> Result<Option<Vec<u32>>> {
    if text.is_empty() {
        return Ok(None);
    }
    // Each number once and a few blanks.
    if text.len() > 1 << 14 {
        bail!("{} bytes are too many for a set", text.len());
    }
    let mut members = BTreeSet::new();
    for element in text.split(',').map(str::trim).filter(|element| !element.is_empty()) {
        let (first, last) = match element.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(element)?, number(element)?),
        };
        if first > last {
            bail!("invalid range: {element}");
        }
        if last > LARGEST {
            bail!("values larger than {LARGEST} are not supported");
        }
        members.extend(first..=last);
    }
    if members.is_empty() {
        bail!("no members found in set {text:?}");
    }
    Ok(Some(members.into_iter().collect()))
}

fn number(text: &str) -> Result<u32> {
    let cause = match text.parse::<u32>() {
        Ok(number) if !text.starts_with('+') => return Ok(number),
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => "value out of range",
        _ => "invalid syntax",
    };
    Err(Error::new(format!("strconv.ParseUint: parsing {text:?}: {cause}")))
}

#[cfg(test)]
mod tests {
    use super::members;

    #[test]
    fn lists_are_read_as_runc_reads_them() {
        for (text, expect) in [
            ("", None),
            ("0", Some(vec![0])),
            ("0-1", Some(vec![0, 1])),
            (",0,1,", Some(vec![0, 1])),
            ("    , 1   , 3  ,  5-7,    ", Some(vec![1, 3, 5, 6, 7])),
            ("1, 2, 1-2", Some(vec![1, 2])),
            ("0\n", Some(vec![0])),
            ("1023", Some(vec![1023])),
        ] {
            assert_eq!(members(text).unwrap(), expect, "{text:?}");
        }
    }

    /// Each sentence as runc 1.4.3 says it.
    #[test]
    fn what_is_no_list_is_told_in_runcs_words() {
        for (text, expect) in [
            (" ", "no members found in set \" \""),
            (",", "no members found in set \",\""),
            ("-", "strconv.ParseUint: parsing \"\": invalid syntax"),
            ("1-", "strconv.ParseUint: parsing \"\": invalid syntax"),
            ("-3", "strconv.ParseUint: parsing \"\": invalid syntax"),
            ("54-53", "invalid range: 54-53"),
            ("1 - 2", "strconv.ParseUint: parsing \"1 \": invalid syntax"),
            ("1-2-3", "strconv.ParseUint: parsing \"2-3\": invalid syntax"),
            ("1024", "values larger than 1023 are not supported"),
            ("0-65537", "values larger than 1023 are not supported"),
            ("99999999999", "strconv.ParseUint: parsing \"99999999999\": value out of range"),
            ("0,x", "strconv.ParseUint: parsing \"x\": invalid syntax"),
            ("0x1", "strconv.ParseUint: parsing \"0x1\": invalid syntax"),
            ("+1", "strconv.ParseUint: parsing \"+1\": invalid syntax"),
        ] {
            assert_eq!(members(text).unwrap_err().to_string(), expect, "{text:?}");
        }
    }
}

//! Owners in a user namespace: which id of an image is which id outside (user_namespaces(7)).

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A piece of a map, as in /proc/PID/uid_map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// First id in the image.
    pub inside: u32,
    /// First id on the disk.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// A map of user or group ids; empty: every id is itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Map(pub Vec<Range>);

/// The maps for users and for groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// Of users.
    pub users: Map,
    /// Of groups.
    pub groups: Map,
}

impl Map {
    /// The id on the disk. An id outside the map is an error, never the overflow id.
    pub fn outside(&self, id: u32) -> Result<u32> {
        if self.0.is_empty() {
            return Ok(id);
        }
        let found = self.0.iter().find(|r| id >= r.inside && id - r.inside < r.count);
        // The last number of all means nobody.
        let mapped = found.and_then(|r| r.outside.checked_add(id - r.inside)).filter(|id| *id != u32::MAX);
        mapped.ok_or_else(|| Error::unsupported(format!("id {id} is not in the map")))
    }

    /// The id in the image.
    pub fn inside(&self, id: u32) -> Result<u32> {
        let reverse = |r: &Range| Range { inside: r.outside, outside: r.inside, count: r.count };
        Map(self.0.iter().map(reverse).collect()).outside(id)
    }

    /// Reads `INSIDE:OUTSIDE:COUNT`.
    pub fn parse(text: &str) -> Result<Range> {
        let numbers: Vec<u32> = text.split(':').map_while(|n| n.parse().ok()).collect();
        match numbers[..] {
            [inside, outside, count] if text.split(':').count() == 3 && count > 0 => {
                Ok(Range { inside, outside, count })
            }
            _ => Err(Error::new(crate::error::Kind::Usage, format!("{text:?}: not INSIDE:OUTSIDE:COUNT"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_mapped_or_refused() {
        let map = Map(vec![Map::parse("0:1000:1").unwrap(), Map::parse("1:100000:65535").unwrap()]);
        assert_eq!(map.outside(0).unwrap(), 1000);
        assert_eq!(map.outside(65535).unwrap(), 165_534);
        assert_eq!(map.inside(100_000).unwrap(), 1);
        assert!(map.outside(65536).is_err());
        assert_eq!(Map::default().outside(7).unwrap(), 7);
        for wrong in ["", "1", "1:2", "1:2:3:4", "1:2:0", "a:1:1", "-1:1:1"] {
            assert!(Map::parse(wrong).is_err(), "{wrong}");
        }
    }
}

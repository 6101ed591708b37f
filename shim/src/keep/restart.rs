//! When a container is started again, and how long that takes.

use pintle::error::Error;
use std::str::FromStr;
use std::time::Duration;

/// The pause after the first end; it doubles with each that follows.
const FIRST: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(60);
/// Who lived that long begins anew with the first pause.
const WELL: Duration = Duration::from_secs(10);

/// What `--restart` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Never.
    No,
    /// After an end with a status that is not 0, so many times at most.
    OnFailure(Option<u32>),
    /// After every end.
    Always,
}

impl Restart {
    /// Whether it is started once more after an end with `status`.
    pub fn again(self, status: u8, restarts: u32) -> bool {
        match self {
            Self::No => false,
            Self::OnFailure(most) => status != 0 && most.is_none_or(|most| restarts < most),
            Self::Always => true,
        }
    }
}

impl FromStr for Restart {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let times = || text.strip_prefix("on-failure:")?.parse().ok();
        match text {
            "no" => Ok(Self::No),
            "always" => Ok(Self::Always),
            "on-failure" => Ok(Self::OnFailure(None)),
            _ => times()
                .map(|times| Self::OnFailure(Some(times)))
                .ok_or_else(|| Error::new("no, on-failure, on-failure:TIMES or always")),
        }
    }
}

/// The pause before the next start, after `last` and a life of `lived`.
pub fn pause(last: Option<Duration>, lived: Duration) -> Duration {
    match last {
        Some(last) if lived < WELL => (last * 2).min(LONGEST),
        _ => FIRST,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_looks_at_status_and_count() {
        for (text, status, restarts, expect) in [
            ("no", 1, 0, false),
            ("always", 0, 1000, true),
            ("on-failure", 0, 0, false),
            ("on-failure", 137, 1000, true),
            ("on-failure:2", 1, 1, true),
            ("on-failure:2", 1, 2, false),
            ("on-failure:0", 1, 0, false),
        ] {
            assert_eq!(text.parse::<Restart>().unwrap().again(status, restarts), expect, "{text}");
        }
        for text in ["", "never", "on-failure:", "on-failure:-1", "always:1"] {
            assert!(text.parse::<Restart>().is_err(), "{text}");
        }
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_a_long_life_begins_anew() {
        let short = Duration::from_millis(5);
        let mut pauses = vec![pause(None, short)];
        for _ in 0..12 {
            pauses.push(pause(pauses.last().copied(), short));
        }
        let millis: Vec<_> = pauses.iter().map(Duration::as_millis).collect();
        assert_eq!(millis[..5], [100, 200, 400, 800, 1600]);
        assert_eq!(millis[10..], [60_000, 60_000, 60_000]);
        assert_eq!(pause(Some(LONGEST), WELL), FIRST);
    }
}

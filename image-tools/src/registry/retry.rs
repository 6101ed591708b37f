//! What is tried again, when, and how often: exponential back-off with jitter, and what a server asks for with Retry-After,
//! within limits. Everything that a server refuses for good (4xx) is told at once.

use std::time::{Duration, SystemTime};

use crate::error::Error;

/// What a try came to.
pub(super) type Tried<T> = std::result::Result<T, Trouble>;

/// Why a request came to nothing.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It would come to nothing again.
    Lasting(Error),
    /// It may be better later: no connection, a cut, too many requests, a server's own trouble.
    Passing {
        /// What to say when patience ends.
        error: Error,
        /// How long the server asks us to wait.
        wait: Option<Duration>,
    },
}

impl Trouble {
    /// Worth another try.
    pub(super) fn passing(error: Error) -> Self {
        Self::Passing { error, wait: None }
    }

    /// The cause, once nobody tries again.
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Lasting(error) | Self::Passing { error, .. } => error,
        }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Lasting(error)
    }
}

/// How long to wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    /// The first pause; each further one is twice as long.
    pub(super) pause: Duration,
    /// No pause is longer, whatever the server asks for.
    pub(super) longest: Duration,
}

impl Policy {
    /// The pause before try `n` (from 1): half of it is by chance, so that many clients don't come back at once.
    pub(super) fn pause(&self, n: u32, asked: Option<Duration>) -> Duration {
        let full = self.pause.saturating_mul(1 << n.saturating_sub(1).min(16)).min(self.longest);
        let chance = f64::from(super::random_number() as u32) / f64::from(u32::MAX);
        let own = full.mul_f64(0.5 + chance / 2.0);
        asked.map_or(own, |asked| own.max(asked.min(self.longest)))
    }
}

/// The value of a Retry-After header: seconds, or a moment.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    // A moment that has passed means at once.
    http_date(value).map(|then| then.duration_since(now).unwrap_or_default())
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, the only form that servers may still send (RFC 9110, 5.6.7).
fn http_date(text: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split_once(", ")?.1.split(' ').collect();
    let [day, month, year, time, "GMT"] = words[..] else { return None };
    let month = MONTHS.iter().position(|m| *m == month)? as u64 + 1;
    let (year, day): (u64, u64) = (year.parse().ok()?, day.parse().ok()?);
    let clock: Vec<u64> = time.split(':').map(|n| n.parse().ok()).collect::<Option<_>>()?;
    let [hour, minute, second] = clock[..] else { return None };
    if !(1970..=9999).contains(&year) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // The year begins in March, so that the leap day is its last: days since 0000-03-01, less those until 1970.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1 - 719_468;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400 + hour * 3600 + minute * 60 + second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let check = |value: &str, expect: Option<u64>| {
            assert_eq!(retry_after(value, now), expect.map(Duration::from_secs), "{value}");
        };
        check("120", Some(120));
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(0));
        check("Sun, 06 Nov 1994 08:50:07 GMT", Some(30));
        check("Mon, 07 Nov 1994 08:49:37 GMT", Some(86_400));
        check("Sun, 06 Nov 1983 08:49:37 GMT", Some(0));
        check("Thu, 29 Feb 1996 00:00:00 GMT", Some(825_552_000 - 784_111_777));
        check("soon", None);
        check("-1", None);
        check("Sun, 06 Nov 99999999999999999999 08:49:37 GMT", None);
    }

    #[test]
    fn pauses_grow_within_limits() {
        let policy = Policy { pause: Duration::from_secs(1), longest: Duration::from_secs(30) };
        for (n, low, high) in
            [(1, 0.5, 1.0), (2, 1.0, 2.0), (5, 8.0, 16.0), (9, 15.0, 30.0), (90, 15.0, 30.0)]
        {
            let pause = policy.pause(n, None).as_secs_f64();
            assert!((low..=high).contains(&pause), "{n}: {pause}");
        }
        assert_eq!(policy.pause(1, Some(Duration::from_secs(7))), Duration::from_secs(7));
        assert_eq!(policy.pause(1, Some(Duration::from_secs(7000))), Duration::from_secs(30));
    }
}

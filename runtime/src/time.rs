//! Moments as text: RFC 3339 with and without nanoseconds, always in UTC, the way Go prints them.
//! The static binary reads no time zone database.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: u64 = 86_400;

/// `2026-08-19T10:00:00Z`
pub fn rfc3339(time: SystemTime) -> String {
    seconds(since_epoch(time)) + "Z"
}

/// `2026-08-19T10:00:00.12Z`: up to nine decimals, without trailing zeros.
pub fn rfc3339_nano(time: SystemTime) -> String {
    let since = since_epoch(time);
    let mut text = seconds(since);
    if since.subsec_nanos() > 0 {
        text.push_str(format!(".{:09}", since.subsec_nanos()).trim_end_matches('0'));
    }
    text + "Z"
}

/// A clock before 1970 counts as 1970.
fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn seconds(since: Duration) -> String {
    let (year, month, day) = civil(since.as_secs() / DAY);
    let second = since.as_secs() % DAY;
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}

/// Year, month and day of a number of days since 1970-01-01. The year is made to begin in March, so that the leap
/// day is its last one; 400 such years, an era, have 146,097 days.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, nanos: u32) -> SystemTime {
        UNIX_EPOCH + Duration::new(seconds, nanos)
    }

    #[test]
    fn dates_follow_the_calendar() {
        for (seconds, expect) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (1_787_133_600, "2026-08-19T10:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(at(seconds, 0)), expect);
        }
    }

    #[test]
    fn nanoseconds_lose_their_trailing_zeros() {
        for (nanos, expect) in [
            (0, "1970-01-01T00:00:01Z"),
            (120_000_000, "1970-01-01T00:00:01.12Z"),
            (1, "1970-01-01T00:00:01.000000001Z"),
        ] {
            assert_eq!(rfc3339_nano(at(1, nanos)), expect);
        }
    }
}

//! `exec --user UID[:GID]`: plain numbers or an error. Whatever is taken is what a reader of digits, one by one, makes of it.

use pintle::ops::exec::parse_user;

/// One argument; what is no text cannot be typed there.
pub fn check(data: &[u8]) {
    let Ok(typed) = std::str::from_utf8(data) else { return };
    for own in [None, Some(7)] {
        let expect = match typed.find(':') {
            None => digits(typed).map(|uid| (Some(uid), own)),
            Some(at) => {
                digits(&typed[..at]).zip(digits(&typed[at + 1..])).map(|(uid, gid)| (Some(uid), Some(gid)))
            }
        };
        match parse_user(typed, own) {
            Ok(user) => assert_eq!(Some(user), expect, "{typed:?}"),
            Err(error) => {
                assert_eq!(None, expect, "{typed:?}: {error}");
                let text = error.to_string();
                assert!(text.starts_with("bad uid: ") || text.starts_with("bad gid: "), "{text}");
                assert!(!text.contains(char::is_control), "{text:?}: a terminal would obey it");
            }
        }
    }
}

/// 0 to 4294967294, written in ASCII digits and nothing else.
fn digits(text: &str) -> Option<u32> {
    let value = text.bytes().try_fold(0_u64, |value, byte| {
        let digit = u64::from(byte.wrapping_sub(b'0'));
        (digit < 10 && value < 1 << 32).then(|| value * 10 + digit)
    })?;
    (!text.is_empty() && value < u64::from(u32::MAX)).then_some(value as u32)
}

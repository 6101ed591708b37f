//! Whom the process runs as: `config.User` in numbers (conversion.md, "Config.User"; config.md, "User"), by the image's own
//! /etc/passwd and /etc/group. They are parsed here: getpwnam(3) would load the host's, or worse the image's, modules.
//!
//! **A number** is taken as it is, whether or not anybody knows it, and gets no additional groups (conversion.md). Without a
//! group it has that of its line in /etc/passwd (config.md; as in Docker), else 0. **A name** has to be known. Without a group
//! it has its own, and the additional groups that initgroups(3) would give it: its own first, then those that list it.
//! Its own among them is what keeps a set-group-ID program from leaving it (CVE-2022-36109). **A group** that is given stands
//! alone. No user at all is user 0.

use crate::error::{Context, Error, Result};

/// The kernel takes no more (NGROUPS_MAX).
const MOST_GROUPS: usize = 65_536;

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The user ID.
    pub uid: u32,
    /// The group ID.
    pub gid: u32,
    /// The additional groups.
    pub additional_gids: Vec<u32>,
    /// The home directory, if /etc/passwd knows one.
    pub home: Option<String>,
}

/// The image's files of users and groups: each is read when it is needed, and none that is not there is an error.
pub trait Files {
    /// /etc/passwd
    fn passwd(&self) -> Result<Option<Vec<u8>>>;
    /// /etc/group
    fn group(&self) -> Result<Option<Vec<u8>>>;
}

/// Resolves `user[:group]`. `home` says whether the home directory is wanted, for which alone a file would not be opened.
///
/// Errors: somebody whom the files do not know; a number that is none, in the image's word or in its files.
pub fn resolve(text: &str, home: bool, files: &impl Files) -> Result<User> {
    lookup(text, home, files).with_context(|| format!("user {text:?}"))
}

fn lookup(text: &str, home: bool, files: &impl Files) -> Result<User> {
    let (name, group) = text.split_once(':').unwrap_or((text, ""));
    let number = if name.is_empty() { Some(0) } else { id(name)? };
    let passwd = if number.is_none() || home || group.is_empty() { files.passwd()? } else { None };
    let passwd = passwd.unwrap_or_default();
    let entry = match number {
        Some(uid) => Some(Entry { uid, ..Entry::by_uid(&passwd, uid).unwrap_or_default() }),
        None => Entry::by_name(&passwd, name)?,
    };
    let Some(entry) = entry else {
        return Err(Error::not_found("the image's /etc/passwd does not have it"));
    };
    let mut user = User { uid: entry.uid, gid: entry.gid, home: entry.home, ..User::default() };
    if !group.is_empty() {
        user.gid = group_id(group, files)?;
    } else if number.is_none() {
        user.additional_gids = member_of(&files.group()?.unwrap_or_default(), name, user.gid)?;
    }
    Ok(user)
}

/// A line of /etc/passwd.
#[derive(Default)]
struct Entry {
    uid: u32,
    gid: u32,
    home: Option<String>,
}

impl Entry {
    fn new(line: &Line<'_>) -> Result<Self> {
        let home = line.field(5).and_then(|home| std::str::from_utf8(home).ok());
        let sane = |home: &&str| home.starts_with('/') && !home.contains('\0');
        let home = home.filter(sane).map(str::to_owned);
        Ok(Self { uid: line.id(2)?, gid: line.id(3)?, home })
    }

    /// A line that is broken belongs to nobody.
    fn by_uid(passwd: &[u8], uid: u32) -> Option<Self> {
        lines(passwd).filter_map(|line| Self::new(&line).ok()).find(|entry| entry.uid == uid)
    }

    /// A line that is broken is an error, if it is the wanted one.
    fn by_name(passwd: &[u8], name: &str) -> Result<Option<Self>> {
        let line = lines(passwd).find(|line| line.is(name));
        line.map(|line| Self::new(&line)).transpose().context("/etc/passwd")
    }
}

fn group_id(group: &str, files: &impl Files) -> Result<u32> {
    if let Some(gid) = id(group)? {
        return Ok(gid);
    }
    let all = files.group()?.unwrap_or_default();
    match lines(&all).find(|line| line.is(group)) {
        Some(line) => line.id(2).context("/etc/group"),
        None => Err(Error::not_found("the image's /etc/group does not have the group")),
    }
}

/// `own`, and every group that lists the user. Broken lines list nobody.
fn member_of(groups: &[u8], name: &str, own: u32) -> Result<Vec<u32>> {
    let mut all = vec![own];
    let mut seen = std::collections::BTreeSet::from([own]);
    for line in lines(groups) {
        let members = line.field(3).unwrap_or_default();
        if !members.split(|b| *b == b',').any(|member| member.trim_ascii() == name.as_bytes()) {
            continue;
        }
        if let Ok(gid) = line.id(2)
            && seen.insert(gid)
        {
            all.push(gid);
        }
    }
    if all.len() > MOST_GROUPS {
        return Err(Error::invalid(format!("/etc/group: in {} groups, of at most {MOST_GROUPS}", all.len())));
    }
    Ok(all)
}

/// A number as a user writes it: `None` for a name. -1 is no user, neither as 4294967295 nor by wrapping around.
fn id(text: &str) -> Result<Option<u32>> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(id) if id != u32::MAX && digits == text => Ok(Some(id)),
        _ => Err(Error::invalid(format!("{text} is not an ID; IDs go from 0 to {}", u32::MAX - 1))),
    }
}

/// A line of either file: fields between colons.
struct Line<'a>(Vec<&'a [u8]>);

impl<'a> Line<'a> {
    fn field(&self, n: usize) -> Option<&'a [u8]> {
        self.0.get(n).copied()
    }

    fn is(&self, name: &str) -> bool {
        self.field(0) == Some(name.as_bytes())
    }

    fn id(&self, n: usize) -> Result<u32> {
        let field = String::from_utf8_lossy(self.field(n).unwrap_or_default());
        id(&field)?.ok_or_else(|| Error::invalid(format!("{field:?} is not an ID")))
    }
}

/// The lines that say something: no comments, and nothing of NIS.
fn lines(file: &[u8]) -> impl Iterator<Item = Line<'_>> {
    file.split(|b| *b == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty() && !b"#+-".contains(&line[0]))
        // No field after the seventh has a meaning.
        .map(|line| Line(line.splitn(8, |b| *b == b':').collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    struct Texts(Option<&'static str>, Option<&'static str>);

    impl Files for Texts {
        fn passwd(&self) -> Result<Option<Vec<u8>>> {
            Ok(self.0.map(Into::into))
        }
        fn group(&self) -> Result<Option<Vec<u8>>> {
            Ok(self.1.map(Into::into))
        }
    }

    const PASSWD: &str = "# users\nroot:x:0:0:root:/root:/bin/sh\n\n  app:x:1000:100:an app:/home/app:/bin/sh\r\n\
        app:x:1:1::/second:\nshort:x:7\nbad:x:12x:0::/:\nbig:x:4294967296:0::/:\nminus:x:-1:0::/:\nnohome:x:8:9\n\
        +nis::::::\n:x:55:55::/nobody:\nodd:x:9:9::relative:\nnul:x:10:10::/a\0b:\n";
    const GROUP: &str = "root:x:0:root\nusers:x:100:\nvideo:x:44:other,app\naudio:x:29: app \nbad:x:zz:app\n\
        video2:x:44:app\napple:x:45:apple\nhuge:x:99999999999:\nlonely:x\n";
    const BOTH: Texts = Texts(Some(PASSWD), Some(GROUP));

    fn told(user: Result<User>) -> String {
        match user {
            Ok(User { uid, gid, additional_gids, home }) => {
                format!("{uid}:{gid} {additional_gids:?} {}", home.as_deref().unwrap_or("-"))
            }
            Err(e) => format!("{:?}: {e}", e.kind()),
        }
    }

    #[test]
    fn users_are_found_as_the_image_names_them() {
        let unknown =
            |user: &str| format!("NotFound: user {user:?}: the image's /etc/passwd does not have it");
        for (user, expect) in [
            ("", "0:0 [] /root".to_owned()),
            ("0", "0:0 [] /root".into()),
            ("root", "0:0 [0] /root".into()),
            ("1000", "1000:100 [] /home/app".into()),
            ("01000", "1000:100 [] /home/app".into()),
            ("1001", "1001:0 [] -".into()),
            ("1000:1000", "1000:1000 [] /home/app".into()),
            ("1000:video", "1000:44 [] /home/app".into()),
            ("app", "1000:100 [100, 44, 29] /home/app".into()),
            ("app:", "1000:100 [100, 44, 29] /home/app".into()),
            ("app:video", "1000:44 [] /home/app".into()),
            ("app:123", "1000:123 [] /home/app".into()),
            (":video", "0:44 [] /root".into()),
            (":5", "0:5 [] /root".into()),
            ("nohome", "8:9 [9] -".into()),
            ("odd", "9:9 [9] -".into()),
            ("nul", "10:10 [10] -".into()),
            ("4294967294", "4294967294:0 [] -".into()),
            ("App", unknown("App")),
            ("app ", unknown("app ")),
            ("ap", unknown("ap")),
            ("0x0", unknown("0x0")),
            ("-", unknown("-")),
            ("+nis", unknown("+nis")),
            ("# users", unknown("# users")),
            ("../etc", unknown("../etc")),
            ("short", "Invalid: user \"short\": /etc/passwd: \"\" is not an ID".into()),
            ("bad", "Invalid: user \"bad\": /etc/passwd: \"12x\" is not an ID".into()),
            ("app:lonely", "Invalid: user \"app:lonely\": /etc/group: \"\" is not an ID".into()),
            (
                "app:nobody",
                "NotFound: user \"app:nobody\": the image's /etc/group does not have the group".into(),
            ),
            (
                "app:video:x",
                "NotFound: user \"app:video:x\": the image's /etc/group does not have the group".into(),
            ),
        ] {
            assert_eq!(told(resolve(user, true, &BOTH)), expect, "{user:?}");
        }
    }

    /// What does not fit must not become another's number, least of all 0.
    #[test]
    fn cve_2024_40635_ids_do_not_wrap_around() {
        for (user, place, id) in [
            ("4294967295", "", "4294967295"),
            ("4294967296", "", "4294967296"),
            ("99999999999", "", "99999999999"),
            ("18446744073709551616", "", "18446744073709551616"),
            ("2147483648:4294967296", "", "4294967296"),
            ("0:4294967295", "", "4294967295"),
            ("-1", "", "-1"),
            ("+1", "", "+1"),
            ("0:-1", "", "-1"),
            ("big", "/etc/passwd: ", "4294967296"),
            ("minus", "/etc/passwd: ", "-1"),
            ("app:huge", "/etc/group: ", "99999999999"),
        ] {
            let expect =
                format!("Invalid: user {user:?}: {place}{id} is not an ID; IDs go from 0 to 4294967294");
            assert_eq!(told(resolve(user, true, &BOTH)), expect);
        }
    }

    #[test]
    fn numbers_need_no_files() {
        let none = Texts(None, None);
        for (user, expect) in [
            ("", "0:0 [] -"),
            ("1000", "1000:0 [] -"),
            ("1000:1000", "1000:1000 [] -"),
            ("root", "NotFound: user \"root\": the image's /etc/passwd does not have it"),
            ("0:root", "NotFound: user \"0:root\": the image's /etc/group does not have the group"),
        ] {
            assert_eq!(told(resolve(user, true, &none)), expect, "{user:?}");
        }
    }

    struct Hostile;

    impl Files for Hostile {
        fn passwd(&self) -> Result<Option<Vec<u8>>> {
            Err(Error::invalid("etc/passwd: not a regular file"))
        }
        fn group(&self) -> Result<Option<Vec<u8>>> {
            Err(Error::invalid("etc/group: not a regular file"))
        }
    }

    #[test]
    fn a_file_that_nobody_asks_is_not_opened() {
        assert_eq!(told(resolve("1:2", false, &Hostile)), "1:2 [] -");
        for user in ["", "1", "app", "1:audio"] {
            assert_eq!(resolve(user, false, &Hostile).unwrap_err().kind(), Kind::Invalid, "{user:?}");
        }
    }

    #[test]
    fn one_line_without_an_end_is_a_line() {
        let passwd = "app:".to_owned() + &"x:".repeat(500_000);
        let files = Texts(Some(passwd.leak()), None);
        assert_eq!(
            told(resolve("app", true, &files)),
            "Invalid: user \"app\": /etc/passwd: \"x\" is not an ID"
        );
    }

    #[test]
    fn more_groups_than_the_kernel_takes_are_an_error() {
        let group: String = (0..70_000).map(|gid| format!("g:x:{gid}:a\n")).collect();
        let files = Texts(Some("a:x:1:1::/:"), Some(group.leak()));
        assert!(
            told(resolve("a", true, &files)).starts_with("Invalid: user \"a\": /etc/group: in 70000 groups")
        );
    }
}

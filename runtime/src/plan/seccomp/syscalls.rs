//! System call numbers, one table per architecture.

pub mod aarch64;
pub mod arm;
pub mod x32;
pub mod x86;
pub mod x86_64;

#[cfg(test)]
mod tests {
    use super::*;

    fn number(table: Table, name: &str) -> Option<u32> {
        table.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
    }

    type Table = &'static [(&'static str, u32)];

    const TABLES: [Table; 5] = [aarch64::TABLE, arm::TABLE, x32::TABLE, x86::TABLE, x86_64::TABLE];

    #[test]
    fn tables_are_sorted_by_name() {
        for table in TABLES {
            assert!(table.is_sorted_by(|a, b| a.0 < b.0));
        }
    }

    /// The constants of the libc crate come from elsewhere: two sources that agree.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn native_numbers_are_libc_s() {
        let known = [
            ("read", libc::SYS_read),
            ("clone3", libc::SYS_clone3),
            ("seccomp", libc::SYS_seccomp),
            ("newfstatat", libc::SYS_newfstatat),
            ("futex_waitv", libc::SYS_futex_waitv),
        ];
        for (name, expect) in known {
            assert_eq!(number(x86_64::TABLE, name).map(i64::from), Some(expect), "{name}");
        }
    }

    #[test]
    fn some_numbers_of_each_architecture() {
        let known: [(Table, &str, Option<u32>); 11] = [
            (x86::TABLE, "socketcall", Some(102)),
            (x86::TABLE, "clock_gettime64", Some(403)),
            (x86_64::TABLE, "socketcall", None),
            (x86_64::TABLE, "openat2", Some(437)),
            (x32::TABLE, "read", Some(0x4000_0000)),
            (x32::TABLE, "rt_sigaction", Some(0x4000_0200)),
            (aarch64::TABLE, "open", None),
            (aarch64::TABLE, "openat", Some(56)),
            (arm::TABLE, "set_tls", Some(0xf_0005)),
            (arm::TABLE, "arm_fadvise64_64", Some(270)),
            (arm::TABLE, "send", Some(289)),
        ];
        for (table, name, expect) in known {
            assert_eq!(number(table, name), expect, "{name}");
        }
    }
}

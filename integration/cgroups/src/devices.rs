//! Random lists of device rules, each given to a container of every runtime, in which a program makes and opens real nodes:
//! the verdicts of the kernel have to be the same. The lists are of the same kind as in the unit test that compares pintle's
//! programs with a model (runtime/src/plan/cgroup/devices.rs), with the numbers of devices that there are.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};
use pintle_tests::{Value, json};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use serde::{Deserialize, Serialize};

use crate::place::Place;
use crate::probe;
use crate::runtimes::{Driver, Runtime};

/// What all lists came to.
#[derive(Debug, Serialize, Deserialize)]
pub struct Verdicts {
    pub versions: Vec<String>,
    pub driver: Driver,
    pub seed: u64,
    pub lists: usize,
    /// Verdicts on one access to one device, of lists that were accepted.
    pub verdicts: usize,
    /// Those of them that deny.
    pub denied: usize,
    /// Lists that all runtimes refuse, in the same words.
    pub refused: usize,
    /// Verdicts in which runc lets an open for reading and writing through although one of both is denied: its program only
    /// looks for rules that deny all of what is asked. cgroup v1, and pintle, deny it.
    pub both: usize,
    /// A sentence for each list that the runtimes disagree about otherwise.
    pub differences: Vec<String>,
}

/// Asks all runtimes.
pub fn measure(
    place: &Place,
    runtimes: &[Runtime],
    driver: Driver,
    seed: u64,
    count: usize,
) -> Result<Verdicts> {
    make_nodes(place)?;
    let versions = runtimes.iter().map(Runtime::version).collect::<Result<_>>()?;
    // Small seeds would begin with small numbers.
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut all = Verdicts {
        versions,
        driver,
        seed,
        lists: count,
        verdicts: 0,
        denied: 0,
        refused: 0,
        both: 0,
        differences: Vec::new(),
    };
    for number in 0..count {
        let list = random.list();
        let mut answers = BTreeMap::new();
        for runtime in runtimes {
            let mut answer = ask(place, runtime, driver, &list)?;
            if runtime.name == "runc" {
                all.both += answer.deny_halves();
            }
            answers.insert(runtime.name.clone(), answer);
        }
        all.add(number, &list, &answers);
    }
    println!(
        "{}, seed {seed}: {count} lists, {} refused by all; {} verdicts of the others, {} of them deny; {} \
         for reading and writing at once, which runc lets through; {} lists differ otherwise",
        driver.name(),
        all.refused,
        all.verdicts,
        all.denied,
        all.both,
        all.differences.len()
    );
    Ok(all)
}

impl Verdicts {
    fn add(&mut self, number: usize, list: &Value, answers: &BTreeMap<String, Answer>) {
        let Some(first) = answers.values().next() else { return };
        if answers.values().any(|answer| answer != first) {
            let said: Vec<String> =
                answers.iter().map(|(name, answer)| format!("{name}: {answer:?}")).collect();
            let difference = format!("list {number}: {list}: {}", said.join("; "));
            println!("DIFFERS {difference}");
            self.differences.push(difference);
        }
        match first {
            Answer::Refused(_) => self.refused += 1,
            Answer::Probed(words) => {
                let allowed: usize =
                    words.iter().filter_map(|word| Some(word.split_once('=')?.1.len())).sum();
                let asked = 4 * probe::DEVICES.len();
                self.verdicts += asked;
                self.denied += asked - allowed;
            }
        }
    }
}

/// What one runtime made of one list.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// The container ran, and its program said this.
    Probed(Vec<String>),
    /// It did not; the part of the error that both runtimes have to say.
    Refused(String),
}

impl Answer {
    /// Denies what is allowed for reading and writing at once, but not for each; how often.
    fn deny_halves(&mut self) -> usize {
        let Answer::Probed(words) = self else { return 0 };
        let mut halves = 0;
        for word in words {
            let letters = word.split_once('=').map_or("", |(_, letters)| letters);
            if letters.contains('b') && !(letters.contains('r') && letters.contains('w')) {
                word.pop();
                halves += 1;
            }
        }
        halves
    }
}

fn ask(place: &Place, runtime: &Runtime, driver: Driver, list: &Value) -> Result<Answer> {
    let mut bundle = place.bundle(&["/program", "probe"], &json!({"devices": list}))?;
    for set in ["bounding", "effective", "permitted"] {
        bundle.push(&format!("/process/capabilities/{set}"), json!("CAP_MKNOD"));
    }
    let id = format!("{}-{}", runtime.name, place.next());
    bundle.set("/linux/cgroupsPath", json!(driver.cgroups_path(&id))).write();
    let dir = bundle.dir.to_string_lossy();
    let ended = runtime.call(place, driver, &["run", "--bundle", &dir, &id])?;
    if !ended.status.success() {
        runtime.call(place, driver, &["delete", "--force", &id])?;
    }
    fs::remove_dir_all(&bundle.dir).context("remove the bundle")?;
    if !ended.status.success() {
        return Ok(Answer::Refused(reason(&ended.error)));
    }
    let said = fs::read_to_string(place.path("out")).context("read what the probe said")?;
    Ok(Answer::Probed(said.split_whitespace().map(str::to_owned).collect()))
}

/// What is refused, in the words that both runtimes have; the rule itself is written differently.
fn reason(error: &str) -> String {
    let known = ["unable to remove '", "invalid cgroup device", "device access at", "unknown device access"];
    let at = known.iter().find_map(|words| error.find(words));
    let words = error.get(at.unwrap_or_default()..).unwrap_or_default();
    words.split(" [").next().unwrap_or_default().trim().to_owned()
}

/// The nodes that the probe opens.
fn make_nodes(place: &Place) -> Result<()> {
    for (kind, major, minor) in probe::DEVICES {
        let node = place.rootfs().join(probe::node(kind, major, minor).strip_prefix("/")?);
        let file_type = if kind == 'c' { FileType::CharacterDevice } else { FileType::BlockDevice };
        mknodat(CWD, &node, file_type, Mode::from_raw_mode(0o666), makedev(major, minor))
            .with_context(|| format!("make {}", node.display()))?;
    }
    Ok(())
}

/// xorshift: the same lists for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    fn list(&mut self) -> Value {
        let kinds = if self.below(3) == 0 { vec!["a", "b", "c"] } else { vec!["b", "c"] };
        let rules = (0..self.below(9)).map(|n| {
            // Most lists begin with a rule for all.
            let kind = if n == 0 && self.below(3) > 0 { "a" } else { self.pick(&kinds) };
            // Mostly a device that is asked for, or a wildcard over it.
            let (_, major, minor) = self.pick(&probe::DEVICES);
            let (major, minor) = (Some(i64::from(major)), Some(i64::from(minor)));
            let odd = Some(4_294_967_295);
            json!({
                "allow": self.below(2) == 0,
                "type": kind,
                "major": self.pick(&[major, major, major, major, None, Some(-1), Some(0), odd]),
                "minor": self.pick(&[minor, minor, minor, minor, None, Some(-1), Some(0), odd]),
                "access": self.pick(&["r", "w", "m", "rw", "rm", "wm", "rwm", "mrw", "rr"]),
            })
        });
        rules.collect()
    }
}

/// Whether all runtimes agree.
pub fn judge(verdicts: &Verdicts) -> bool {
    verdicts.differences.is_empty()
}

//! What applying layers means (image-spec layer.md, "Applying Changesets"), said as simply as it can be: a map from paths to entries,
//! which the whiteouts of a layer empty first and its members fill then. No file system, no order of archives.

use std::collections::BTreeMap;

use crate::layer::Member;
use crate::layout::sha256;
use crate::tree::{Entry, Tree};

/// A tree, and which names share a file.
pub struct Model {
    nodes: BTreeMap<String, Node>,
    files: usize,
    /// Why there is no such tree.
    wrong: Option<String>,
}

#[derive(Clone)]
struct Node {
    entry: Entry,
    file: usize,
}

/// The tree of these layers.
pub fn model(layers: &[Vec<Member>]) -> Tree {
    try_model(layers).expect("the layers fit each other")
}

/// An error where a member lies in what is no directory.
pub fn try_model(layers: &[Vec<Member>]) -> Result<Tree, String> {
    let mut model = Model { nodes: BTreeMap::new(), files: 0, wrong: None };
    model.put(".", implied());
    layers.iter().for_each(|layer| model.apply(layer));
    match model.wrong.take() {
        Some(wrong) => Err(wrong),
        None => Ok(model.finish()),
    }
}

/// A directory that no member tells of.
fn implied() -> Entry {
    entry("directory", &Member { mode: 0o755, mtime: (0, 0), ..crate::layer::dir("") })
}

fn entry(kind: &str, member: &Member) -> Entry {
    let mut entry = Entry::from([
        ("type".to_owned(), kind.to_owned()),
        ("uid".to_owned(), member.uid.to_string()),
        ("gid".to_owned(), member.gid.to_string()),
        ("mtime".to_owned(), format!("{}.{:09}", member.mtime.0, member.mtime.1)),
        ("mode".to_owned(), format!("{:04o}", member.mode)),
    ]);
    for (name, value) in &member.xattrs {
        let hex: String = value.iter().map(|b| format!("{b:02x}")).collect();
        entry.insert(format!("xattr:{name}"), hex);
    }
    entry
}

fn of_member(member: &Member) -> Entry {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("the model is for plain names");
    let rdev = format!("{}:{}", member.device.0, member.device.1);
    let (kind, more) = match member.kind {
        b'5' => ("directory", vec![]),
        b'2' => ("symlink", vec![("target", text(&member.link))]),
        b'6' => ("fifo", vec![]),
        b'3' => ("character-device", vec![("rdev", rdev)]),
        b'4' => ("block-device", vec![("rdev", rdev)]),
        _ => ("file", vec![("size", member.data.len().to_string()), ("sha256", sha256(&member.data))]),
    };
    let mut entry = entry(kind, member);
    if kind == "symlink" {
        entry.remove("mode");
    }
    entry.extend(more.into_iter().map(|(key, value)| (key.to_owned(), value)));
    entry
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or((".", path))
}

fn join(parent: &str, name: &str) -> String {
    if parent == "." { name.to_owned() } else { format!("{parent}/{name}") }
}

impl Model {
    fn put(&mut self, path: &str, entry: Entry) {
        self.files += 1;
        self.nodes.insert(path.to_owned(), Node { entry, file: self.files });
    }

    fn kind(&self, path: &str) -> Option<&str> {
        self.nodes.get(path).map(|node| node.entry["type"].as_str())
    }

    fn remove(&mut self, path: &str) {
        let below = format!("{path}/");
        self.nodes.retain(|had, _| had != path && !had.starts_with(&below));
    }

    fn apply(&mut self, layer: &[Member]) {
        let path =
            |m: &Member| String::from_utf8(m.path.clone()).expect("plain").trim_matches('/').to_owned();
        let members = layer.iter().map(|m| (path(m), m));
        let (marks, members): (Vec<_>, Vec<_>) =
            members.partition(|(path, _)| split(path).1.starts_with(".wh."));
        for (path, _) in marks {
            let (parent, mark) = split(&path);
            // Links are not followed to what a whiteout hides.
            if self.kind(parent) != Some("directory") {
                continue;
            }
            match mark {
                ".wh..wh..opq" => self.remove_below(parent),
                mark if mark.starts_with(".wh..wh.") => {}
                mark => self.remove(&join(parent, &mark[4..])),
            }
        }
        let (links, members): (Vec<_>, Vec<_>) = members.into_iter().partition(|(_, m)| m.kind == b'1');
        // A link may stand before its target.
        for (path, member) in members.into_iter().chain(links) {
            self.member(&path, member);
        }
    }

    fn remove_below(&mut self, path: &str) {
        let below = if path == "." { String::new() } else { format!("{path}/") };
        self.nodes.retain(|had, _| had == "." || had == path || !had.starts_with(&below));
    }

    fn member(&mut self, path: &str, member: &Member) {
        if path == "." || path.is_empty() {
            return self.put(".", of_member(member));
        }
        let (parent, name) = split(path);
        let at = join(&self.parent(parent), name);
        if member.kind == b'1' {
            let target = String::from_utf8(member.link.clone()).expect("plain");
            let (parent, name) = split(&target);
            let target = join(&self.parent(parent), name);
            let node = self.nodes[&target].clone();
            self.remove(&at);
            self.nodes.insert(at, node);
            return;
        }
        if !(member.kind == b'5' && self.kind(&at) == Some("directory")) {
            self.remove(&at);
        }
        self.put(&at, of_member(member));
    }

    /// The directory of this name, links followed, made where it is missing.
    fn parent(&mut self, path: &str) -> String {
        let mut here = ".".to_owned();
        let mut linked = false;
        let mut left: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        while let Some(part) = left.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    here = split(&here).0.to_owned();
                    continue;
                }
                _ => {}
            }
            let next = join(&here, &part);
            match self.kind(&next) {
                Some("symlink") => {
                    let target = self.nodes[&next].entry["target"].clone();
                    linked = true;
                    here = if target.starts_with('/') { ".".to_owned() } else { here };
                    left.extend(target.split('/').rev().map(str::to_owned));
                    continue;
                }
                Some("directory") => {}
                None if linked => {
                    self.wrong = Some(format!("{path} leads through a link to {next}, which is not there"))
                }
                None => self.put(&next, implied()),
                Some(other) => self.wrong = Some(format!("{path} leads through {next}, a {other}")),
            }
            here = next;
        }
        here
    }

    fn finish(self) -> Tree {
        let mut names: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for (path, node) in &self.nodes {
            names.entry(node.file).or_default().push(path.clone());
        }
        let mut tree: Tree = self.nodes.into_iter().map(|(path, node)| (path, node.entry)).collect();
        for names in names.into_values().filter(|names| names.len() > 1) {
            for name in &names {
                tree.entry(name.clone()).or_default().insert("links".into(), names[0].clone());
            }
        }
        tree
    }
}

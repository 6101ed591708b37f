//! `list`.

use super::flags::{Arguments, Flag, Kind};
use super::table::columns;
use super::{Count, Verb, output};
use crate::error::{Context as _, Error, Result};
use crate::log;
use crate::ops::list::Item;
use crate::ops::{self, Context};
use serde::Serialize;

pub(super) const VERB: Verb = Verb {
    usage: "",
    description: "\
Lists the containers under the global option \"--root\" (default: \"/run/pintle\").

EXAMPLE:
To list the containers under another root:

       # {program} --root value list",
    flags: &[FORMAT, Flag::new("quiet", Kind::Switch, "print only the ids of the containers").short('q')],
    count: Count::Exactly(0),
    ..Verb::new("list", "list the containers under the given root", run)
};

pub(super) const FORMAT: Flag =
    Flag::new("format", Kind::Text, "one of: table or json").short('f').default("\"table\"");

fn run(context: &Context, arguments: &Arguments) -> Result<u8> {
    let (items, warnings) = ops::list::list(context)?;
    warnings.iter().for_each(log::notice);
    let text = if arguments.switch("quiet") {
        items.iter().map(|item| format!("{}\n", item.id)).collect()
    } else {
        match format(arguments)? {
            Format::Table => table(&items),
            Format::Json => json(&items)?,
        }
    };
    output::print(&text)?;
    Ok(0)
}

/// How `list` and `ps` print.
pub(super) enum Format {
    Table,
    Json,
}

/// What `--format` asks for.
pub(super) fn format(arguments: &Arguments) -> Result<Format> {
    match arguments.text("format").as_deref() {
        None | Some("table") => Ok(Format::Table),
        Some("json") => Ok(Format::Json),
        Some(_) => Err(Error::new("invalid format option")),
    }
}

/// One line of JSON; like Go's, `null` for no elements.
pub(super) fn json<T: Serialize>(elements: &[T]) -> Result<String> {
    let elements = Some(elements).filter(|elements| !elements.is_empty());
    let line = serde_json::to_string(&elements).map_err(std::io::Error::from).context("json")?;
    Ok(line + "\n")
}

fn table(items: &[Item]) -> String {
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
    rows.extend(
        items
            .iter()
            .cloned()
            .map(|item| [item.id, item.pid.to_string(), item.status, item.bundle, item.created, item.owner]),
    );
    columns(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item() -> Item {
        Item {
            oci_version: "1.3.0".into(),
            id: "c1".into(),
            pid: 42,
            status: "running".into(),
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            created: "2026-08-19T10:00:00.5Z".into(),
            annotations: Default::default(),
            owner: "root".into(),
        }
    }

    #[test]
    fn the_table_is_runcs() {
        let header = "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n";
        assert_eq!(table(&[]), header);
        let expect = concat!(
            "ID          PID         STATUS      BUNDLE      CREATED                  OWNER\n",
            "c1          42          running     /b          2026-08-19T10:00:00.5Z   root\n",
        );
        assert_eq!(table(&[item()]), expect);
    }

    #[test]
    fn the_json_is_one_line_in_runcs_order() {
        assert_eq!(json::<Item>(&[]).unwrap(), "null\n");
        let expect = concat!(
            r#"[{"ociVersion":"1.3.0","id":"c1","pid":42,"status":"running","bundle":"/b","rootfs":"/b/rootfs","#,
            r#""created":"2026-08-19T10:00:00.5Z","owner":"root"}]"#,
            "\n"
        );
        assert_eq!(json(&[item()]).unwrap(), expect);
    }
}

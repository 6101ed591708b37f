//! `plan`: what `create` would do for a bundle, as text for people: nothing of it is done.

use super::{Context, create};
use crate::error::Result;
use crate::plan::Plan;
use std::fmt::Write as _;
use std::path::Path;

/// The cgroup, the namespaces, and the steps of init in their order, numbered as errors number them.
///
/// # Errors
/// What `create` would refuse before it makes anything.
pub fn print(context: &Context, bundle: &Path) -> Result<String> {
    let options =
        create::Options { id: "ID".into(), bundle: bundle.to_owned(), ..create::Options::default() };
    let decision = create::decide(context, &options, create::Purpose::Create)?;
    Ok(text(&decision.plan))
}

fn text(plan: &Plan) -> String {
    let mut text = String::new();
    // Writing to a String can't fail.
    let mut line = |words: std::fmt::Arguments<'_>| {
        let _infallible = writeln!(text, "{words}");
    };
    line(format_args!("cgroup      {}", plan.cgroup.path.display()));
    if let Some(unit) = &plan.cgroup.unit {
        line(format_args!("unit        {}", unit.name));
        for property in &unit.properties {
            line(format_args!("  {}={}", property.name, property.value));
        }
    }
    for write in &plan.cgroup.limits.writes {
        line(format_args!("  {write:?}"));
    }
    if let Some(group) = &plan.saved.rdt {
        line(format_args!("resctrl     {}", group.directory.display()));
        group.schemata.iter().for_each(|schema| line(format_args!("  {schema}")));
    }
    line(format_args!("clone3      namespaces {:#x}", plan.birth.namespaces));
    if let Some(maps) = &plan.birth.id_maps {
        line(format_args!("uid map     {}", maps.uids.trim_end().replace('\n', ", ")));
        line(format_args!("gid map     {}", maps.gids.trim_end().replace('\n', ", ")));
    }
    plan.birth.steps.each(|index, step| line(format_args!("{index:3}  {step:?}")));
    plan.warnings.iter().for_each(|warning| line(format_args!("warning     {warning}")));
    text
}

//! The command line's entry.

use pintle_image::*;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let common = ops::Common {
        root: a[1].clone().into(),
        platform: platform::Platform::here(),
        jobs: 2,
        limit: None,
        squash: false,
        progress: progress::Progress::new(progress::Form::Auto),
    };
    if let Err(e) =
        ops::unpack::unpack(&common, &location::Location::parse(&a[2]), a[3].as_ref(), a.len() > 4)
    {
        eprintln!("{e}");
        std::process::exit(e.kind() as i32)
    }
}

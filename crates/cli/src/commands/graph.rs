//! `tenon graph`: a composition as a picture.

use tenon_compose::drawing::{Drawing, to_json, to_svg, to_text};
use tenon_model::{Authorities, format_bytes};

use crate::args::GraphArgs;
use crate::error::CommandError;
use crate::project::{self, COMPONENT_BYTES_MAX, Project, is_manifest, read};
use crate::terminal::Terminal;

pub(crate) fn run(args: &GraphArgs, terminal: &Terminal) -> Result<(), CommandError> {
    let file = args.target.display().to_string();
    let drawing = if is_manifest(&args.target) {
        let project = Project::open_with(&args.target, &args.dependencies.files)?;
        let composed = project.compose(&[])?;
        let inspection = tenon_wit::inspect(&file, &composed.bytes)?;
        Drawing::of(&project.name(), &inspection, &project.manifest.authorities)
    } else {
        let bytes = read(&args.target, COMPONENT_BYTES_MAX)?;
        let name =
            args.target.file_stem().map_or_else(|| "app".into(), |name| name.to_string_lossy().into_owned());
        Drawing::of(&name, &tenon_wit::inspect(&file, &bytes)?, &Authorities::default())
    };
    let Some(svg) = &args.svg else {
        terminal.result(to_text(&drawing).trim_end(), || to_json(&drawing));
        return Ok(());
    };
    let document = to_svg(&drawing);
    project::write(svg, document.as_bytes())?;
    terminal.result(format_args!("{}: {}", svg.display(), format_bytes(document.len() as u64)), || {
        let mut value = to_json(&drawing);
        value["svg"] = svg.display().to_string().into();
        value
    });
    Ok(())
}

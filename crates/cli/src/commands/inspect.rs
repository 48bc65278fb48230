//! `tenon inspect`: what is in a component.

use serde_json::json;

use crate::args::InspectArgs;
use crate::error::CommandError;
use crate::project::{COMPONENT_BYTES_MAX, read};
use crate::terminal::Terminal;

pub(crate) fn run(args: &InspectArgs, terminal: &Terminal) -> Result<(), CommandError> {
    let file = args.file.display().to_string();
    let bytes = read(&args.file, COMPONENT_BYTES_MAX)?;
    if args.wit {
        let wit = tenon_wit::print_wit(&file, &bytes)?;
        terminal.result(wit.trim_end(), || json!({ "file": file, "wit": wit }));
    } else {
        let inspection = tenon_wit::inspect(&file, &bytes)?;
        terminal
            .result(tenon_wit::render_text(&inspection).trim_end(), || tenon_wit::render_json(&inspection));
    }
    Ok(())
}

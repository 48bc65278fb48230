//! Which imports of a component get a name of its own in the attributed form.

use std::collections::BTreeMap;

use tenon_model::{Authority, InterfaceName, OutsideLimits, PartImport};

/// The imports of the part `part` that are imported under its own name, and that name.
///
/// Those are the ones that a grant of the part stands behind, and the streams of its output when it may write more
/// or less than the others. All else keeps its name, so that its resources may still go from part to part:
/// streams, pollables, HTTP requests, descriptors.
pub(crate) fn own_names<'i>(
    part: &str,
    authority: &Authority,
    request: &OutsideLimits,
    open_imports: impl Iterator<Item = &'i str>,
) -> BTreeMap<String, String> {
    let own_log = authority.outside.log_bytes != request.log_bytes;
    open_imports
        .filter_map(|import| {
            let interface = InterfaceName::parse(import)?;
            let is_output = matches!(interface.unversioned().as_str(), "wasi:cli/stdout" | "wasi:cli/stderr");
            let is_own = authority.grants.behind(import).is_some() || own_log && is_output;
            is_own.then(|| {
                let own = PartImport { part: part.to_owned(), interface };
                (import.to_owned(), own.to_string())
            })
        })
        .collect()
}

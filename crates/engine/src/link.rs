//! Which imports a component gets: the inert ones, and what it, or the part of it that asks, was granted.
//!
//! Each service has a linker of its own with exactly that, so a component that imports more cannot be instantiated
//! whatever the checks before it say.

use std::collections::BTreeMap;
use std::sync::Arc;

use tenon_model::{
    Authorities, Capability, Diagnostic, Diagnostics, InterfaceName, Limits, Location, PartImport, Standing,
    standing,
};
use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre, Linker};

use crate::capability::{self, Backends, Import, PRINCIPALS_MAX, Principals};
use crate::engine::Guard;
use crate::host::Host;

/// The inert interfaces of WASI 0.2, in the newest version: the engine gives it to imports of older ones too.
const INERT_WASI02: [&str; 21] = [
    "wasi:cli/environment@0.2.12",
    "wasi:cli/exit@0.2.12",
    "wasi:cli/stderr@0.2.12",
    "wasi:cli/stdin@0.2.12",
    "wasi:cli/stdout@0.2.12",
    "wasi:cli/terminal-input@0.2.12",
    "wasi:cli/terminal-output@0.2.12",
    "wasi:cli/terminal-stderr@0.2.12",
    "wasi:cli/terminal-stdin@0.2.12",
    "wasi:cli/terminal-stdout@0.2.12",
    "wasi:clocks/monotonic-clock@0.2.12",
    "wasi:clocks/wall-clock@0.2.12",
    "wasi:filesystem/preopens@0.2.12",
    "wasi:filesystem/types@0.2.12",
    "wasi:http/types@0.2.12",
    "wasi:io/error@0.2.12",
    "wasi:io/poll@0.2.12",
    "wasi:io/streams@0.2.12",
    "wasi:random/insecure@0.2.12",
    "wasi:random/insecure-seed@0.2.12",
    "wasi:random/random@0.2.12",
];

/// The inert interfaces of WASI 0.3.
const INERT_WASI03: [&str; 19] = [
    "wasi:cli/environment@0.3.0",
    "wasi:cli/exit@0.3.0",
    "wasi:cli/stderr@0.3.0",
    "wasi:cli/stdin@0.3.0",
    "wasi:cli/stdout@0.3.0",
    "wasi:cli/terminal-input@0.3.0",
    "wasi:cli/terminal-output@0.3.0",
    "wasi:cli/terminal-stderr@0.3.0",
    "wasi:cli/terminal-stdin@0.3.0",
    "wasi:cli/terminal-stdout@0.3.0",
    "wasi:clocks/monotonic-clock@0.3.0",
    "wasi:clocks/system-clock@0.3.0",
    "wasi:clocks/types@0.3.0",
    "wasi:filesystem/preopens@0.3.0",
    "wasi:filesystem/types@0.3.0",
    "wasi:http/types@0.3.0",
    "wasi:random/insecure@0.3.0",
    "wasi:random/insecure-seed@0.3.0",
    "wasi:random/random@0.3.0",
];

/// What everybody gets.
pub(crate) fn add_inert(linker: &mut Linker<Host>, wasi03: bool) -> wasmtime::Result<()> {
    let wasi03 = wasi03.then_some(INERT_WASI03).into_iter().flatten();
    for name in INERT_WASI02.into_iter().chain(wasi03) {
        let interface = InterfaceName::parse(name)
            .ok_or_else(|| wasmtime::Error::msg(format!("`{name}` is not the name of an interface")))?;
        if !capability::add(linker, &Import { name, interface, principal: 0 })? {
            return Err(wasmtime::Error::msg(format!("`{name}` is inert, and there is no such interface")));
        }
    }
    Ok(())
}

/// The terms on which a component runs: who it is, what it may touch and what it may use up.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// What people call it.
    pub name: &'a str,
    /// Where they find it.
    pub file: &'a str,
    /// What a request, or a call, may use up.
    pub limits: Limits,
    /// Who may do what.
    pub authorities: &'a Authorities,
    /// What capabilities are made of.
    pub backends: &'a Backends,
}

/// Checks every import against the grants of whom it acts for, then links.
///
/// # Errors
/// All imports that are refused, in one run.
pub(crate) fn link(
    inert: &Linker<Host>,
    component: &Component,
    terms: &Terms<'_>,
    guard: Guard,
) -> Result<(InstancePre<Host>, Arc<Principals>), Diagnostics> {
    let Terms { name, file, authorities, limits, backends } = *terms;
    let engine = inert.engine();
    let mut linker = Offered { inert, more: None };
    let mut principals = Principals::new(name, &authorities.whole, &limits, backends);
    let mut refused = Vec::new();
    let mut ungranted: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for (import, item) in component.component_type().imports(engine) {
        let resolved = match PartImport::parse(import) {
            Some(PartImport { part, interface }) => match principals.index(&part, authorities) {
                Some(principal) => Some(Import { name: import, interface, principal }),
                None => {
                    refused.push(too_many_parts(name));
                    continue;
                }
            },
            None => {
                InterfaceName::parse(import).map(|interface| Import { name: import, interface, principal: 0 })
            }
        };
        let stands = resolved.as_ref().map_or(Standing::Foreign, |it| standing(&it.interface.to_string()));
        match (stands, resolved) {
            // The inert linker has it.
            (Standing::Inert, Some(Import { principal: 0, .. })) => {}
            (Standing::Inert, Some(import)) => refused.extend(add(linker.more(), name, &import).err()),
            (Standing::Grantable(capability), Some(import))
                if !guard.grants || principals.grants(import.principal).has(capability) =>
            {
                refused.extend(add(linker.more(), name, &import).err());
            }
            (Standing::Grantable(capability), Some(import)) => {
                let of_one = ungranted.entry((import.principal, capability)).or_default();
                of_one.push(import.interface.to_string());
            }
            (Standing::Withheld, Some(Import { interface, .. })) => {
                refused.push(
                    Diagnostic::new("import-not-offered", format!("`{name}` imports `{interface}`, which this host does not offer"))
                        .mend(format!("build the component without `{interface}`, or compose it with one that exports it")),
                );
            }
            (Standing::Foreign, _) if is_types_only(engine, &item.ty) => {}
            (Standing::Foreign, _) if backends.functions.offers(import) => {
                refused.extend(backends.functions.add(linker.more(), import).err().map(|error| {
                    Diagnostic::new(
                        "import-mismatch",
                        format!("`{import}`, which the embedding program offers, cannot be linked"),
                    )
                    .note("the engine says", format!("{error:#}"))
                }));
            }
            (_, _) => refused.push(
                Diagnostic::new("unsatisfied-import", format!("`{name}` imports `{import}`, and nothing supplies it")).mend(format!(
                    "compose it with a component that exports `{import}`:\n\n[component.NAME.imports]\n\"{}\" = {{ component = \"PROVIDER\" }}",
                    import.split('@').next().unwrap_or(import),
                )),
            ),
        }
    }
    for ((principal, capability), interfaces) in ungranted {
        refused.push(not_granted(name, principals.part(principal), capability, &interfaces));
    }
    Diagnostics::check(refused.into_iter().map(|it| it.at(Location::file(file))).collect())?;
    let instance = linker.all().instantiate_pre(component).map_err(|error| {
        Diagnostic::new("import-mismatch", format!("`{name}` does not fit the host's interfaces"))
            .at(Location::file(file))
            .note("the engine says", format!("{error:#}"))
            .note("offered", "WASI 0.2 up to 0.2.12 and WASI 0.3.0; release-candidate snapshots are not")
            .mend("rebuild the component with bindings for one of the offered versions")
    })?;
    Ok((instance, Arc::new(principals)))
}

/// What a component is offered: what everybody gets, and what it gets beside that.
struct Offered<'a> {
    inert: &'a Linker<Host>,
    /// A copy of the above that has more. Only where there is more: copying takes longer than the rest of linking.
    more: Option<Linker<Host>>,
}

impl Offered<'_> {
    /// Where more can be added.
    fn more(&mut self) -> &mut Linker<Host> {
        self.more.get_or_insert_with(|| self.inert.clone())
    }

    fn all(&self) -> &Linker<Host> {
        self.more.as_ref().unwrap_or(self.inert)
    }
}

/// Adds an import that may be had.
fn add(linker: &mut Linker<Host>, name: &str, import: &Import<'_>) -> Result<(), Diagnostic> {
    let interface = &import.interface;
    match capability::add(linker, import) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Diagnostic::new(
            "import-not-offered",
            format!("`{name}` imports `{interface}`, which this host does not offer"),
        )
        .note("offered", "WASI 0.2 up to 0.2.12 and WASI 0.3.0; release-candidate snapshots are not")
        .mend("rebuild the component with bindings for one of the offered versions")),
        Err(error) => {
            Err(Diagnostic::new("import-mismatch", format!("`{name}` does not fit the host's interfaces"))
                .note("the engine says", format!("{error:#}")))
        }
    }
}

/// All interfaces of one package that one principal lacks: one grant opens them all.
fn not_granted(name: &str, part: Option<&str>, capability: Capability, interfaces: &[String]) -> Diagnostic {
    let what = match interfaces {
        [only] => format!("`{only}`"),
        several => format!("{} interfaces of `{capability}`", several.len()),
    };
    let who = part.unwrap_or(name);
    let refused =
        Diagnostic::new("import-not-granted", format!("`{who}` imports {what}, which it was not granted"));
    let refused =
        if interfaces.len() > 1 { refused.note("imported", interfaces.join("\n")) } else { refused };
    refused.mend(format!(
        "grant it in the manifest, or build the component without it:\n\n{}",
        capability.lines(part)
    ))
}

fn too_many_parts(name: &str) -> Diagnostic {
    Diagnostic::new("too-many-principals", format!("`{name}` has more parts with grants of their own than a service may have"))
        .note("limit", format!("{} parts", PRINCIPALS_MAX - 1))
        .mend("grant less: a part without grants does not count; or split the composition into services that call each other")
}

/// Whether an import is an interface, or a root-level type, that only gives names to value types: nobody has to
/// supply those.
fn is_types_only(engine: &Engine, item: &ComponentItem) -> bool {
    match item {
        ComponentItem::Type(_) => true,
        ComponentItem::ComponentInstance(instance) => {
            instance.exports(engine).all(|(_, item)| matches!(item.ty, ComponentItem::Type(_)))
        }
        _ => false,
    }
}

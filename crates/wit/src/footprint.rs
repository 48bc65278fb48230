//! What an instance of a component takes up in a sandbox, beside what its memories hold.
//!
//! Everything is counted from the binary, so that it is known before anything is compiled: a sandbox has room for so
//! many memories, tables and core instances, and for so much data about its instances.

use std::collections::BTreeSet;

use tenon_model::{
    Diagnostic, Diagnostics, Digest, INSTANCE_DATA_BYTES_MAX, Limits, Location, MEMORIES_MAX, TABLES_MAX,
    format_bytes,
};
use wasmparser::{
    BinaryReaderError, ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind,
    ComponentTypeRef, ConstExpr, ElementItems, Encoding, ExternalKind, Instance, Operator, Parser, Payload,
    TypeRef,
};

use crate::provenance;

/// What instances take up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Core instances. The engine adds some of its own where components call one another.
    pub core_instances: u32,
    /// Linear memories.
    pub memories: u32,
    /// Tables.
    pub tables: u32,
    /// What the memories begin with, together, in bytes.
    pub memory_bytes: u64,
    /// What the engine keeps of the instances: about so many bytes, most of them for functions that may be called
    /// through a table.
    pub data_bytes: u64,
}

/// What a component takes up, and who of it how much.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// All of it.
    pub whole: Footprint,
    /// The instances of the components within it that have code, in the order they are made, with the names that the
    /// composition gives them.
    pub parts: Vec<(String, Footprint)>,
}

/// What the engine keeps of a function that may be called through a table, or of one that is imported, in bytes.
const FUNCTION_BYTES: u64 = 32;
/// What it keeps of an imported memory, table or global.
const IMPORT_BYTES: u64 = 24;
/// What it keeps of a global, a table or a memory.
const DEFINITION_BYTES: u64 = 16;
/// What it keeps of an instance itself.
const INSTANCE_BYTES: u64 = 512;
/// The size of a page where a memory says nothing: 64 KiB.
const PAGE_SIZE_LOG2: u32 = 16;

impl Footprint {
    fn add(&mut self, other: Self) {
        self.core_instances = self.core_instances.saturating_add(other.core_instances);
        self.memories = self.memories.saturating_add(other.memories);
        self.tables = self.tables.saturating_add(other.tables);
        self.memory_bytes = self.memory_bytes.saturating_add(other.memory_bytes);
        self.data_bytes = self.data_bytes.saturating_add(other.data_bytes);
    }
}

impl std::fmt::Display for Footprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count =
            |count: u32, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
        write!(
            f,
            "{}, {} of {} to begin with, {}, {} of instance data",
            count(self.core_instances, "core instance", "core instances"),
            count(self.memories, "memory", "memories"),
            format_bytes(self.memory_bytes),
            count(self.tables, "table", "tables"),
            about(self.data_bytes)
        )
    }
}

impl Needs {
    /// What the valid component `bytes` takes up. Core modules and components that it imports count as nothing: who
    /// supplies them is not known here.
    pub fn of(bytes: &[u8]) -> Self {
        Count::default().component(bytes).unwrap_or_default()
    }

    /// What of it is more than a sandbox with these limits has room for: one finding for each bound, with the code
    /// `exceeds-limits`, what is needed, what there is, and who needs how much of it.
    pub fn beyond(&self, file: &str, limits: &Limits) -> Vec<Diagnostic> {
        let exceeded = bounds(&self.whole, limits).into_iter().filter(|it| (it.of)(&self.whole) > it.most);
        exceeded
            .map(|bound| {
                let written = |amount: u64| if bound.is_size { about(amount) } else { amount.to_string() };
                let most = if bound.is_size { format_bytes(bound.most) } else { bound.most.to_string() };
                let mut parts: Vec<_> = self
                    .parts
                    .iter()
                    .map(|(name, it)| ((bound.of)(it), name))
                    .filter(|it| it.0 > 0)
                    .collect();
                parts.sort_by(|left, right| right.0.cmp(&left.0).then_with(|| left.1.cmp(right.1)));
                let parts: Vec<_> =
                    parts.into_iter().map(|(amount, name)| format!("{name}: {}", written(amount))).collect();
                let message = format!(
                    "`{file}` does not fit a sandbox: it needs {} {}, and there is room for {most}",
                    written((bound.of)(&self.whole)),
                    bound.what
                );
                let mut diagnostic =
                    Diagnostic::new("exceeds-limits", message).at(Location::file(file)).mend(bound.mend);
                if !parts.is_empty() {
                    diagnostic = diagnostic.note("of which", parts.join("\n"));
                }
                diagnostic
            })
            .collect()
    }

    /// What to say where an engine has refused the component with `refused`: what was counted here, where that explains
    /// it, else the refusal with what there is.
    pub fn explain(&self, file: &str, limits: &Limits, refused: Diagnostic) -> Diagnostics {
        let mut found = self.beyond(file, limits);
        if let Some(first) = found.first_mut() {
            first.notes.extend(refused.notes.iter().cloned());
        }
        Diagnostics::check(found).err().unwrap_or_else(|| {
            let mut text = self.whole.to_string();
            for (name, footprint) in &self.parts {
                text = format!("{text}\n{name}: {footprint}");
            }
            refused.note("it needs", text).into()
        })
    }
}

/// One thing that a sandbox has only so much room for.
struct Bound {
    what: &'static str,
    of: fn(&Footprint) -> u64,
    most: u64,
    is_size: bool,
    mend: String,
}

fn bounds(whole: &Footprint, limits: &Limits) -> [Bound; 5] {
    let apart = "serve some of the components as an app of their own.";
    [
        Bound {
            what: "core instances",
            of: |it| it.core_instances.into(),
            most: limits.instances.into(),
            is_size: false,
            mend: format!(
                "Raise `instances` in [limits], or with `--instances`, to {} (the engine adds some where components \
                 call one another); or link core modules, with `optimize = true` in the manifest; or {apart}",
                // A quarter on top, for those that the engine adds.
                u64::from(whole.core_instances) * 5 / 4 + 1
            ),
        },
        Bound {
            what: "linear memories",
            of: |it| it.memories.into(),
            most: MEMORIES_MAX.into(),
            is_size: false,
            mend: format!(
                "Each component with code has a memory of its own. Build several of one language into one component, or {apart}"
            ),
        },
        Bound {
            what: "tables",
            of: |it| it.tables.into(),
            most: TABLES_MAX.into(),
            is_size: false,
            mend: format!(
                "Link core modules, which takes the tables between them away: `optimize = true` in the manifest; or {apart}"
            ),
        },
        Bound {
            what: "of instance data",
            of: |it| it.data_bytes,
            most: INSTANCE_DATA_BYTES_MAX,
            is_size: true,
            mend: format!(
                "Most of it is for functions that may be called through a table, of which a language runtime has \
                 thousands. Build several components of one language into one, or one of them in a language without a \
                 runtime; or {apart}"
            ),
        },
        Bound {
            what: "of memory to begin with",
            of: |it| it.memory_bytes,
            most: limits.memory_bytes,
            is_size: true,
            mend: format!(
                "Raise `memory` in [limits], or with `--memory`, to {} and what requests need on top; or build with a \
                 smaller stack and fewer static data.",
                format_bytes(whole.memory_bytes.next_multiple_of(1 << 20))
            ),
        },
    ]
}

/// A size that is written in whole units.
fn about(bytes: u64) -> String {
    format!("about {}", format_bytes(bytes.checked_next_multiple_of(1 << 10).unwrap_or(bytes)))
}

/// What is known of a component or core module while it is read.
enum Frame {
    Component(Scope),
    Module(Module),
}

/// The index spaces of a component that count, and what its instances come to so far.
#[derive(Default)]
struct Scope {
    /// What one instance of each core module and component takes up.
    modules: Vec<Footprint>,
    components: Vec<Footprint>,
    total: Footprint,
    /// The components that it instantiates, by index.
    instances: Vec<u32>,
    /// The digests of the components that are defined in it, by index.
    digests: Vec<(u32, Digest)>,
}

#[derive(Default)]
struct Module {
    footprint: Footprint,
    /// Functions that may be called otherwise than directly.
    escaping: BTreeSet<u32>,
}

#[derive(Default)]
struct Count {
    stack: Vec<Frame>,
}

impl Count {
    /// `None` where it ends too early.
    fn component(mut self, bytes: &[u8]) -> Option<Needs> {
        let mut range = 0..bytes.len() as u64;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.ok()? {
                Payload::Version { encoding: Encoding::Module, .. } => {
                    self.stack.push(Frame::Module(Module::default()));
                }
                Payload::Version { encoding: Encoding::Component, .. } => {
                    // Only the parts of the outermost one have names.
                    if let [Frame::Component(outer)] = self.stack.as_mut_slice() {
                        let at = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
                        let within = bytes.get(at(range.start)..at(range.end))?;
                        let index = u32::try_from(outer.components.len()).ok()?;
                        outer.digests.push((index, Digest::of(within)));
                    }
                    self.stack.push(Frame::Component(Scope::default()));
                }
                Payload::ComponentSection { unchecked_range, .. } => range = unchecked_range,
                Payload::End(_) => match (self.stack.pop()?, self.stack.last_mut()) {
                    (Frame::Component(whole), None) => return Some(needs(bytes, &whole)),
                    (Frame::Component(nested), Some(Frame::Component(outer))) => {
                        outer.components.push(nested.total);
                    }
                    (Frame::Module(module), Some(Frame::Component(outer))) => {
                        outer.modules.push(module.finish());
                    }
                    _ => return None,
                },
                payload => self.section(payload).ok()?,
            }
        }
        None
    }

    fn section(&mut self, payload: Payload<'_>) -> Result<(), BinaryReaderError> {
        let Some((frame, outer)) = self.stack.split_last_mut() else { return Ok(()) };
        match frame {
            Frame::Module(module) => module.section(payload),
            Frame::Component(scope) => scope.section(payload, outer),
        }
    }
}

fn needs(bytes: &[u8], whole: &Scope) -> Needs {
    let composition = provenance::read(bytes);
    let mut named: Vec<_> = composition.iter().flat_map(|it| &it.components).collect();
    let mut parts = Vec::new();
    for index in &whole.instances {
        let footprint = entry(&whole.components, *index);
        let digest = whole.digests.iter().find(|(it, _)| it == index).map(|(_, digest)| *digest);
        let at = named.iter().position(|part| Some(part.held) == digest);
        let name = at.map(|at| named.remove(at).name.clone());
        if name.is_some() || footprint != Footprint::default() {
            parts.push((name.unwrap_or_else(|| "(no name)".to_owned()), footprint));
        }
    }
    Needs { whole: whole.total, parts }
}

fn entry(entries: &[Footprint], index: u32) -> Footprint {
    entries.get(index as usize).copied().unwrap_or_default()
}

impl Scope {
    fn section(&mut self, payload: Payload<'_>, outer: &[Frame]) -> Result<(), BinaryReaderError> {
        match payload {
            Payload::InstanceSection(section) => {
                for instance in section {
                    if let Instance::Instantiate { module_index, .. } = instance? {
                        self.total.add(entry(&self.modules, module_index));
                    }
                }
            }
            Payload::ComponentInstanceSection(section) => {
                for instance in section {
                    if let ComponentInstance::Instantiate { component_index, .. } = instance? {
                        self.total.add(entry(&self.components, component_index));
                        self.instances.push(component_index);
                    }
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section {
                    match import?.ty {
                        ComponentTypeRef::Component(_) => self.components.push(Footprint::default()),
                        ComponentTypeRef::Module(_) => self.modules.push(Footprint::default()),
                        _ => {}
                    }
                }
            }
            // An export gives what it exports a further index.
            Payload::ComponentExportSection(section) => {
                for export in section {
                    let export = export?;
                    match export.kind {
                        ComponentExternalKind::Component => {
                            self.components.push(entry(&self.components, export.index));
                        }
                        ComponentExternalKind::Module => {
                            self.modules.push(entry(&self.modules, export.index));
                        }
                        _ => {}
                    }
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section {
                    self.alias(&alias?, outer);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn alias(&mut self, alias: &ComponentAlias<'_>, outer: &[Frame]) {
        match alias {
            ComponentAlias::InstanceExport { kind: ComponentExternalKind::Component, .. } => {
                self.components.push(Footprint::default());
            }
            ComponentAlias::InstanceExport { kind: ComponentExternalKind::Module, .. } => {
                self.modules.push(Footprint::default());
            }
            ComponentAlias::Outer { kind, count, index } => {
                let scope = match (*count as usize).checked_sub(1) {
                    None => Some(&*self),
                    Some(above) => outer.iter().rev().nth(above).and_then(|frame| match frame {
                        Frame::Component(scope) => Some(scope),
                        Frame::Module(_) => None,
                    }),
                };
                match kind {
                    ComponentOuterAliasKind::CoreModule => {
                        let found = scope.map(|scope| entry(&scope.modules, *index));
                        self.modules.push(found.unwrap_or_default());
                    }
                    ComponentOuterAliasKind::Component => {
                        let found = scope.map(|scope| entry(&scope.components, *index));
                        self.components.push(found.unwrap_or_default());
                    }
                    ComponentOuterAliasKind::Type | ComponentOuterAliasKind::CoreType => {}
                }
            }
            _ => {}
        }
    }
}

impl Module {
    fn section(&mut self, payload: Payload<'_>) -> Result<(), BinaryReaderError> {
        let data = &mut self.footprint.data_bytes;
        match payload {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    *data += match import?.ty {
                        TypeRef::Func(_) | TypeRef::FuncExact(_) => FUNCTION_BYTES,
                        _ => IMPORT_BYTES,
                    };
                }
            }
            Payload::MemorySection(section) => {
                *data += DEFINITION_BYTES * u64::from(section.count());
                for memory in section {
                    let memory = memory?;
                    let page_bytes = 1_u64.checked_shl(memory.page_size_log2.unwrap_or(PAGE_SIZE_LOG2));
                    let bytes = memory.initial.saturating_mul(page_bytes.unwrap_or(u64::MAX));
                    self.footprint.memories = self.footprint.memories.saturating_add(1);
                    self.footprint.memory_bytes = self.footprint.memory_bytes.saturating_add(bytes);
                }
            }
            Payload::TableSection(section) => {
                self.footprint.tables = self.footprint.tables.saturating_add(section.count());
                *data += DEFINITION_BYTES * u64::from(section.count());
            }
            Payload::GlobalSection(section) => {
                *data += DEFINITION_BYTES * u64::from(section.count());
                for global in section {
                    self.escape(&global?.init_expr)?;
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    if matches!(export.kind, ExternalKind::Func | ExternalKind::FuncExact) {
                        self.escaping.insert(export.index);
                    }
                }
            }
            Payload::ElementSection(section) => {
                for element in section {
                    match element?.items {
                        ElementItems::Functions(functions) => {
                            for function in functions {
                                self.escaping.insert(function?);
                            }
                        }
                        ElementItems::Expressions(_, expressions) => {
                            for expression in expressions {
                                self.escape(&expression?)?;
                            }
                        }
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn escape(&mut self, expression: &ConstExpr<'_>) -> Result<(), BinaryReaderError> {
        for operator in expression.get_operators_reader() {
            if let Operator::RefFunc { function_index } = operator? {
                self.escaping.insert(function_index);
            }
        }
        Ok(())
    }

    /// What one instance of it takes up.
    fn finish(mut self) -> Footprint {
        self.footprint.core_instances = 1;
        self.footprint.data_bytes += INSTANCE_BYTES + FUNCTION_BYTES * self.escaping.len() as u64;
        self.footprint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = r#"(component
        (core module $a (memory 1) (table 2 funcref) (func $f) (elem (i32.const 0) $f $f))
        (core module $b (import "a" "m" (memory 0)) (func (export "g")))
        (component $inner
          (alias outer 1 0 (core module $a))
          (core instance (instantiate $a))
          (core instance (instantiate $a)))
        (core instance $i (instantiate $a))
        (instance (instantiate $inner))
        (instance (instantiate $inner)))"#;

    #[test]
    fn every_instance_counts_with_all_within() {
        let needs = Needs::of(&wat::parse_str(TWO).unwrap());
        let one = Footprint {
            core_instances: 1,
            memories: 1,
            tables: 1,
            memory_bytes: 1 << 16,
            data_bytes: INSTANCE_BYTES + FUNCTION_BYTES + 2 * DEFINITION_BYTES,
        };
        let times = |count: u32| Footprint {
            core_instances: count,
            memories: count,
            tables: count,
            memory_bytes: one.memory_bytes * u64::from(count),
            data_bytes: one.data_bytes * u64::from(count),
        };
        assert_eq!(needs.whole, times(5), "one of its own, two in each of two");
        let part = ("(no name)".to_owned(), times(2));
        assert_eq!(needs.parts, [part.clone(), part]);
        assert_eq!(
            needs.whole.to_string(),
            "5 core instances, 5 memories of 320KiB to begin with, 5 tables, about 3KiB of instance data"
        );
    }

    #[test]
    fn what_is_cut_short_counts_as_far_as_it_can_be_read() {
        let bytes = wat::parse_str(TWO).unwrap();
        for end in 0..bytes.len() {
            let _ = Needs::of(&bytes[..end]);
        }
    }

    #[test]
    fn a_refusal_is_explained_by_what_was_counted_or_shown_beside_it() {
        let limits = Limits::default();
        let refused = || Diagnostic::new("exceeds-limits", "refused").note("the engine says", "no");
        let few = Footprint { core_instances: 2, memories: 1, ..Footprint::default() };
        let parts = vec![("auth".to_owned(), few)];
        let found = Needs { whole: few, parts: parts.clone() }.explain("a.wasm", &limits, refused());
        let [only] = found.iter().collect::<Vec<_>>()[..] else { panic!("{found}") };
        assert_eq!((only.message.as_str(), only.notes.len()), ("refused", 2));
        assert!(only.notes[1].text.contains("\nauth: 2 core instances, 1 memory"), "{only}");

        let many = Footprint { memories: MEMORIES_MAX + 1, ..few };
        let found = Needs { whole: many, parts }.explain("a.wasm", &limits, refused());
        let first = found.iter().next().unwrap();
        assert!(first.message.contains("linear memories"), "{first}");
        assert!(first.notes.iter().any(|note| note.label == "the engine says"));
    }

    #[test]
    fn a_tower_of_instances_is_counted_without_making_them() {
        let mut text = "(core module $m (memory 1)) (core instance (instantiate $m))".to_owned();
        for _ in 0..60 {
            text = format!("(component $c {text}) (instance (instantiate $c)) (instance (instantiate $c))");
        }
        let needs = Needs::of(&wat::parse_str(format!("(component {text})")).unwrap());
        assert_eq!(needs.whole.memories, u32::MAX);
    }

    #[test]
    fn what_does_not_fit_is_named_with_who_needs_it() {
        let memories =
            |count: u32| Footprint { core_instances: count, memories: count, ..Footprint::default() };
        let needs = Needs {
            whole: memories(MEMORIES_MAX + 4),
            parts: vec![
                ("auth".into(), memories(1)),
                ("none".into(), Footprint::default()),
                ("shop".into(), memories(MEMORIES_MAX + 3)),
            ],
        };
        let limits = Limits::default();
        let found = needs.beyond("shop.wasm", &limits);
        let [only] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(only.code, "exceeds-limits");
        let (needed, most) = (MEMORIES_MAX + 4, MEMORIES_MAX);
        let says = format!("it needs {needed} linear memories, and there is room for {most}");
        assert!(only.message.contains(&says), "{only}");
        assert_eq!(only.notes[0].text, format!("shop: {}\nauth: 1", MEMORIES_MAX + 3));
        assert!(!only.mend.clone().unwrap().contains("--memory"), "more memory mends nothing");

        let few = Limits { instances: 3, ..limits };
        assert_eq!(needs.beyond("shop.wasm", &few).len(), 2, "all at once");
        let data = Footprint { data_bytes: INSTANCE_DATA_BYTES_MAX + 1, ..Footprint::default() };
        let found = Needs { whole: data, parts: Vec::new() }.beyond("a.wasm", &limits);
        assert!(found[0].message.contains("of instance data"), "{}", found[0]);
        let fits = Footprint { data_bytes: INSTANCE_DATA_BYTES_MAX, ..memories(MEMORIES_MAX) };
        assert_eq!(Needs { whole: fits, parts: Vec::new() }.beyond("a.wasm", &limits), []);
        let memory = Footprint { memory_bytes: limits.memory_bytes + 1, ..Footprint::default() };
        let found = Needs { whole: memory, parts: Vec::new() }.beyond("a.wasm", &limits);
        assert!(
            found[0].mend.clone().unwrap().contains("`memory` in [limits], or with `--memory`, to 129MiB")
        );
    }
}

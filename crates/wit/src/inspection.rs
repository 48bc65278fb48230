//! What is inside a component.

use std::collections::BTreeSet;
use std::ops::Range;

use tenon_model::{Diagnostic, Digest};
use wasmparser::{
    ComponentExternalKind, ComponentName, ComponentNameSectionReader, ComponentOuterAliasKind,
    ComponentTypeRef, KnownCustom, Name, NameMap, NameSectionReader, Parser, Payload, ProducersSectionReader,
};

use crate::contract::{Contract, Item, ItemKind};
use crate::footprint::Needs;
use crate::provenance::{self, Provenance};

/// Everything `tenon inspect` shows of a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The file, as the person named it.
    pub file: String,
    /// What the component imports.
    pub imports: Vec<Extern>,
    /// What the component exports.
    pub exports: Vec<Extern>,
    /// The component itself, and everything nested in it.
    pub component: Nested,
    /// How it was composed, when it was.
    pub composition: Option<Provenance>,
    /// Where its bytes go, everything nested included.
    pub sizes: Sizes,
    /// What an instance of it takes up in a sandbox.
    pub needs: Needs,
    /// The languages and tools that made it, everything nested included; sorted, each once.
    pub producers: Vec<Producer>,
}

/// One import or export with the types of all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extern {
    /// The name in the binary.
    pub name: String,
    /// Interface, function or type.
    pub kind: ItemKind,
    /// The declarations of its functions as WIT text.
    pub functions: Vec<String>,
    /// The names of its types.
    pub types: Vec<String>,
}

/// A component: the one that was inspected, or one nested in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nested {
    /// Its name, where one is known: from the composition's provenance, else from a name section.
    pub name: Option<String>,
    /// The digest of its bytes.
    pub digest: Digest,
    /// Where its bytes are in the file.
    pub range: Range<u64>,
    /// The names of its imports.
    pub imports: Vec<String>,
    /// The names of its exports.
    pub exports: Vec<String>,
    /// The components nested in it.
    pub components: Vec<Nested>,
    /// Its own core modules.
    pub core_modules: Vec<CoreModule>,
    /// How many component instances it makes.
    pub instances: u32,
    /// How many core instances it makes.
    pub core_instances: u32,
    /// The languages and tools its own sections and its core modules name.
    pub producers: Vec<Producer>,
    /// The languages that its own sections name: what its author wrote it in, whatever its core modules, which may hold
    /// a language's runtime, were compiled from.
    pub languages: Vec<String>,
}

impl Nested {
    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Whether it holds no code: toolchains wrap each exported interface in such a component.
    pub fn is_wrapping(&self) -> bool {
        self.core_modules.is_empty() && self.components.is_empty() && self.core_instances == 0
    }
}

/// A core module within a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreModule {
    /// Its name, where a name section has one.
    pub name: Option<String>,
    /// Where its bytes are in the file.
    pub range: Range<u64>,
}

/// Where a component's bytes go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// All of it.
    pub total: u64,
    /// Code sections of core modules.
    pub code: u64,
    /// Data sections of core modules.
    pub data: u64,
    /// Custom sections: names, debug information, producers, provenance.
    pub custom: u64,
}

/// An entry of a producers section.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Producer {
    /// `language`, `processed-by` or `sdk`.
    pub field: String,
    /// The language or tool.
    pub name: String,
    /// Its version; may be empty.
    pub version: String,
}

/// Looks inside the component `bytes`, which is called `file` in what a person reads.
///
/// # Errors
/// One diagnostic when it is not a valid component, or its types cannot be written as WIT.
pub fn inspect(file: &str, bytes: &[u8]) -> Result<Inspection, Diagnostic> {
    crate::require_component(file, bytes)?;
    let contract = Contract::of(file, bytes)?;
    let composition = provenance::read(bytes);
    let mut scan = Scan { bytes, sizes: Sizes { total: bytes.len() as u64, ..Sizes::default() } };
    let unreadable =
        |why: &str| Diagnostic::new("invalid-component", format!("`{file}` cannot be read: {why}"));
    let mut component = scan
        .component()
        .map_err(|error| unreadable(error.message()))?
        .ok_or_else(|| unreadable("it ends too early"))?;
    if let Some(composition) = &composition {
        name_parts(&mut component, composition);
    }
    let mut producers = BTreeSet::new();
    collect_producers(&component, &mut producers);
    Ok(Inspection {
        file: file.to_owned(),
        imports: contract.imports().map(described).collect(),
        exports: contract.exports().map(described).collect(),
        component,
        composition,
        sizes: scan.sizes,
        needs: Needs::of(bytes),
        producers: producers.into_iter().collect(),
    })
}

fn described(item: Item<'_>) -> Extern {
    Extern {
        name: item.name().to_owned(),
        kind: item.kind(),
        functions: item.functions().into_iter().map(|(_, text)| text).collect(),
        types: item.types().into_iter().map(str::to_owned).collect(),
    }
}

/// The composition names its components by their digests. The same bytes may stand under two names; then the
/// names are given out in their order.
fn name_parts(component: &mut Nested, composition: &Provenance) {
    component.name = composition.name.clone().or(component.name.take());
    let mut parts: Vec<_> = composition.components.iter().collect();
    for nested in &mut component.components {
        if let Some(at) = parts.iter().position(|part| part.held == nested.digest) {
            nested.name = Some(parts.remove(at).name.clone());
        }
    }
}

fn collect_producers(component: &Nested, into: &mut BTreeSet<Producer>) {
    into.extend(component.producers.iter().cloned());
    for nested in &component.components {
        collect_producers(nested, into);
    }
}

struct Scan<'a> {
    bytes: &'a [u8],
    sizes: Sizes,
}

/// What is being read: a component, or a core module within one.
enum Frame {
    Component { nested: Box<Nested>, components: u32, modules: u32, names: Names },
    Module { module: CoreModule, producers: Vec<Producer> },
}

/// The names a component's own section gives to what it holds, by index.
#[derive(Default)]
struct Names {
    components: Vec<(u32, String)>,
    core_modules: Vec<(u32, String)>,
    /// Which index each nested component and core module was defined at, in order.
    component_indices: Vec<u32>,
    module_indices: Vec<u32>,
}

impl Scan<'_> {
    /// `None` when the file ends before the component does.
    fn component(&mut self) -> wasmparser::Result<Option<Nested>> {
        let mut stack: Vec<Frame> = Vec::new();
        let mut range = 0..self.bytes.len() as u64;
        for payload in Parser::new(0).parse_all(self.bytes) {
            let payload = payload?;
            match &payload {
                Payload::Version { encoding, .. } => stack.push(self.frame(*encoding, range.clone())),
                Payload::ModuleSection { unchecked_range, .. }
                | Payload::ComponentSection { unchecked_range, .. } => {
                    range = unchecked_range.clone();
                    if let Some(Frame::Component { components, modules, names, .. }) = stack.last_mut() {
                        match payload {
                            Payload::ModuleSection { .. } => {
                                names.module_indices.push(*modules);
                                *modules += 1;
                            }
                            _ => {
                                names.component_indices.push(*components);
                                *components += 1;
                            }
                        }
                    }
                }
                Payload::End(_) => match (stack.pop(), stack.last_mut()) {
                    (Some(Frame::Component { nested, names, .. }), None) => {
                        return Ok(Some(names.give_to(*nested)));
                    }
                    (
                        Some(Frame::Component { nested, names, .. }),
                        Some(Frame::Component { nested: outer, .. }),
                    ) => {
                        outer.components.push(names.give_to(*nested));
                    }
                    (
                        Some(Frame::Module { module, producers }),
                        Some(Frame::Component { nested: outer, .. }),
                    ) => {
                        outer.core_modules.push(module);
                        outer.producers.extend(producers);
                    }
                    _ => {}
                },
                _ => {
                    if let Some(frame) = stack.last_mut() {
                        self.section(frame, payload)?;
                    }
                }
            }
        }
        Ok(None)
    }

    fn frame(&self, encoding: wasmparser::Encoding, range: Range<u64>) -> Frame {
        match encoding {
            wasmparser::Encoding::Module => {
                Frame::Module { module: CoreModule { name: None, range }, producers: Vec::new() }
            }
            wasmparser::Encoding::Component => {
                let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
                let bytes = self.bytes.get(index(range.start)..index(range.end)).unwrap_or_default();
                let nested = Nested {
                    name: None,
                    digest: Digest::of(bytes),
                    range,
                    imports: Vec::new(),
                    exports: Vec::new(),
                    components: Vec::new(),
                    core_modules: Vec::new(),
                    instances: 0,
                    core_instances: 0,
                    producers: Vec::new(),
                    languages: Vec::new(),
                };
                Frame::Component {
                    nested: Box::new(nested),
                    components: 0,
                    modules: 0,
                    names: Names::default(),
                }
            }
        }
    }

    fn section(&mut self, frame: &mut Frame, payload: Payload<'_>) -> wasmparser::Result<()> {
        let length = |range: &Range<u64>| range.end - range.start;
        match (frame, payload) {
            (_, Payload::CodeSectionStart { size, .. }) => self.sizes.code += u64::from(size),
            (_, Payload::DataSection(section)) => self.sizes.data += length(&section.range()),
            (frame, Payload::CustomSection(section)) => {
                self.sizes.custom += length(&section.range());
                custom(frame, &section);
            }
            (Frame::Component { nested, components, modules, .. }, payload) => match payload {
                Payload::ComponentImportSection(section) => {
                    for import in section {
                        let import = import?;
                        nested.imports.push(import.name.name.to_owned());
                        match import.ty {
                            ComponentTypeRef::Component(_) => *components += 1,
                            ComponentTypeRef::Module(_) => *modules += 1,
                            _ => {}
                        }
                    }
                }
                Payload::ComponentExportSection(section) => {
                    for export in section {
                        let export = export?;
                        nested.exports.push(export.name.name.to_owned());
                        // An export gives what it exports a further index.
                        match export.kind {
                            ComponentExternalKind::Component => *components += 1,
                            ComponentExternalKind::Module => *modules += 1,
                            _ => {}
                        }
                    }
                }
                Payload::ComponentAliasSection(section) => {
                    for alias in section {
                        use wasmparser::ComponentAlias::{InstanceExport, Outer};
                        match alias? {
                            InstanceExport { kind: ComponentExternalKind::Component, .. }
                            | Outer { kind: ComponentOuterAliasKind::Component, .. } => *components += 1,
                            InstanceExport { kind: ComponentExternalKind::Module, .. }
                            | Outer { kind: ComponentOuterAliasKind::CoreModule, .. } => *modules += 1,
                            _ => {}
                        }
                    }
                }
                Payload::ComponentInstanceSection(section) => nested.instances += section.count(),
                Payload::InstanceSection(section) => nested.core_instances += section.count(),
                _ => {}
            },
            _ => {}
        }
        Ok(())
    }
}

impl Names {
    fn give_to(self, mut nested: Nested) -> Nested {
        let named = |names: &[(u32, String)], index: u32| {
            names.iter().find(|(at, _)| *at == index).map(|(_, name)| name.clone())
        };
        for (component, index) in nested.components.iter_mut().zip(self.component_indices) {
            component.name = named(&self.components, index).or(component.name.take());
        }
        for (module, index) in nested.core_modules.iter_mut().zip(self.module_indices) {
            module.name = named(&self.core_modules, index).or(module.name.take());
        }
        nested
    }
}

/// Names and producers. These sections are hints: what cannot be read in them is passed over.
fn custom(frame: &mut Frame, section: &wasmparser::CustomSectionReader<'_>) {
    match (section.as_known(), frame) {
        (KnownCustom::ComponentName(reader), Frame::Component { nested, names, .. }) => {
            component_names(reader, nested, names);
        }
        (KnownCustom::Name(reader), Frame::Module { module, .. }) => module.name = module_name(reader),
        (KnownCustom::Producers(reader), Frame::Component { nested, .. }) => {
            let before = nested.producers.len();
            producers(reader, &mut nested.producers);
            let own = nested.producers[before..].iter().filter(|it| it.field == "language");
            nested.languages.extend(own.map(|it| it.name.clone()));
        }
        (KnownCustom::Producers(reader), Frame::Module { producers: into, .. }) => producers(reader, into),
        _ => {}
    }
}

fn component_names(reader: ComponentNameSectionReader<'_>, nested: &mut Nested, names: &mut Names) {
    let read = |map: NameMap<'_>| {
        map.into_iter().map_while(Result::ok).map(|naming| (naming.index, naming.name.to_owned())).collect()
    };
    for subsection in reader.into_iter().map_while(Result::ok) {
        match subsection {
            ComponentName::Component { name, .. } => nested.name = Some(name.to_owned()),
            ComponentName::Components(map) => names.components = read(map),
            ComponentName::CoreModules(map) => names.core_modules = read(map),
            _ => {}
        }
    }
}

fn module_name(reader: NameSectionReader<'_>) -> Option<String> {
    reader.into_iter().map_while(Result::ok).find_map(|subsection| match subsection {
        Name::Module { name, .. } => Some(name.to_owned()),
        _ => None,
    })
}

fn producers(reader: ProducersSectionReader<'_>, into: &mut Vec<Producer>) {
    for field in reader.into_iter().map_while(Result::ok) {
        for value in field.values.into_iter().map_while(Result::ok) {
            into.push(Producer {
                field: field.name.to_owned(),
                name: value.name.to_owned(),
                version: value.version.to_owned(),
            });
        }
    }
}

//! The second form of a composition: a WAC file, the language of the `wac` tool.
//!
//! It becomes the same [`Manifest`] that TOML does, so that both are checked and encoded alike. A statement that has no
//! counterpart is refused by name; nothing is passed over.

use std::collections::{BTreeMap, BTreeSet};

use tenon_model::{Authorities, Authority, Diagnostic, Diagnostics, InterfaceName, Limits, Location, Reuse};
use tenon_wit::{ErrorStatuses, most_similar};
use wac_parser::{
    Document, ExportOptions, Expr, Ident, ImportType, InstantiationArgument, InstantiationArgumentName,
    NewExpr, PackageName, PostfixExpr, PrimaryExpr, Statement,
};

use super::reader::{COMPONENTS_MAX, is_kebab_case};
use super::{Component, Deploy, Exports, Manifest, Named, OpenPattern, Wire};

/// Brackets nested deeper than this are refused: the parser of the language calls itself for each.
const NESTING_MAX: usize = 64;

/// A package that a WAC file instantiates.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dependency {
    /// `namespace:name`.
    pub name: String,
    /// The version, where the file names one.
    pub version: Option<String>,
}

impl std::fmt::Display for Dependency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.version {
            Some(version) => write!(f, "{}@{version}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Reads the WAC file `text`. `locate` tells the path of a package's component, relative to the file.
pub(super) fn read(
    file: &str,
    text: &str,
    locate: &mut dyn FnMut(&Dependency) -> Option<String>,
) -> Result<Manifest, Diagnostics> {
    if let Some(at) = nested_too_deeply(text) {
        return Err(Diagnostic::new("wac-syntax", format!("brackets are nested deeper than {NESTING_MAX}"))
            .at(Location::span(file, text, at..at + 1))
            .mend("Give the inner parts names of their own: `let NAME = …;`.")
            .into());
    }
    let document = Document::parse(text).map_err(|error| syntax(file, text, &error))?;
    let mut reader = Reader {
        file,
        text,
        locate,
        found: Vec::new(),
        components: Vec::new(),
        names: BTreeMap::new(),
        reserved: BTreeSet::new(),
        open: Vec::new(),
        reexports: Vec::new(),
    };
    reader.read(&document);
    let Reader { mut found, mut components, open, reexports, .. } = reader;
    if components.len() > COMPONENTS_MAX {
        found.push(
            Diagnostic::new(
                "too-many-components",
                format!("the composition has {} components; {COMPONENTS_MAX} are allowed", components.len()),
            )
            .at(Location::file(file))
            .mend("Compose a part of them first, and use the result as one component."),
        );
    }
    found.sort_by_key(|it| it.at.as_ref().and_then(|at| at.position).map(|at| (at.line, at.column)));
    Diagnostics::check(found)?;
    components.sort_by(|left, right| left.name.cmp(&right.name));
    let limits = Limits::default();
    let authority = || Authority { outside: limits.outside, ..Authority::default() };
    let name = document.directive.package.name.rsplit(':').next().unwrap_or_default();
    Ok(Manifest {
        file: file.to_owned(),
        name: is_kebab_case(name).then(|| name.to_owned()),
        open,
        authorities: Authorities {
            whole: authority(),
            parts: components.iter().map(|it| (it.name.clone(), authority())).collect(),
        },
        components,
        reexports,
        reuse: Reuse::default(),
        optimize: false,
        limits,
        errors: ErrorStatuses::new(),
        deploy: Deploy::default(),
    })
}

/// What a name or an expression stands for.
#[derive(Clone, Debug)]
enum Value {
    Instance(String),
    Export { component: String, export: String, function: Option<String> },
    Import(String),
}

struct Reader<'r> {
    file: &'r str,
    text: &'r str,
    locate: &'r mut dyn FnMut(&Dependency) -> Option<String>,
    found: Vec<Diagnostic>,
    components: Vec<Component>,
    /// What each name stands for; `None` where that was reported.
    names: BTreeMap<String, Option<Value>>,
    /// The names that the file gives anywhere: an instance without one takes none of them.
    reserved: BTreeSet<String>,
    open: Vec<OpenPattern>,
    reexports: Vec<Wire>,
}

impl Reader<'_> {
    fn read(&mut self, document: &Document<'_>) {
        if let Some(world) = &document.directive.targets {
            let at = self.at(world.span.offset(), world.span.len());
            self.unsupported(
                "a target world",
                at,
                "Leave `targets` out: what the result imports and exports is said in the file.",
            );
        }
        self.reserved.extend(document.statements.iter().filter_map(|statement| match statement {
            Statement::Let(binding) => Some(binding.id.string.to_owned()),
            _ => None,
        }));
        for statement in &document.statements {
            match statement {
                Statement::Import(import) => {
                    let at = self.ident_at(&import.id);
                    if let Some(name) = &import.name {
                        let at = self.at(name.span().offset(), name.span().len());
                        self.unsupported(
                            "an import under another name",
                            at,
                            "Import it under its own name, without `as`.",
                        );
                    }
                    let name = match &import.ty {
                        ImportType::Package(path) => format!("{}/{}", path.name, path.segments),
                        ImportType::Func(_) | ImportType::Interface(_) | ImportType::Ident(_) => {
                            import.id.string.to_owned()
                        }
                    };
                    self.open.push(OpenPattern { text: name.clone(), at });
                    self.bind(&import.id, Some(Value::Import(name)));
                }
                Statement::Let(binding) => {
                    let value = self.expression(&binding.expr, Some(&binding.id));
                    self.bind(&binding.id, value);
                }
                Statement::Export(export) => {
                    let value = self.expression(&export.expr, None);
                    if let Some(value) = value {
                        self.export(value, &export.expr, &export.options);
                    }
                }
                Statement::Type(_) => {
                    self.unsupported(
                        "a type",
                        Location::file(self.file),
                        "Leave types to the components' contracts: a composition only joins them.",
                    );
                }
            }
        }
    }

    fn bind(&mut self, id: &Ident<'_>, value: Option<Value>) {
        let at = self.ident_at(id);
        if self.names.contains_key(id.string) {
            self.found.push(
                Diagnostic::new("duplicate-name", format!("`{}` is defined twice", id.string))
                    .at(at)
                    .mend("Call one of the two something else."),
            );
        } else {
            self.names.insert(id.string.to_owned(), value);
        }
    }

    fn expression(&mut self, expression: &Expr<'_>, name: Option<&Ident<'_>>) -> Option<Value> {
        let mut value = match &expression.primary {
            PrimaryExpr::New(new) => Value::Instance(self.instance(new, name)?),
            PrimaryExpr::Nested(nested) => self.expression(&nested.inner, name)?,
            PrimaryExpr::Ident(id) => self.named(id)?,
        };
        for postfix in &expression.postfix {
            let (span, accessed) = match postfix {
                PostfixExpr::Access(access) => (access.id.span, access.id.string),
                PostfixExpr::NamedAccess(access) => (access.string.span, access.string.value),
            };
            let accessed = accessed.to_owned();
            value = match value {
                Value::Instance(component) => Value::Export { component, export: accessed, function: None },
                Value::Export { component, export, function: None } => {
                    Value::Export { component, export, function: Some(accessed) }
                }
                Value::Export { .. } | Value::Import(_) => {
                    let at = self.at(span.offset(), span.len());
                    let what = "an export of something that is not a component or one of its interfaces";
                    self.unsupported(
                        what,
                        at,
                        "Name a component, an interface of it, and a function in that.",
                    );
                    return None;
                }
            };
        }
        Some(value)
    }

    fn named(&mut self, id: &Ident<'_>) -> Option<Value> {
        if let Some(found) = self.names.get(id.string) {
            return found.clone();
        }
        let mend = match most_similar(id.string, self.names.keys().map(String::as_str)) {
            Some(near) => format!("Did you mean `{near}`?"),
            None => "Define it in a line above: `let NAME = new namespace:package { … };`.".to_owned(),
        };
        let at = self.ident_at(id);
        self.found.push(
            Diagnostic::new("unknown-name", format!("nothing is called `{}`", id.string)).at(at).mend(mend),
        );
        None
    }

    /// A new instance of a package: one component of the composition.
    fn instance(&mut self, new: &NewExpr<'_>, name: Option<&Ident<'_>>) -> Option<String> {
        let package_at = self.at(new.package.span.offset(), new.package.span.len());
        let path = self.path(&new.package, &package_at);
        let at = name.map_or_else(|| package_at.clone(), |id| self.ident_at(id));
        let own = match name {
            Some(id) => id.string.to_owned(),
            None => self.unused_name(new.package.name.rsplit(':').next().unwrap_or("component")),
        };
        if !is_kebab_case(&own) {
            self.found.push(
                Diagnostic::new(
                    "bad-name",
                    format!("`{own}` cannot be the name of a component: it has to be kebab-case"),
                )
                .at(at.clone())
                .mend("Lower-case words joined by hyphens, the first starting with a letter: `order-store`."),
            );
        }
        // It has its name before its arguments are read: instances among them need others. A name that is given twice is
        // reported where it is bound.
        let index = self.components.len();
        self.components.push(Component {
            name: own.clone(),
            at,
            path: path.clone().unwrap_or_default(),
            path_at: Some(package_at),
            source: None,
            wit: None,
            world: None,
            language: None,
            snapshot: true,
            optimize: None,
            exports: Exports::None,
            wires: Vec::new(),
            spreads: Vec::new(),
            open: false,
            memory_at: None,
        });
        for argument in &new.arguments {
            self.argument(argument, index);
        }
        path.map(|_| own)
    }

    /// An argument of the component at `index`.
    fn argument(&mut self, argument: &InstantiationArgument<'_>, index: usize) {
        match argument {
            InstantiationArgument::Fill(_) => self.components[index].open = true,
            InstantiationArgument::Spread(id) => match self.named(id) {
                Some(Value::Instance(name)) => {
                    let at = self.ident_at(id);
                    self.components[index].spreads.push(Named { name, at });
                }
                Some(_) => {
                    let at = self.ident_at(id);
                    self.unsupported(
                        "spreading what is not a component",
                        at,
                        "Spread a component, or name its exports.",
                    );
                }
                None => {}
            },
            InstantiationArgument::Inferred(id) => {
                let value = self.named(id);
                let at = self.ident_at(id);
                let key = match &value {
                    Some(Value::Export { export, function, .. }) => {
                        function.clone().unwrap_or_else(|| export.clone())
                    }
                    Some(Value::Import(name)) => name.clone(),
                    Some(Value::Instance(_)) | None => id.string.to_owned(),
                };
                self.satisfy(index, Named { name: key, at }, value);
            }
            InstantiationArgument::Named(named) => {
                let value = self.expression(&named.expr, None);
                let span = named.name.span();
                let at = self.at(span.offset(), span.len());
                let (InstantiationArgumentName::Ident(_) | InstantiationArgumentName::String(_)) =
                    &named.name;
                self.satisfy(index, Named { name: named.name.as_str().to_owned(), at }, value);
            }
        }
    }

    fn satisfy(&mut self, index: usize, import: Named, value: Option<Value>) {
        match value {
            Some(Value::Export { component: exporter, export, function }) => {
                let at = import.at.clone();
                let name = match function {
                    Some(function) => format!("{export}.{function}"),
                    None => export,
                };
                self.components[index].wires.push(Wire {
                    import,
                    component: Named { name: exporter, at: at.clone() },
                    export: Some(Named { name, at }),
                });
            }
            Some(Value::Import(name)) => {
                let interface = InterfaceName::parse(&name);
                let is_it = unversioned(&import.name) == name
                    || interface.is_some_and(|interface| interface.interface == import.name);
                if !is_it {
                    self.unsupported(
                        &format!("passing the import `{name}` as `{}`", import.name),
                        import.at,
                        "An import that is left open keeps its name.",
                    );
                }
            }
            Some(Value::Instance(exporter)) => {
                let mend = format!(
                    "Name one of its exports: `{}: {exporter}[\"namespace:package/interface\"]`.",
                    import.name
                );
                self.unsupported("a component in place of an interface", import.at, &mend);
            }
            None => {}
        }
    }

    fn export(&mut self, value: Value, expression: &Expr<'_>, options: &ExportOptions<'_>) {
        let at = self.at(expression.span.offset(), expression.span.len());
        match (value, options) {
            (Value::Instance(name), ExportOptions::Spread(_)) => {
                if let Some(component) = self.components.iter_mut().find(|it| it.name == name) {
                    component.exports = Exports::All;
                }
            }
            (Value::Export { component, export, function: None }, ExportOptions::None) => {
                if let Some(component) = self.components.iter_mut().find(|it| it.name == component) {
                    let named = Named { name: export, at };
                    match &mut component.exports {
                        Exports::Named(names) => names.push(named),
                        Exports::All => {}
                        Exports::None | Exports::Unsaid => component.exports = Exports::Named(vec![named]),
                    }
                }
            }
            (
                Value::Export { component, export, function },
                options @ (ExportOptions::None | ExportOptions::Rename(_)),
            ) => {
                let name = match options {
                    ExportOptions::Rename(name) => {
                        let at = self.at(name.span().offset(), name.span().len());
                        Named { name: name.as_str().to_owned(), at }
                    }
                    _ => Named { name: function.clone().unwrap_or_else(|| export.clone()), at: at.clone() },
                };
                let export = match function {
                    Some(function) => format!("{export}.{function}"),
                    None => export,
                };
                self.reexports.push(Wire {
                    import: name,
                    component: Named { name: component, at: at.clone() },
                    export: Some(Named { name: export, at }),
                });
            }
            (Value::Instance(name), _) => self.unsupported(
                "exporting a component as one interface",
                at,
                &format!(
                    "Export what it exports, `export {name}...;`, or one of it: `export {name}[\"NAME\"];`."
                ),
            ),
            (Value::Export { .. }, ExportOptions::Spread(_)) => {
                self.unsupported(
                    "spreading an interface",
                    at,
                    "Export the interface, or its functions one by one.",
                );
            }
            (Value::Import(_), _) => {
                self.unsupported("exporting an import", at, "Whoever supplies the import has it already.");
            }
        }
    }

    fn path(&mut self, package: &PackageName<'_>, at: &Location) -> Option<String> {
        let dependency = Dependency {
            name: package.name.to_owned(),
            version: package.version.as_ref().map(ToString::to_string),
        };
        let path = (self.locate)(&dependency);
        if path.is_none() {
            let places = deps_paths(&dependency);
            self.found.push(
                Diagnostic::new(
                    "unknown-dependency",
                    format!("there is no component for the package `{dependency}`"),
                )
                .at(at.clone())
                .note("looked for, beside the file", places.join("\n"))
                .mend(format!("Put it there, or say where it is: `--dep {dependency}=FILE`.")),
            );
        }
        path
    }

    fn unused_name(&self, wanted: &str) -> String {
        let taken = |name: &str| {
            self.names.contains_key(name)
                || self.reserved.contains(name)
                || self.components.iter().any(|component| component.name == name)
        };
        (1..=COMPONENTS_MAX + 1)
            .map(|number| if number == 1 { wanted.to_owned() } else { format!("{wanted}-{number}") })
            .find(|name| !taken(name))
            .unwrap_or_else(|| wanted.to_owned())
    }

    fn unsupported(&mut self, what: &str, at: Location, mend: &str) {
        self.found.push(
            Diagnostic::new("wac-unsupported", format!("{what} has no counterpart in a composition"))
                .at(at)
                .mend(mend),
        );
    }

    fn at(&self, offset: usize, length: usize) -> Location {
        Location::span(self.file, self.text, offset..offset + length)
    }

    fn ident_at(&self, id: &Ident<'_>) -> Location {
        self.at(id.span.offset(), id.span.len())
    }
}

/// Where a package's component is looked for, relative to the WAC file.
pub fn deps_paths(dependency: &Dependency) -> Vec<String> {
    let folder = dependency.name.replace(':', "/");
    let plain = format!("deps/{folder}.wasm");
    match &dependency.version {
        Some(version) => {
            vec![format!("deps/{folder}@{version}.wasm"), format!("deps/{folder}/{version}.wasm"), plain]
        }
        None => vec![plain],
    }
}

fn unversioned(name: &str) -> String {
    InterfaceName::parse(name).map_or_else(|| name.to_owned(), |interface| interface.unversioned())
}

fn syntax(file: &str, text: &str, error: &wac_parser::Error) -> Diagnostic {
    use wac_parser::Error;
    let span = match error {
        Error::Lexer { span, .. }
        | Error::Expected { span, .. }
        | Error::ExpectedEither { span, .. }
        | Error::ExpectedMultiple { span, .. }
        | Error::EmptyType { span, .. }
        | Error::InvalidVersion { span, .. } => span,
    };
    Diagnostic::new("wac-syntax", format!("this cannot be read as WAC: {error}"))
        .at(Location::span(file, text, span.offset()..span.offset() + span.len()))
        .mend("The language: https://github.com/bytecodealliance/wac/blob/main/LANGUAGE.md")
}

/// Where brackets are nested deeper than the parser should follow.
fn nested_too_deeply(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' | b'{' | b'<' | b'[' => depth += 1,
            b')' | b'}' | b'>' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > NESTING_MAX {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Manifest, Diagnostics> {
        Manifest::parse_wac("shop.wac", text, &mut |dependency| {
            (dependency.name != "demo:missing").then(|| deps_paths(dependency).remove(0))
        })
    }

    fn codes(text: &str) -> Vec<(&'static str, u32)> {
        let found = parse(text).unwrap_err();
        found.iter().map(|it| (it.code, it.at.clone().unwrap().position.unwrap().line)).collect()
    }

    #[test]
    fn a_file_becomes_the_manifest_that_toml_would_be() {
        let wac = parse(
            r#"package demo:shop@1.0.0;
            import clock: acme:clock/now@1.0.0;
            let auth = new demo:auth { clock, ... };
            let verify = auth["demo:auth/verify"];
            let shop = new demo:shop {
                verify,
                "demo:store/store.get": (new demo:store { ...auth })["demo:store/store"].get,
            };
            export shop...;
            export verify as "acme:login/tokens";
            export auth.health.check;
            "#,
        )
        .unwrap();
        assert_eq!(wac.name.as_deref(), Some("shop"));
        assert_eq!(wac.open[0].text, "acme:clock/now");
        let names: Vec<_> = wac.components.iter().map(|it| (it.name.as_str(), it.path.as_str())).collect();
        let paths = [
            ("auth", "deps/demo/auth.wasm"),
            ("shop", "deps/demo/shop.wasm"),
            ("store", "deps/demo/store.wasm"),
        ];
        assert_eq!(names, paths);
        let shop = wac.component("shop").unwrap();
        assert_eq!(shop.exports, Exports::All);
        let wires: Vec<_> = shop
            .wires
            .iter()
            .map(|it| {
                let export = it.export.as_ref().unwrap().name.as_str();
                (it.import.name.as_str(), it.component.name.as_str(), export)
            })
            .collect();
        assert_eq!(
            wires,
            [
                ("demo:auth/verify", "auth", "demo:auth/verify"),
                ("demo:store/store.get", "store", "demo:store/store.get"),
            ]
        );
        assert!(wac.component("auth").unwrap().open);
        assert_eq!(wac.component("store").unwrap().spreads[0].name, "auth");
        let exports: Vec<_> = wac
            .reexports
            .iter()
            .map(|it| (it.import.name.as_str(), it.export.as_ref().unwrap().name.as_str()))
            .collect();
        assert_eq!(exports, [("acme:login/tokens", "demo:auth/verify"), ("check", "health.check")]);
    }

    #[test]
    fn instances_without_names_take_none_that_is_given() {
        let wac = parse(
            "package a:b;\nexport (new demo:auth {}).early;\n\
             let auth = new x:wrap { a: (new demo:auth {}).a };\nexport auth...;\n\
             export (new demo:c { b: (new demo:c {}).b }).late;",
        )
        .unwrap();
        let names: Vec<_> = wac.components.iter().map(|it| (it.name.as_str(), it.path.as_str())).collect();
        let auth = "deps/demo/auth.wasm";
        let c = "deps/demo/c.wasm";
        assert_eq!(
            names,
            [("auth", "deps/x/wrap.wasm"), ("auth-2", auth), ("auth-3", auth), ("c", c), ("c-2", c)]
        );
        let from = |name: &str| wac.component(name).unwrap().wires[0].component.name.clone();
        assert_eq!((from("auth"), from("c")), ("auth-3".into(), "c-2".into()));
        assert_eq!(wac.component("auth").unwrap().exports, Exports::All);
    }

    #[test]
    fn what_is_wrong_has_its_line() {
        assert_eq!(codes("package a:b;\nlet x = ;"), [("wac-syntax", 2)]);
        let many = "package a:b;\nlet x = new demo:missing {};\nlet x = new demo:a { y };\nexport z;\nlet q = new demo:a {};\nexport q;";
        assert_eq!(
            codes(many),
            [
                ("unknown-dependency", 2),
                ("duplicate-name", 3),
                ("unknown-name", 3),
                ("unknown-name", 4),
                ("wac-unsupported", 6)
            ]
        );
        let deep = format!("package a:b;\nlet x = {}x{};", "(".repeat(10_000), ")".repeat(10_000));
        assert_eq!(codes(&deep), [("wac-syntax", 2)]);
    }
}

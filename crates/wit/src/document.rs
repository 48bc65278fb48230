//! Pages about contracts: one for each package and an index, as HTML and as Markdown.

mod markup;

use wit_parser::{
    Docs, Function, FunctionKind, InterfaceId, Package, PackageId, Resolve, Type, TypeDefKind, TypeId,
    TypeOwner, WorldId, WorldItem, WorldKey,
};

use crate::render::{function_text, type_text};
use markup::{Form, Html, Markdown};

/// A file of the documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its name.
    pub file: String,
    /// Its content.
    pub text: String,
}

/// Documents every package: each in both forms, and an index of them.
pub fn document(resolve: &Resolve) -> Vec<Document> {
    let mut pages = Vec::new();
    for form in [&Html as &dyn Form, &Markdown] {
        let mut index = String::new();
        form.heading(&mut index, 1, "packages", "Packages");
        for (id, package) in resolve.packages.iter() {
            let text = Page { resolve, form, package: id }.text();
            let name = package.name.to_string();
            let file = format!("{}.{}", stem(package), form.extension());
            let _ = form.entry(&mut index, &name, &file, first_sentence(&package.docs));
            pages.push(Document { file, text: form.page(&name, &text) });
        }
        pages.push(Document {
            file: format!("index.{}", form.extension()),
            text: form.page("Packages", &index),
        });
    }
    pages
}

fn stem(package: &Package) -> String {
    package.name.to_string().replace([':', '@', '/'], "-")
}

fn docs(docs: &Docs) -> &str {
    docs.contents.as_deref().unwrap_or_default().trim()
}

fn first_sentence(of: &Docs) -> &str {
    let text = docs(of);
    let end = text.find(". ").map(|at| at + 1).into_iter().chain(text.find("\n\n")).min();
    &text[..end.unwrap_or(text.len())]
}

/// The page of one package.
struct Page<'a> {
    resolve: &'a Resolve,
    form: &'a dyn Form,
    package: PackageId,
}

/// A word of a declaration that names a type, and where that is told of.
struct Link {
    name: String,
    to: String,
}

impl Page<'_> {
    fn text(&self) -> String {
        let package = &self.resolve.packages[self.package];
        let mut text = String::new();
        self.form.heading(&mut text, 1, "package", &package.name.to_string());
        self.form.docs(&mut text, docs(&package.docs));
        for (name, world) in &package.worlds {
            self.world(&mut text, name, *world);
        }
        for (name, interface) in &package.interfaces {
            self.interface(&mut text, name, *interface);
        }
        text
    }

    fn world(&self, text: &mut String, name: &str, id: WorldId) {
        let world = &self.resolve.worlds[id];
        self.form.heading(text, 2, &format!("world-{name}"), &format!("world {name}"));
        self.form.docs(text, docs(&world.docs));
        for (what, items) in [("import", &world.imports), ("export", &world.exports)] {
            for (key, item) in items {
                let (line, links) = match (key, item) {
                    (WorldKey::Interface(id), _) => {
                        let name = self.resolve.id_of(*id).unwrap_or_default();
                        let links = self.interface_link(*id, &name).into_iter().collect();
                        (format!("{what} {name};"), links)
                    }
                    (WorldKey::Name(_), WorldItem::Function(function)) => {
                        let links = self.links_of(function);
                        (format!("{what} {};", function_text(self.resolve, function)), links)
                    }
                    (WorldKey::Name(_), WorldItem::Type { id, .. }) => {
                        (type_text(self.resolve, *id), Vec::new())
                    }
                    (WorldKey::Name(name), WorldItem::Interface { id, .. }) => {
                        let functions = self.resolve.interfaces[*id].functions.values();
                        let functions: Vec<String> = functions
                            .map(|it| format!("    {};\n", function_text(self.resolve, it)))
                            .collect();
                        (format!("{what} {name}: interface {{\n{}}}", functions.concat()), Vec::new())
                    }
                };
                self.form.code(text, &line, &links);
                if let WorldItem::Function(function) = item {
                    self.form.docs(text, docs(&function.docs));
                }
            }
        }
    }

    fn interface(&self, text: &mut String, name: &str, id: InterfaceId) {
        let interface = &self.resolve.interfaces[id];
        self.form.heading(text, 2, name, &format!("interface {name}"));
        self.form.docs(text, docs(&interface.docs));
        for (type_name, ty) in &interface.types {
            // A name that is only used here is told of where it is declared.
            if self.declared(*ty) != *ty {
                continue;
            }
            let definition = &self.resolve.types[*ty];
            self.form.heading(text, 3, &format!("{name}.{type_name}"), type_name);
            self.form.code(text, without_docs(&type_text(self.resolve, *ty)), &self.links_in(*ty));
            self.form.docs(text, docs(&definition.docs));
            let members = interface.functions.values().filter(|it| resource_of(it) == Some(*ty));
            for function in members {
                self.function(text, 4, &format!("{name}.{type_name}"), function);
            }
        }
        for function in interface.functions.values().filter(|it| resource_of(it).is_none()) {
            self.function(text, 3, name, function);
        }
    }

    fn function(&self, text: &mut String, level: usize, within: &str, function: &Function) {
        let name = function.name.rsplit_once(['.', ']']).map_or(function.name.as_str(), |(_, name)| name);
        let name = if matches!(function.kind, FunctionKind::Constructor(_)) { "constructor" } else { name };
        self.form.heading(text, level, &format!("{within}.{name}"), name);
        self.form.code(
            text,
            &format!("{};", function_text(self.resolve, function)),
            &self.links_of(function),
        );
        self.form.docs(text, docs(&function.docs));
    }

    /// The types that a function names.
    fn links_of(&self, function: &Function) -> Vec<Link> {
        let types = function.params.iter().map(|param| param.ty).chain(function.result);
        let mut links = Vec::new();
        types.for_each(|ty| self.collect(&ty, None, &mut links));
        links
    }

    /// The types that the declaration of another names.
    fn links_in(&self, id: TypeId) -> Vec<Link> {
        let mut links = Vec::new();
        match &self.resolve.types[id].kind {
            TypeDefKind::Record(record) => {
                record.fields.iter().for_each(|field| self.collect(&field.ty, None, &mut links));
            }
            TypeDefKind::Variant(variant) => {
                variant
                    .cases
                    .iter()
                    .filter_map(|case| case.ty)
                    .for_each(|ty| self.collect(&ty, None, &mut links));
            }
            TypeDefKind::Enum(_) | TypeDefKind::Flags(_) | TypeDefKind::Resource => {}
            _ => self.collect(&Type::Id(id), Some(id), &mut links),
        }
        links
    }

    fn collect(&self, ty: &Type, itself: Option<TypeId>, links: &mut Vec<Link>) {
        let Type::Id(id) = ty else { return };
        let definition = &self.resolve.types[*id];
        if let Some(name) = definition.name.as_ref().filter(|_| itself != Some(*id)) {
            if !links.iter().any(|link| link.name == *name)
                && let Some(to) = self.type_link(*id)
            {
                links.push(Link { name: name.clone(), to });
            }
            return;
        }
        let mut inner = |ty: &Type| self.collect(ty, None, links);
        match &definition.kind {
            TypeDefKind::List(ty)
            | TypeDefKind::Option(ty)
            | TypeDefKind::FixedLengthList(ty, _)
            | TypeDefKind::Type(ty) => inner(ty),
            TypeDefKind::Map(key, value) => [key, value].into_iter().for_each(inner),
            TypeDefKind::Tuple(tuple) => tuple.types.iter().for_each(inner),
            TypeDefKind::Result(result) => [result.ok, result.err].iter().flatten().for_each(inner),
            TypeDefKind::Future(ty) | TypeDefKind::Stream(ty) => ty.iter().for_each(inner),
            TypeDefKind::Handle(handle) => {
                let (wit_parser::Handle::Own(id) | wit_parser::Handle::Borrow(id)) = handle;
                inner(&Type::Id(*id));
            }
            _ => {}
        }
    }

    /// The declaration behind names that are used from elsewhere.
    fn declared(&self, mut id: TypeId) -> TypeId {
        while let TypeDefKind::Type(Type::Id(next)) = self.resolve.types[id].kind
            && self.resolve.types[next].owner != self.resolve.types[id].owner
        {
            id = next;
        }
        id
    }

    fn type_link(&self, id: TypeId) -> Option<String> {
        let declared = self.declared(id);
        let definition = &self.resolve.types[declared];
        let TypeOwner::Interface(interface) = definition.owner else { return None };
        let (page, interface) = self.place(interface)?;
        Some(format!("{page}#{interface}.{}", definition.name.as_ref()?))
    }

    fn interface_link(&self, id: InterfaceId, name: &str) -> Option<Link> {
        let (page, interface) = self.place(id)?;
        Some(Link { name: name.to_owned(), to: format!("{page}#{interface}") })
    }

    /// The page of an interface, nothing for this one, and its name there.
    fn place(&self, id: InterfaceId) -> Option<(String, &str)> {
        let interface = &self.resolve.interfaces[id];
        let package = interface.package?;
        let page = match package == self.package {
            true => String::new(),
            false => format!("{}.{}", stem(&self.resolve.packages[package]), self.form.extension()),
        };
        Some((page, interface.name.as_deref()?))
    }
}

/// A declaration without its own documentation, which is told below it.
fn without_docs(declaration: &str) -> &str {
    let mut rest = declaration;
    while let Some((_, next)) = rest.split_once('\n').filter(|_| rest.starts_with("///")) {
        rest = next;
    }
    rest
}

/// The resource that a function belongs to.
fn resource_of(function: &Function) -> Option<TypeId> {
    function.kind.resource()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CORE: &str = "/// What all share.\npackage a:core@1.0.0;\n\n/// Names.\ninterface names {\n\
        /// A <name>.\nrecord name { text: string, kind: kind }\nenum kind { first, last }\n}\n";
    const SHOP: &str = "package a:shop;\ninterface orders {\nuse a:core/names@1.0.0.{name};\n\
        /// An order; see `place`.\n///\n/// - of somebody\nresource order {\nconstructor(of: name);\n/// Who.\nwho: func() -> option<name>;\n}\n\
        variant state { name(name), gone }\nplace: func(name: name) -> result<order, state>;\n}\n\
        world shop { import a:core/names@1.0.0; export orders; }\n";

    fn pages() -> Vec<Document> {
        let mut resolve = Resolve::default();
        resolve.push_str("core.wit", CORE).unwrap();
        resolve.push_str("shop.wit", SHOP).unwrap();
        document(&resolve)
    }

    fn page(file: &str) -> String {
        pages().into_iter().find(|page| page.file == file).unwrap().text
    }

    #[test]
    fn every_name_of_a_type_leads_to_its_declaration() {
        let html = page("a-shop.html");
        for text in [
            "id=\"orders.order\"",
            "id=\"orders.order.who\"",
            "place: func(name: <a href=\"a-core-1.0.0.html#names.name\">name</a>) -&gt; result&lt;<a href=\"#orders.order\">order</a>, <a href=\"#orders.state\">state</a>&gt;;",
            "name(<a href=\"a-core-1.0.0.html#names.name\">name</a>)",
            "import <a href=\"a-core-1.0.0.html#names\">a:core/names@1.0.0</a>;",
            "export <a href=\"#orders\">a:shop/orders</a>;",
            "see <code>place</code>",
            "<li>of somebody</li>",
        ] {
            assert!(html.contains(text), "{text}\n{html}");
        }
        let core = page("a-core-1.0.0.html");
        assert!(
            core.contains("A &lt;name&gt;.") && core.contains("kind: <a href=\"#names.kind\">kind</a>"),
            "{core}"
        );
    }

    #[test]
    fn markdown_has_the_same_links_below_each_declaration() {
        let text = page("a-shop.md");
        assert!(text.contains("<a id=\"orders.place\"></a>\n### `place`\n"), "{text}");
        assert!(text.contains("```wit\nplace: func(name: name) -> result<order, state>;\n```"), "{text}");
        assert!(text.contains("[`name`](a-core-1.0.0.md#names.name), [`order`](#orders.order)"), "{text}");
        let index = page("index.md");
        assert!(index.contains("- [a:core@1.0.0](a-core-1.0.0.md): What all share."), "{index}");
    }
}

//! Where the generated headers for C++ include the classes of exported resources.
//!
//! The generator writes each class to a header of its own, which the author may have a copy of to add members to, and has
//! it included above everything else: also above the types that its functions take and give, so that no such header
//! compiles (wit-bindgen issue 1658). Here it is included where the generator came across it. That place is not in its
//! output, but it sorts types by what they need: whatever a class needs is declared before anything that needs the class.

use tenon_model::Diagnostic;
use wit_bindgen_core::Files;
use wit_parser::{Function, InterfaceId, Resolve, Type, TypeDefKind, TypeId, TypeIdVisitor, TypeOwner};
use wit_parser::{WorldId, WorldItem};

/// Whether a generated file is the class of an exported resource.
pub(super) fn is_class(name: &str) -> bool {
    name.starts_with("exports-") && name.ends_with(".h")
}

/// The files with each class included in `header` where all that it needs is declared.
pub(super) fn placed(files: &Files, header: &str) -> Files {
    let mut placed = Files::default();
    for (name, text) in files.iter() {
        match std::str::from_utf8(text) {
            Ok(text) if name == header => placed.push(name, included_in_place(text).as_bytes()),
            _ => placed.push(name, text),
        }
    }
    placed
}

/// The class that a line includes, as the namespaces it is in and its name.
fn included_class(line: &str) -> Option<Vec<&str>> {
    let file = line.trim().strip_prefix("#include \"")?.strip_suffix("\"")?;
    is_class(file).then(|| file.trim_end_matches(".h").split('-').collect())
}

fn included_in_place(header: &str) -> String {
    let classes: Vec<Vec<&str>> = header.lines().filter_map(included_class).collect();
    let lines: Vec<&str> = header.lines().filter(|line| included_class(line).is_none()).collect();
    let declared = declarations(&lines);
    // In the order of the generator: a class may need another one that nothing else mentions.
    let mut places = vec![(lines.len(), Vec::new()); classes.len()];
    let mut next = lines.iter().rposition(|line| line.trim() == "#endif").unwrap_or(lines.len());
    let mut within: Vec<String> = Vec::new();
    for (at, class) in classes.iter().enumerate().rev() {
        if let Some((line, namespaces)) = place(&lines, &declared, class)
            && line < next
        {
            (next, within) = (line, namespaces);
        }
        places[at] = (next, within.clone());
    }
    let mut text = String::with_capacity(header.len() + 512 * classes.len());
    for at in 0..=lines.len() {
        for (class, (_, namespaces)) in classes.iter().zip(&places).filter(|(_, (place, _))| *place == at) {
            text.push_str(&"}\n".repeat(namespaces.len()));
            text.push_str(&format!("#include \"{}.h\"\n", class.join("-")));
            namespaces.iter().for_each(|name| text.push_str(&format!("namespace {name} {{\n")));
        }
        if let Some(line) = lines.get(at) {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// A declaration in a namespace: its lines, and where it stands. The end of a namespace is one, too, without lines.
struct Declared {
    first: usize,
    after: usize,
    namespaces: Vec<String>,
}

fn declarations(lines: &[&str]) -> Vec<Declared> {
    let mut declared = Vec::new();
    let mut namespaces: Vec<String> = Vec::new();
    let (mut first, mut depth) = (0, 0usize);
    for (at, line) in lines.iter().map(|line| line.trim()).enumerate() {
        let namespace = line.strip_prefix("namespace ").and_then(|line| line.strip_suffix(" {"));
        if let (0, Some(name)) = (depth, namespace) {
            namespaces.push(name.to_owned());
            first = at + 1;
        } else if depth == 0 && line == "}" && !namespaces.is_empty() {
            declared.push(Declared { first: at, after: at, namespaces: namespaces.clone() });
            namespaces.pop();
            first = at + 1;
        } else if !line.starts_with('/') {
            depth = (depth + line.matches('{').count()).saturating_sub(line.matches('}').count());
            if depth == 0 && line.ends_with([';', '}']) {
                declared.push(Declared { first, after: at + 1, namespaces: namespaces.clone() });
                first = at + 1;
            }
        }
    }
    declared
}

/// Before the first declaration of its namespace that names the class; else at the namespace's end.
fn place(lines: &[&str], declared: &[Declared], class: &[&str]) -> Option<(usize, Vec<String>)> {
    let (name, namespaces) = class.split_last()?;
    let here = || declared.iter().filter(|it| it.namespaces == *namespaces);
    let names = |it: &&Declared| {
        lines[it.first..it.after].iter().any(|line| !line.trim().starts_with('/') && has_word(line, name))
    };
    here().find(names).or_else(|| here().next_back()).map(|it| (it.first, it.namespaces.clone()))
}

fn has_word(line: &str, word: &str) -> bool {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(is_part) && !line[at + word.len()..].starts_with(is_part))
}

/// Refuses a world in which a class needs a type that needs the class: C++ has no order for them.
pub(super) fn refuse_circles(resolve: &Resolve, world: WorldId) -> Result<(), Diagnostic> {
    for item in resolve.worlds[world].exports.values() {
        let WorldItem::Interface { id, .. } = item else { continue };
        for (name, resource) in &resolve.interfaces[*id].types {
            if matches!(resolve.types[*resource].kind, TypeDefKind::Resource)
                && let Some(other) = Circle::of(resolve, *id, *resource)
            {
                let interface = resolve.id_of(*id).unwrap_or_default();
                let what = format!(
                    "the resource `{name}` of `{interface}` has a function with `{other}`, and `{other}` has the resource in it: \
                     C++ has no order in which both can be declared"
                );
                return Err(Diagnostic::new("cpp-circular-types", what).mend(format!(
                    "make the functions that need `{other}` ones of the interface instead of the resource, or write this one in \
                     Rust, Go or C"
                )));
            }
        }
    }
    Ok(())
}

/// Looks for a type with a name of its own between a resource and itself.
struct Circle<'a> {
    resolve: &'a Resolve,
    interface: InterfaceId,
    resource: TypeId,
    seen: Vec<TypeId>,
    /// The types with a name that lead to what is looked at.
    through: Vec<&'a str>,
    found: Option<String>,
}

impl<'a> Circle<'a> {
    fn of(resolve: &'a Resolve, interface: InterfaceId, resource: TypeId) -> Option<String> {
        let mut circle =
            Self { resolve, interface, resource, seen: Vec::new(), through: Vec::new(), found: None };
        circle.functions_of(resource);
        circle.found
    }

    /// The name of a type of the interface.
    fn name_here(&self, id: TypeId) -> Option<&'a str> {
        let ty = &self.resolve.types[id];
        (ty.owner == TypeOwner::Interface(self.interface)).then_some(ty.name.as_deref()).flatten()
    }

    fn functions_of(&mut self, resource: TypeId) {
        let functions = self.resolve.interfaces[self.interface].functions.values();
        for function in functions.filter(|function| function.kind.resource() == Some(resource)) {
            for ty in types_of(function) {
                self.visit_type(self.resolve, &ty);
            }
        }
    }
}

fn types_of(function: &Function) -> impl Iterator<Item = Type> {
    function.params.iter().map(|parameter| parameter.ty).chain(function.result)
}

impl TypeIdVisitor for Circle<'_> {
    fn before_visit_type_id(&mut self, id: TypeId) -> bool {
        let ty = &self.resolve.types[id];
        if id == self.resource {
            if self.found.is_none() {
                self.found = self.through.last().map(|name| (*name).to_owned());
            }
            return false;
        }
        // What has no name cannot come round to itself.
        if ty.name.is_none() {
            return true;
        }
        if self.seen.contains(&id) {
            return false;
        }
        self.seen.push(id);
        if let Some(name) = self.name_here(id) {
            self.through.push(name);
            if matches!(ty.kind, TypeDefKind::Resource) {
                self.functions_of(id);
            }
        }
        true
    }

    fn after_visit_type_id(&mut self, id: TypeId) {
        if self.name_here(id).is_some() {
            self.through.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "\
#ifndef GUARD
#define GUARD
#include \"exports-a-b-i-Part.h\"
#include \"exports-a-b-i-Order.h\"
#include <cstdint>
#include \"wit.h\"
namespace a {
  namespace b {
    namespace up {
      class Order : public wit::ResourceImportBase{
        public:
        ~Order();
      };
      // export_interface Interface(Id { idx: 2 })
    }
  }
}
namespace exports {
  namespace a {
    namespace b {
      namespace i {
        /// Of an Order.
        struct Item {
          wit::string name;
        };
        /// An Order with more.
        struct Placed {
          Order::Owned order;
        };
        Order::Owned Open();
      }
    }
  }
}

#endif
";

    #[test]
    fn a_class_is_included_where_what_it_needs_is_declared() {
        let text = included_in_place(HEADER);
        let at = |text_of: &str| text.find(text_of).unwrap_or_else(|| panic!("{text_of}\n{text}"));
        // The part is named nowhere else; the order may need it.
        assert!(at("class Order") < at("struct Item") && at("wit::string name;") < at("-Part.h"));
        assert!(at("-Part.h") < at("-Order.h") && at("-Order.h") < at("struct Placed"));
        assert_eq!(text.matches("exports-a-b-i-").count(), 2);
        let (opened, closed) = (text.matches('{').count(), text.matches('}').count());
        assert_eq!(opened, closed, "{text}");
        // Outside of every namespace.
        assert!(text.contains(
            "}\n}\n}\n}\n#include \"exports-a-b-i-Order.h\"\nnamespace exports {\nnamespace a {\n"
        ));
        assert_eq!(included_in_place("#ifndef A\n#endif\n"), "#ifndef A\n#endif\n");
    }

    #[test]
    fn a_class_that_nothing_names_is_at_the_end_of_its_namespace() {
        let header = HEADER.replace("Order::Owned Open();", "").replace("Order::Owned order;", "int order;");
        let text = included_in_place(&header);
        assert!(
            text.find("int order;") < text.find("-Part.h") && text.find("-Order.h") < text.find("#endif")
        );
        let none = included_in_place("#include \"exports-i-R.h\"\n#include \"wit.h\"\n#endif\n");
        assert_eq!(none, "#include \"wit.h\"\n#include \"exports-i-R.h\"\n#endif\n");
    }

    fn refused(text: &str) -> Option<String> {
        let mut resolve = Resolve::default();
        let text = format!("package a:b; interface i {{ {text} }} world w {{ export i; }}");
        let package = resolve.push_str("a.wit", &text).unwrap();
        let world = resolve.select_world(&[package], None).unwrap();
        refuse_circles(&resolve, world).err().map(|found| found.message)
    }

    #[test]
    fn types_that_need_one_another_are_refused() {
        for text in [
            "record item { name: string } resource r { m: func(i: item) -> list<r>; s: static func(a: r, b: borrow<r>) -> r; }",
            "resource r { constructor(); } resource s { m: func(a: r, b: r); } record all { r: r, s: s }",
            "record t { n: u32 } resource r { m: func(t: t) -> tuple<t, t>; } f: func(r: r) -> option<r>;",
        ] {
            assert_eq!(refused(text), None);
        }
        let record = refused("record t { r: borrow<r> } resource r { m: func(t: list<t>); }").unwrap();
        assert!(record.contains("`r` of `a:b/i`") && record.contains("with `t`"), "{record}");
        assert!(refused("resource r { m: func(s: s); } resource s { m: func(r: borrow<r>); }").is_some());
        assert!(refused("type many = list<r>; resource r { m: func() -> many; }").is_some());
    }
}

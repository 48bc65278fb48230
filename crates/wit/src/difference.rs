//! The first place where what one component exports is not what another imports.
//!
//! Linking compares types by structure and names by text, without widening: see "Subtyping" in the Component
//! Model's `Subtyping.md`. The walk follows the import, because the exporter may well offer more.

use std::collections::HashSet;

use wit_parser::{Function, Handle, InterfaceId, Resolve, Type, TypeDefKind, TypeId};

use crate::contract::{Content, Item};
use crate::render::{function_text, type_name, type_text};

/// Where two declarations of the same thing differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The place, from the inside out: "field `qty` of record `line`, in parameter `line` of `place`".
    pub place: String,
    /// What the exporter has there; `None` when it has nothing.
    pub exported: Option<String>,
    /// What the importer has there; `None` when it has nothing.
    pub imported: Option<String>,
    /// The exporter's declarations around that place, as WIT text; empty when it has none.
    pub exporter_text: String,
    /// The importer's declarations around that place, as WIT text.
    pub importer_text: String,
    /// The declaration that holds the place, for whoever looks for it in the sources.
    pub within: Declaration,
}

/// Which declaration a difference is in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declaration {
    /// The named type that is innermost, as each side calls it: the exporter and the importer.
    pub types: Option<(String, String)>,
    /// The function, likewise.
    pub functions: Option<(String, String)>,
}

/// Compares the export `exported` with the import `imported` it shall satisfy; `None` when it fits.
pub fn first_difference(exported: &Item<'_>, imported: &Item<'_>) -> Option<Difference> {
    let mut walk = Walk {
        exporter: exported.resolve,
        importer: imported.resolve,
        equal: HashSet::new(),
        places: Vec::new(),
        functions: None,
        types: Vec::new(),
    };
    let result = match (exported.content, imported.content) {
        (Content::Interface(left), Content::Interface(right)) => walk.interface(left, right),
        (Content::Function(left), Content::Function(right)) => walk.function(left, right),
        (Content::Type(left), Content::Type(right)) => walk.ty(&Type::Id(left), &Type::Id(right)),
        _ => {
            return Some(Difference {
                place: format!("`{}`", imported.name()),
                exported: Some(exported.kind().with_article().to_owned()),
                imported: Some(imported.kind().with_article().to_owned()),
                exporter_text: exported.text(),
                importer_text: imported.text(),
                within: Declaration::default(),
            });
        }
    };
    result.err().map(|difference| *difference)
}

/// `Err` carries the difference out of the walk; equal is the common way.
type Walked = Result<(), Box<Difference>>;

struct Walk<'a> {
    exporter: &'a Resolve,
    importer: &'a Resolve,
    /// Pairs already found equal, so that a type used often is walked once.
    equal: HashSet<(TypeId, TypeId)>,
    /// Where the walk is, from the outside in.
    places: Vec<String>,
    /// The functions the walk is in.
    functions: Option<(&'a Function, &'a Function)>,
    /// The named types the walk is in, from the outside in.
    types: Vec<(TypeId, TypeId)>,
}

impl<'a> Walk<'a> {
    fn differ(&self, exported: Option<String>, imported: Option<String>) -> Walked {
        let text = |resolve: &Resolve, ty: Option<TypeId>, function: Option<&Function>| {
            let parts = [ty.map(|id| type_text(resolve, id)), function.map(|it| function_text(resolve, it))];
            parts.into_iter().flatten().collect::<Vec<_>>().join("\n")
        };
        let types = self.types.last().copied();
        Err(Box::new(Difference {
            place: self.places.iter().rev().cloned().collect::<Vec<_>>().join(", in "),
            exported,
            imported,
            exporter_text: text(self.exporter, types.map(|it| it.0), self.functions.map(|it| it.0)),
            importer_text: text(self.importer, types.map(|it| it.1), self.functions.map(|it| it.1)),
            within: self.declaration(),
        }))
    }

    fn declaration(&self) -> Declaration {
        let type_name = |resolve: &Resolve, id: TypeId| resolve.types[id].name.clone();
        Declaration {
            types: self.types.last().and_then(|(left, right)| {
                Some((type_name(self.exporter, *left)?, type_name(self.importer, *right)?))
            }),
            functions: self.functions.map(|(left, right)| (left.name.clone(), right.name.clone())),
        }
    }

    fn at(&mut self, place: String, walk: impl FnOnce(&mut Self) -> Walked) -> Walked {
        self.places.push(place);
        let walked = walk(self);
        self.places.pop();
        walked
    }

    fn interface(&mut self, exported: InterfaceId, imported: InterfaceId) -> Walked {
        let (exported, imported) = (&self.exporter.interfaces[exported], &self.importer.interfaces[imported]);
        for (name, function) in &imported.functions {
            match exported.functions.get(name) {
                Some(found) => self.function(found, function)?,
                None => {
                    let text = function_text(self.importer, function);
                    let there: Vec<_> =
                        exported.functions.values().map(|it| function_text(self.exporter, it)).collect();
                    return Err(Box::new(Difference {
                        place: format!("function `{}`", plain(name)),
                        exported: None,
                        imported: Some(text.clone()),
                        exporter_text: there.join("\n"),
                        importer_text: text,
                        within: Declaration::default(),
                    }));
                }
            }
        }
        // Types are exports of an interface too: the names the importer uses have to be there.
        for (name, id) in &imported.types {
            match exported.types.get(name) {
                Some(found) => self.ty(&Type::Id(*found), &Type::Id(*id))?,
                None => {
                    let text = type_text(self.importer, *id);
                    let there: Vec<_> =
                        exported.types.values().map(|id| type_text(self.exporter, *id)).collect();
                    return Err(Box::new(Difference {
                        place: format!("type `{name}`"),
                        exported: None,
                        imported: Some(text.clone()),
                        exporter_text: there.join("\n"),
                        importer_text: text,
                        within: Declaration::default(),
                    }));
                }
            }
        }
        Ok(())
    }

    fn function(&mut self, exported: &'a Function, imported: &'a Function) -> Walked {
        let outer = self.functions.replace((exported, imported));
        let name = plain(&imported.name).to_owned();
        if exported.kind.is_async() != imported.kind.is_async() {
            let word = |function: &Function| if function.kind.is_async() { "async func" } else { "func" };
            return self.at(format!("function `{name}`"), |walk| {
                walk.differ(Some(word(exported).to_owned()), Some(word(imported).to_owned()))
            });
        }
        for index in 0..exported.params.len().max(imported.params.len()) {
            let place = |parameter: &str| format!("parameter `{parameter}` of `{name}`");
            match (exported.params.get(index), imported.params.get(index)) {
                (Some(left), Some(right)) if left.name == right.name => {
                    self.at(place(&right.name), |walk| walk.ty(&left.ty, &right.ty))?;
                }
                (left, right) => {
                    let text = |resolve: &Resolve, it: &wit_parser::Param| {
                        format!("{}: {}", it.name, type_name(resolve, &it.ty))
                    };
                    return self.at(format!("parameter {} of `{name}`", index + 1), |walk| {
                        walk.differ(
                            left.map(|it| text(walk.exporter, it)),
                            right.map(|it| text(walk.importer, it)),
                        )
                    });
                }
            }
        }
        self.at(format!("the result of `{name}`"), |walk| {
            walk.optional(exported.result.as_ref(), imported.result.as_ref())
        })?;
        self.functions = outer;
        Ok(())
    }

    fn optional(&mut self, exported: Option<&Type>, imported: Option<&Type>) -> Walked {
        match (exported, imported) {
            (Some(left), Some(right)) => self.ty(left, right),
            (None, None) => Ok(()),
            (left, right) => self.differ(
                left.map(|ty| type_name(self.exporter, ty)),
                right.map(|ty| type_name(self.importer, ty)),
            ),
        }
    }

    fn ty(&mut self, exported: &Type, imported: &Type) -> Walked {
        let (left, right) =
            (through_aliases(self.exporter, *exported), through_aliases(self.importer, *imported));
        match (left, right) {
            (Type::Id(left), Type::Id(right)) => {
                if self.equal.contains(&(left, right)) {
                    return Ok(());
                }
                let named =
                    self.exporter.types[left].name.is_some() && self.importer.types[right].name.is_some();
                if named {
                    self.types.push((left, right));
                }
                self.definition(left, right)?;
                if named {
                    self.types.pop();
                }
                self.equal.insert((left, right));
                Ok(())
            }
            (left, right) if left == right => Ok(()),
            _ => self
                .differ(Some(described(self.exporter, exported)), Some(described(self.importer, imported))),
        }
    }

    fn definition(&mut self, left_id: TypeId, right_id: TypeId) -> Walked {
        use TypeDefKind as Kind;
        let (left, right) = (&self.exporter.types[left_id], &self.importer.types[right_id]);
        let name = right.name.as_deref().unwrap_or_default();
        match (&left.kind, &right.kind) {
            (Kind::Record(left), Kind::Record(right)) => {
                let members = |fields: &'a [wit_parser::Field]| {
                    fields.iter().map(|field| (field.name.as_str(), Some(field.ty))).collect::<Vec<_>>()
                };
                self.members(
                    "field",
                    &format!("record `{name}`"),
                    &members(&left.fields),
                    &members(&right.fields),
                )
            }
            (Kind::Variant(left), Kind::Variant(right)) => {
                let members = |cases: &'a [wit_parser::Case]| {
                    cases.iter().map(|case| (case.name.as_str(), case.ty)).collect::<Vec<_>>()
                };
                self.members(
                    "case",
                    &format!("variant `{name}`"),
                    &members(&left.cases),
                    &members(&right.cases),
                )
            }
            (Kind::Enum(left), Kind::Enum(right)) => {
                let members = |cases: &'a [wit_parser::EnumCase]| {
                    cases.iter().map(|case| (case.name.as_str(), None)).collect::<Vec<_>>()
                };
                self.members("case", &format!("enum `{name}`"), &members(&left.cases), &members(&right.cases))
            }
            (Kind::Flags(left), Kind::Flags(right)) => {
                let members = |flags: &'a [wit_parser::Flag]| {
                    flags.iter().map(|flag| (flag.name.as_str(), None)).collect::<Vec<_>>()
                };
                self.members(
                    "flag",
                    &format!("flags `{name}`"),
                    &members(&left.flags),
                    &members(&right.flags),
                )
            }
            (Kind::Tuple(left), Kind::Tuple(right)) if left.types.len() == right.types.len() => {
                for (index, (left, right)) in left.types.iter().zip(&right.types).enumerate() {
                    self.at(format!("element {} of the tuple", index + 1), |walk| walk.ty(left, right))?;
                }
                Ok(())
            }
            (Kind::List(left), Kind::List(right)) => {
                self.at("the elements of the list".to_owned(), |walk| walk.ty(left, right))
            }
            (Kind::Option(left), Kind::Option(right)) => {
                self.at("the value of the option".to_owned(), |walk| walk.ty(left, right))
            }
            (Kind::Result(left), Kind::Result(right)) => {
                self.at("the success value".to_owned(), |walk| {
                    walk.optional(left.ok.as_ref(), right.ok.as_ref())
                })?;
                self.at("the error value".to_owned(), |walk| {
                    walk.optional(left.err.as_ref(), right.err.as_ref())
                })
            }
            (Kind::Map(left_key, left), Kind::Map(right_key, right)) => {
                self.at("the keys of the map".to_owned(), |walk| walk.ty(left_key, right_key))?;
                self.at("the values of the map".to_owned(), |walk| walk.ty(left, right))
            }
            (Kind::FixedLengthList(left, a), Kind::FixedLengthList(right, b)) if a == b => {
                self.at("the elements of the list".to_owned(), |walk| walk.ty(left, right))
            }
            (Kind::Future(left), Kind::Future(right)) => self
                .at("the value of the future".to_owned(), |walk| {
                    walk.optional(left.as_ref(), right.as_ref())
                }),
            (Kind::Stream(left), Kind::Stream(right)) => self
                .at("the elements of the stream".to_owned(), |walk| {
                    walk.optional(left.as_ref(), right.as_ref())
                }),
            (Kind::Handle(Handle::Own(left)), Kind::Handle(Handle::Own(right)))
            | (Kind::Handle(Handle::Borrow(left)), Kind::Handle(Handle::Borrow(right))) => {
                self.ty(&Type::Id(*left), &Type::Id(*right))
            }
            // Resources are told apart by where they come from; here only their names can be compared.
            (Kind::Resource, Kind::Resource) if left.name == right.name => Ok(()),
            _ => self.differ(
                Some(described(self.exporter, &Type::Id(left_id))),
                Some(described(self.importer, &Type::Id(right_id))),
            ),
        }
    }

    /// Fields, cases and flags: compared by name and by position.
    fn members(
        &mut self,
        word: &str,
        of: &str,
        exported: &[(&str, Option<Type>)],
        imported: &[(&str, Option<Type>)],
    ) -> Walked {
        let text = |resolve: &Resolve, (name, ty): &(&str, Option<Type>)| match ty {
            Some(ty) if word == "field" => format!("{name}: {}", type_name(resolve, ty)),
            Some(ty) => format!("{name}({})", type_name(resolve, ty)),
            None => (*name).to_owned(),
        };
        let lacks = |members: &[(&str, Option<Type>)], name: &str| !members.iter().any(|it| it.0 == name);
        if let Some(member) = imported.iter().find(|it| lacks(exported, it.0)) {
            return self.at(format!("{word} `{}` of {of}", member.0), |walk| {
                walk.differ(None, Some(text(walk.importer, member)))
            });
        }
        if let Some(member) = exported.iter().find(|it| lacks(imported, it.0)) {
            return self.at(format!("{word} `{}` of {of}", member.0), |walk| {
                walk.differ(Some(text(walk.exporter, member)), None)
            });
        }
        let order =
            |members: &[(&str, Option<Type>)]| members.iter().map(|it| it.0).collect::<Vec<_>>().join(", ");
        if exported.iter().zip(imported).any(|(left, right)| left.0 != right.0) {
            return self.at(format!("the order of the {word}s of {of}"), |walk| {
                walk.differ(Some(order(exported)), Some(order(imported)))
            });
        }
        for (left, right) in exported.iter().zip(imported) {
            self.at(format!("{word} `{}` of {of}", right.0), |walk| {
                walk.optional(left.1.as_ref(), right.1.as_ref())
            })?;
        }
        Ok(())
    }
}

/// `[method]basket.add` as a person writes it.
fn plain(name: &str) -> &str {
    name.split_once(']').map_or(name, |(_, name)| name)
}

fn through_aliases(resolve: &Resolve, mut ty: Type) -> Type {
    while let Type::Id(id) = ty {
        match &resolve.types[id].kind {
            TypeDefKind::Type(aliased) => ty = *aliased,
            // A resource named where a value stands is an owned handle.
            _ => break,
        }
    }
    ty
}

/// The type as it is written and, where that is only a name, what it stands for.
fn described(resolve: &Resolve, ty: &Type) -> String {
    let written = type_name(resolve, ty);
    match through_aliases(resolve, *ty) {
        Type::Id(id) if resolve.types[id].name.is_some() => {
            format!("{} {written}", resolve.types[id].kind.as_str())
        }
        Type::Id(_) => written,
        primitive => {
            let meant = type_name(resolve, &primitive);
            if meant == written { written } else { format!("{written} (= {meant})") }
        }
    }
}

//! Where a declaration stands in the WIT text that a component was, perhaps, built with.
//!
//! A component carries its contract and not the text of it. The text in a folder may be newer or older; so a place is
//! given only where what stands there says the same as the component.

use tenon_model::Location;
use wit_parser::{InterfaceId, SourceMap, Span, UnresolvedPackage, UnresolvedPackageGroup};

use crate::contract::Item;

/// WIT files that were read.
#[derive(Default)]
pub struct Sources {
    groups: Vec<Group>,
}

struct Group {
    parsed: UnresolvedPackageGroup,
    /// Name and text of each file.
    files: Vec<(String, String)>,
}

impl Sources {
    /// Reads files, each with its name and its text. The files of one folder are one package; what cannot be read is
    /// passed over, for these files only help to explain.
    pub fn read(files: &[(String, String)]) -> Self {
        let folder = |file: &str| file.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        let mut sorted: Vec<&(String, String)> = files.iter().collect();
        sorted.sort_by_key(|(file, _)| (folder(file), file));
        let groups = sorted.chunk_by(|left, right| folder(&left.0) == folder(&right.0)).filter_map(|files| {
            let mut map = SourceMap::new();
            for (file, text) in files {
                map.push_str(file, text.as_str());
            }
            let parsed = map.parse().ok()?;
            Some(Group { parsed, files: files.iter().map(|it| (*it).clone()).collect() })
        });
        Self { groups: groups.collect() }
    }

    /// Where the function or the type `member` of `interface` is declared, or the part of it that is called `inner`;
    /// `None` where no text declares it in the way that the component has it.
    pub fn locate(&self, interface: &Item<'_>, member: &str, inner: Option<&str>) -> Option<Location> {
        let item = interface.function(member).or_else(|| interface.named_type(member))?;
        let declared = item.text();
        let wanted = compact(&declared[declared.find(member)?..]);
        self.groups.iter().find_map(|group| {
            let packages = std::iter::once(&group.parsed.main).chain(&group.parsed.nested);
            packages.into_iter().find_map(|package| {
                let (id, _) = package.interfaces.iter().find(|(_, it)| {
                    it.name.as_ref().is_some_and(|name| package.name.interface_id(name) == interface.name())
                })?;
                group.place(span(package, id, member)?, &wanted, inner)
            })
        })
    }
}

fn span(package: &UnresolvedPackage, interface: InterfaceId, member: &str) -> Option<Span> {
    let interface = &package.interfaces[interface];
    let function = interface.functions.get(member).map(|function| function.span);
    function.or_else(|| interface.types.get(member).map(|id| package.types[*id].span))
}

impl Group {
    fn place(&self, span: Span, wanted: &str, inner: Option<&str>) -> Option<Location> {
        let found = self.parsed.source_map.resolve_span(span)?;
        let (file, text) = self.files.iter().find(|(file, _)| file == found.path)?;
        let declaration = text.get(found.range.start..)?;
        if !compact(declaration).starts_with(wanted) {
            return None;
        }
        let within = inner.and_then(|inner| {
            let end = declaration.find('}').unwrap_or(declaration.len());
            let at = word(&declaration[..end], inner)?;
            Some(found.range.start + at..found.range.start + at + inner.len())
        });
        Some(Location::span(file, text, within.unwrap_or(found.range)))
    }
}

/// Where `word` stands on its own, after the first brace.
fn word(text: &str, word: &str) -> Option<usize> {
    let part = |character: char| character.is_ascii_alphanumeric() || character == '-';
    let body = text.find('{')?;
    text.match_indices(word).map(|(at, _)| at).find(|at| {
        let (before, after) = (text[..*at].chars().next_back(), text[at + word.len()..].chars().next());
        *at > body && !before.is_some_and(part) && !after.is_some_and(part)
    })
}

/// The text without what means nothing: blanks, comments, and punctuation that may be left out.
fn compact(text: &str) -> String {
    text.lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .flat_map(str::chars)
        .filter(|character| !character.is_whitespace() && !matches!(character, ',' | ';' | '%'))
        .collect()
}

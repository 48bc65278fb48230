//! A folder or manifest on disk, and the files it names.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tenon_compose::authority::{self, Report};
use tenon_compose::manifest::{Component, Dependency, deps_paths};
use tenon_compose::{Input, Manifest};
use tenon_model::{Authorities, Diagnostic, Diagnostics, Location};

/// The manifests a folder may have; the first one found is the folder's.
const MANIFESTS: [&str; 2] = ["tenon.toml", "composition.toml"];
/// A manifest larger than this is not one.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;
/// More WIT files of one component than this are not looked into.
const WIT_FILES_MAX: usize = 500;
/// A component larger than this is not read.
pub(crate) const COMPONENT_BYTES_MAX: u64 = 512 << 20;

/// A manifest, where it lies, and the component files that stand in for those it names.
pub(crate) struct Project {
    pub(crate) folder: PathBuf,
    pub(crate) manifest: Manifest,
    /// The manifest as it was written.
    pub(crate) text: String,
    /// Where its lock lies.
    pub(crate) lock: PathBuf,
}

/// `--dep namespace:name=FILE`: where the component of a package is.
#[derive(Clone, Debug)]
pub(crate) struct DependencyFile {
    /// `namespace:name`, perhaps with its version.
    package: String,
    file: PathBuf,
}

impl std::str::FromStr for DependencyFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((package, file)) if package.contains(':') && !file.is_empty() => {
                Ok(Self { package: package.to_owned(), file: file.into() })
            }
            _ => Err("write `namespace:name=FILE`".to_owned()),
        }
    }
}

/// Finds the components of a WAC file's packages, and keeps what was asked for.
struct Locator<'a> {
    folder: &'a Path,
    named: &'a [DependencyFile],
    /// Which of `named` were used.
    used: BTreeSet<usize>,
    /// The packages of the file.
    wanted: BTreeSet<String>,
}

impl Locator<'_> {
    /// The path of a package's component, relative to the folder: as it was named, else in the folder `deps`.
    fn locate(&mut self, wanted: &Dependency) -> Option<String> {
        let exactly = wanted.to_string();
        let mut named = self.named.iter().enumerate();
        let named = named.find(|(_, it)| it.package == exactly || it.package == wanted.name);
        self.wanted.insert(exactly);
        if let Some((index, named)) = named {
            self.used.insert(index);
            // A file on the command line is named from where the person stands.
            return Some(show(&std::path::absolute(&named.file).unwrap_or_else(|_| named.file.clone())));
        }
        deps_paths(wanted).into_iter().find(|path| self.folder.join(path).is_file())
    }

    /// Files that were named for nothing.
    fn unused(&self, file: &Path) -> Vec<Diagnostic> {
        let unused = self.named.iter().enumerate().filter(|(index, _)| !self.used.contains(index));
        let wanted = self.wanted.iter().map(String::as_str).collect::<Vec<_>>().join("\n");
        unused
            .map(|(_, named)| {
                let what = format!("`--dep {}` is for no package that needs a file", named.package);
                Diagnostic::new("unused-dependency", what)
                    .at(Location::file(show(file)))
                    .note("packages of the file", &wanted)
                    .mend("Name one of these, each once, or leave it out.")
            })
            .collect()
    }
}

/// `tenon.lock` for a folder's own manifest; beside another one, a lock of its own name, which is not that of a WAC file
/// called alike.
fn lock_file(manifest: &Path) -> PathBuf {
    let is_own = manifest.file_name().is_some_and(|name| MANIFESTS.iter().any(|own| name == *own));
    match is_own {
        true => manifest.with_file_name("tenon.lock"),
        false if is_wac(manifest) => manifest.with_extension("wac.lock"),
        false => manifest.with_extension("lock"),
    }
}

fn is_wac(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "wac")
}

/// Whether a path names a manifest: a folder that has one, or a file in one of the two forms.
pub(crate) fn is_manifest(path: &Path) -> bool {
    path.is_dir() || path.extension().is_some_and(|extension| extension == "toml" || extension == "wac")
}

impl Project {
    /// The manifest of a folder, or a manifest file itself.
    pub(crate) fn open(path: &Path) -> Result<Self, Diagnostics> {
        Self::open_with(path, &[])
    }

    /// The same; `dependencies` says where packages of a WAC file are, before its folder `deps` is looked into.
    pub(crate) fn open_with(path: &Path, dependencies: &[DependencyFile]) -> Result<Self, Diagnostics> {
        let file = if path.is_dir() { find_manifest(path)? } else { path.to_owned() };
        let text = String::from_utf8(read(&file, MANIFEST_BYTES_MAX)?).map_err(|_| {
            Diagnostic::new("invalid-manifest", "the manifest is not UTF-8 text")
                .at(Location::file(show(&file)))
        })?;
        let folder = match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let is_wac = is_wac(&file);
        if !is_wac && let Some(first) = dependencies.first() {
            return Err(Diagnostic::new(
                "unused-dependency",
                format!("`--dep {}` means nothing here", first.package),
            )
            .at(Location::file(show(&file)))
            .mend("Packages are what a WAC file is made of; a manifest names each file with `path`.")
            .into());
        }
        let manifest = match is_wac {
            true => {
                let mut locator = Locator {
                    folder: &folder,
                    named: dependencies,
                    used: BTreeSet::new(),
                    wanted: BTreeSet::new(),
                };
                let manifest =
                    Manifest::parse_wac(&show(&file), &text, &mut |wanted| locator.locate(wanted))?;
                Diagnostics::check(locator.unused(&file))?;
                manifest
            }
            false => Manifest::parse(&show(&file), &text)?,
        };
        Ok(Self { lock: lock_file(&file), folder, manifest, text })
    }

    /// What people call the app: the manifest's name, else the folder's.
    pub(crate) fn name(&self) -> String {
        self.manifest.name.clone().unwrap_or_else(|| {
            let folder = fs::canonicalize(&self.folder).unwrap_or_else(|_| self.folder.clone());
            folder.file_name().map_or_else(|| "app".into(), |name| name.to_string_lossy().into_owned())
        })
    }

    /// Where a component's file lies.
    pub(crate) fn path(&self, component: &Component) -> PathBuf {
        self.folder.join(&component.path)
    }

    /// Who may do what, with the granted directories found: a directory is named from where the manifest lies.
    pub(crate) fn authorities(&self) -> Result<Authorities, Diagnostics> {
        let mut authorities = self.manifest.authorities.clone();
        let mut found = Vec::new();
        let parts = authorities.parts.iter_mut().map(|(name, authority)| (Some(name.as_str()), authority));
        for (part, authority) in std::iter::once((None, &mut authorities.whole)).chain(parts) {
            for grant in &mut authority.grants.filesystem {
                match fs::canonicalize(self.folder.join(&grant.directory)) {
                    Ok(directory) if directory.is_dir() => grant.directory = show(&directory),
                    Ok(_) => found.push(self.no_directory(part, &grant.directory, "it is not a directory")),
                    Err(error) => found.push(self.no_directory(part, &grant.directory, &error.to_string())),
                }
            }
        }
        Diagnostics::check(found)?;
        // Of a component alone, what it imports under the plain names is its own too.
        if let (1, Some(only)) = (authorities.parts.len(), authorities.parts.values().next()) {
            authorities.whole = only.clone();
        }
        Ok(authorities)
    }

    fn no_directory(&self, part: Option<&str>, directory: &str, cause: &str) -> Diagnostic {
        let to = part.map_or_else(String::new, |part| format!(" to `{part}`"));
        Diagnostic::new(
            "grant-directory",
            format!("the directory `{directory}`, granted{to}, cannot be used: {cause}"),
        )
        .at(Location::file(self.manifest.file.clone()))
        .mend(format!("mkdir -p {}", self.folder.join(directory).display()))
    }

    /// What each component may touch.
    pub(crate) fn authority(&self) -> Result<Report, Diagnostics> {
        let files = self.files(&[])?;
        authority::of_manifest(&self.manifest, &inputs(&files))
    }

    /// Reads the components. A file of `stand_ins` takes the place of the component's whose `path` ends in the same
    /// file name.
    pub(crate) fn files(&self, stand_ins: &[PathBuf]) -> Result<Vec<ComponentFile>, Diagnostics> {
        let (files, found) = self.readable_files(stand_ins);
        Diagnostics::check(found)?;
        Ok(files)
    }

    /// Those that can be read, and what is wrong with the others.
    pub(crate) fn readable_files(&self, stand_ins: &[PathBuf]) -> (Vec<ComponentFile>, Vec<Diagnostic>) {
        let mut found = self.unused(stand_ins);
        let mut files = Vec::new();
        for component in &self.manifest.components {
            let own = self.path(component);
            let file = stand_ins.iter().find(|file| file.file_name() == own.file_name()).unwrap_or(&own);
            let current =
                |bytes: Vec<u8>| tenon_wit::require_released_wasi(&show(file), &bytes).map(|()| bytes);
            match read(file, COMPONENT_BYTES_MAX).and_then(current) {
                Ok(bytes) => {
                    let wit = self.wit(component);
                    files.push(ComponentFile {
                        component: component.name.clone(),
                        file: show(file),
                        bytes,
                        wit,
                    });
                }
                Err(diagnostic) => found.push(self.explain_missing(component, diagnostic)),
            }
        }
        (files, found)
    }

    /// The WIT files of a component's contracts, to show where something is declared; what cannot be read is left out.
    fn wit(&self, component: &Component) -> Vec<(String, String)> {
        let beside_source = component.source.as_ref().map(|source| self.folder.join(source).join("wit"));
        let folders = match &component.wit {
            Some(wit) => vec![self.folder.join(wit)],
            None => std::iter::once(self.folder.join("wit")).chain(beside_source).collect(),
        };
        let Some(folder) = folders.into_iter().find(|folder| folder.is_dir()) else { return Vec::new() };
        let deps =
            fs::read_dir(folder.join("deps")).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut files = Vec::new();
        for folder in std::iter::once(folder.clone()).chain(deps.take(WIT_FILES_MAX)) {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
            for file in entries.filter(|file| file.extension().is_some_and(|it| it == "wit")) {
                if files.len() >= WIT_FILES_MAX {
                    return files;
                }
                if let Some(text) =
                    read(&file, MANIFEST_BYTES_MAX).ok().and_then(|it| String::from_utf8(it).ok())
                {
                    files.push((show(&file), text));
                }
            }
        }
        files
    }

    /// Files given that no component's `path` is named like, and files that two of them are.
    fn unused(&self, stand_ins: &[PathBuf]) -> Vec<Diagnostic> {
        let names = |component: &Component| self.path(component).file_name().map(ToOwned::to_owned);
        stand_ins
            .iter()
            .filter(|file| !self.manifest.components.iter().any(|component| names(component).as_deref() == file.file_name()))
            .map(|file| {
                let expected: Vec<_> = self.manifest.components.iter().map(|component| component.path.as_str()).collect();
                Diagnostic::new("unused-file", format!("`{}` stands in for no component", show(file)))
                    .at(Location::file(self.manifest.file.clone()))
                    .note("files of the manifest", expected.join("\n"))
                    .mend("a file given on the command line takes the place of the component whose `path` has the same file name")
            })
            .collect()
    }

    fn explain_missing(&self, component: &Component, mut diagnostic: Diagnostic) -> Diagnostic {
        if diagnostic.code == "file-missing" {
            diagnostic.message =
                format!("the file of component `{}` is missing: {}", component.name, diagnostic.message);
            diagnostic.at = Some(component.path_at.clone().unwrap_or_else(|| component.at.clone()));
            diagnostic.mend = Some(match &component.source {
                Some(_) => format!("tenon build {}", self.folder.display()),
                None => format!("put the component there, or name another `path` for `{}`", component.name),
            });
        }
        diagnostic
    }
}

/// A component of a manifest, read.
pub(crate) struct ComponentFile {
    pub(crate) component: String,
    pub(crate) file: String,
    pub(crate) bytes: Vec<u8>,
    /// Its contracts as text, as far as they lie beside it.
    pub(crate) wit: Vec<(String, String)>,
}

/// What is composed of them.
pub(crate) fn inputs(files: &[ComponentFile]) -> Vec<Input<'_>> {
    files
        .iter()
        .map(|it| Input { component: &it.component, file: &it.file, bytes: &it.bytes, wit: &it.wit })
        .collect()
}

/// The manifest of a folder.
fn find_manifest(folder: &Path) -> Result<PathBuf, Diagnostic> {
    MANIFESTS.iter().map(|name| folder.join(name)).find(|file| file.is_file()).ok_or_else(|| {
        Diagnostic::new(
            "no-manifest",
            format!("`{}` has neither a tenon.toml nor a composition.toml", folder.display()),
        )
        .at(Location::file(folder.display().to_string()))
        .mend("name a folder that has one, or a component file")
    })
}

/// Whether a folder has a manifest.
pub(crate) fn has_manifest(folder: &Path) -> bool {
    MANIFESTS.iter().any(|name| folder.join(name).is_file())
}

/// A file, whole.
pub(crate) fn read(file: &Path, bytes_max: u64) -> Result<Vec<u8>, Diagnostic> {
    let at = || Location::file(show(file));
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Diagnostic::new("file-missing", format!("there is no file `{}`", show(file)))
                .at(at())
                .mend("check the path")
        }
        _ => Diagnostic::new("cannot-read", format!("`{}` cannot be read: {error}", show(file))).at(at()),
    };
    let length = fs::metadata(file).map_err(unreadable)?.len();
    if length > bytes_max {
        let limit = tenon_model::format_bytes(bytes_max);
        return Err(
            Diagnostic::new("file-too-large", format!("`{}` is larger than {limit}", show(file))).at(at())
        );
    }
    fs::read(file).map_err(unreadable)
}

/// Where the debug information of a component's file lies when it is not in it.
pub(crate) fn side_file(component: &Path) -> PathBuf {
    let mut file = component.as_os_str().to_owned();
    file.push(".debug");
    file.into()
}

/// Writes a file whole or not at all. A link stays one, and a file that was there keeps its permissions.
pub(crate) fn write(file: &Path, bytes: &[u8]) -> Result<(), Diagnostic> {
    let unwritable = |error: std::io::Error| {
        Diagnostic::new("cannot-write", format!("`{}` cannot be written: {error}", show(file)))
            .at(Location::file(show(file)))
            .mend("make its folder writable, or choose another place")
    };
    let there = fs::metadata(file).ok();
    if there.as_ref().is_some_and(|there| !there.is_file()) {
        // A pipe or a device, which nothing can take the place of.
        return fs::write(file, bytes).map_err(unwritable);
    }
    let target = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(unwritable)?;
    let partial = folder.join(format!(
        ".{}.{}.partial",
        target.file_name().unwrap_or_default().to_string_lossy(),
        std::process::id()
    ));
    fs::write(&partial, bytes)
        .and_then(|()| there.map_or(Ok(()), |there| fs::set_permissions(&partial, there.permissions())))
        .and_then(|()| fs::rename(&partial, &target))
        .map_err(|error| {
            let _ = fs::remove_file(&partial);
            unwritable(error)
        })
}

fn show(file: &Path) -> String {
    file.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_link_stays_one_and_permissions_stay() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let root = tempfile::tempdir().unwrap();
        let (file, link) = (root.path().join("file"), root.path().join("link"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("file", &link).unwrap();
        write(&link, b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 2, "nothing is left beside them");
        assert_eq!(write(root.path(), b"").unwrap_err().code, "cannot-write");
    }

    #[test]
    fn each_form_has_a_lock_of_its_own() {
        let name = |manifest: &str| show(&lock_file(Path::new(manifest)));
        assert_eq!(name("a/tenon.toml"), "a/tenon.lock");
        assert_eq!(
            (name("a/shop.toml"), name("a/shop.wac")),
            ("a/shop.lock".into(), "a/shop.wac.lock".into())
        );
    }
}

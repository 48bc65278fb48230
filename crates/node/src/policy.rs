//! What of the node itself a tenant's apps may be granted. A manifest asks; the operator allows, or it is refused.

use std::fs;
use std::path::{Path, PathBuf};

use tenon_model::{Authorities, Authority, Diagnostic, Diagnostics, StoreName, TenantId};

/// Something of the node that is nobody's unless it was allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// This directory, and what is below it.
    Directory(PathBuf),
    /// HTTP to private, loopback and link-local addresses.
    PrivateAddresses,
    /// Sockets: which addresses a name stands for is not known beforehand.
    Sockets,
    /// Redis servers.
    Redis,
}

const WORDS: &str = "`directory:/srv/acme`, `private-addresses`, `sockets` or `redis`";

/// Reads what an operator allows.
pub(crate) fn read(allow: &[String]) -> Result<Vec<Allowed>, Diagnostic> {
    let one = |word: &String| match word.as_str() {
        "private-addresses" => Ok(Allowed::PrivateAddresses),
        "sockets" => Ok(Allowed::Sockets),
        "redis" => Ok(Allowed::Redis),
        word => match word.strip_prefix("directory:").map(Path::new) {
            Some(path) if path.is_absolute() => Ok(Allowed::Directory(path.to_owned())),
            _ => Err(Diagnostic::new("admin-request", format!("`{word}` cannot be allowed"))
                .mend(format!("write {WORDS}"))),
        },
    };
    allow.iter().map(one).collect()
}

/// What these apps were granted, if all of it is allowed; with the directories as they really are.
pub(crate) fn permit(
    tenant: &TenantId,
    allowed: &[Allowed],
    authorities: &Authorities,
) -> Result<Authorities, Diagnostics> {
    let mut permitted = authorities.clone();
    let mut found = Vec::new();
    let parts = permitted.parts.iter_mut().map(|(name, authority)| (Some(name.as_str()), authority));
    for (part, authority) in std::iter::once((None, &mut permitted.whole)).chain(parts) {
        check(tenant, allowed, part.unwrap_or("the app"), authority, &mut found);
    }
    Diagnostics::check(found)?;
    Ok(permitted)
}

fn check(
    tenant: &TenantId,
    allowed: &[Allowed],
    part: &str,
    authority: &mut Authority,
    found: &mut Vec<Diagnostic>,
) {
    let mut refuse = |what: String, word: String| {
        found.push(
            Diagnostic::new("grant-not-allowed", format!("`{part}` is granted {what}, which `{tenant}` may not give away"))
                .note("allowed", listed(allowed))
                .mend(format!(
                    "remove the grant from the manifest; or have whoever runs the node allow it:\n    tenon tenant set {tenant} --allow {word}"
                )),
        );
    };
    let grants = &mut authority.grants;
    for grant in &mut grants.filesystem {
        match inside(allowed, Path::new(&grant.directory)) {
            Some(real) => grant.directory = real.display().to_string(),
            None => refuse(
                format!("the directory `{}` of the node", grant.directory),
                format!("directory:{}", grant.directory),
            ),
        }
    }
    if grants.http.iter().any(|grant| grant.private) && !allowed.contains(&Allowed::PrivateAddresses) {
        refuse("requests to private addresses".into(), "private-addresses".into());
    }
    if !grants.sockets.is_empty() && !allowed.contains(&Allowed::Sockets) {
        refuse("sockets".into(), "sockets".into());
    }
    let is_outside = |store: &StoreName| matches!(store, StoreName::Redis(_));
    if grants.keyvalue.iter().any(|grant| is_outside(&grant.store)) && !allowed.contains(&Allowed::Redis) {
        refuse("a bucket in a Redis server".into(), "redis".into());
    }
}

/// The directory with all links resolved, if it is within one that is allowed.
fn inside(allowed: &[Allowed], directory: &Path) -> Option<PathBuf> {
    let real = fs::canonicalize(directory).ok().filter(|real| real.is_dir())?;
    allowed.iter().find_map(|it| match it {
        Allowed::Directory(root) => {
            fs::canonicalize(root).ok().filter(|root| real.starts_with(root)).map(|_| real.clone())
        }
        _ => None,
    })
}

fn listed(allowed: &[Allowed]) -> String {
    let words: Vec<String> = allowed
        .iter()
        .map(|it| match it {
            Allowed::Directory(root) => format!("directory:{}", root.display()),
            Allowed::PrivateAddresses => "private-addresses".into(),
            Allowed::Sockets => "sockets".into(),
            Allowed::Redis => "redis".into(),
        })
        .collect();
    if words.is_empty() { "nothing of the node".into() } else { words.join(", ") }
}

#[cfg(test)]
mod tests {
    use tenon_model::{
        Access, BucketGrant, DirectoryGrant, HostPattern, HttpGrant, HttpScheme, SocketDirection,
        SocketGrant, SocketProtocol,
    };

    use super::*;

    fn acme() -> TenantId {
        "acme".parse().unwrap()
    }

    fn with(change: impl FnOnce(&mut tenon_model::Grants)) -> Authorities {
        let mut authorities = Authorities::default();
        let part = authorities.parts.entry("part".into()).or_default();
        change(&mut part.grants);
        authorities
    }

    fn directory(path: &Path) -> Authorities {
        with(|grants| {
            grants.filesystem.push(DirectoryGrant {
                directory: path.display().to_string(),
                at: "/data".into(),
                access: Access::Read,
            });
        })
    }

    /// Refused without the word, permitted with it.
    fn twins(authorities: &Authorities, word: &str) {
        let refused = permit(&acme(), &[], authorities).unwrap_err();
        assert!(refused.iter().all(|it| it.code == "grant-not-allowed"), "{refused}");
        assert!(refused.to_string().contains(&format!("--allow {word}")), "{refused}");
        let others = ["private-addresses", "sockets", "redis"].into_iter().filter(|it| *it != word);
        let others: Vec<String> = others.map(str::to_owned).collect();
        assert!(permit(&acme(), &read(&others).unwrap(), authorities).is_err());
        permit(&acme(), &read(&[word.to_owned()]).unwrap(), authorities).unwrap();
    }

    #[test]
    fn nothing_of_the_node_is_granted_that_was_not_allowed() {
        let private = |private| {
            with(|grants| {
                grants.http.push(HttpGrant {
                    scheme: HttpScheme::Http,
                    host: HostPattern::Any,
                    port: 80,
                    path: "/".into(),
                    private,
                });
            })
        };
        permit(&acme(), &[], &private(false)).unwrap();
        twins(&private(true), "private-addresses");
        twins(
            &with(|grants| {
                grants.sockets.push(SocketGrant {
                    protocol: SocketProtocol::Tcp,
                    direction: SocketDirection::Connect,
                    host: "127.0.0.1".into(),
                    ports: (8081, 8081),
                });
            }),
            "sockets",
        );
        let bucket = |store| {
            with(|grants| {
                grants.keyvalue.push(BucketGrant { bucket: "b".into(), store, access: Access::Read });
            })
        };
        permit(&acme(), &[], &bucket(StoreName::Embedded)).unwrap();
        twins(&bucket(StoreName::Redis("redis://h/0".into())), "redis");
    }

    #[test]
    fn a_directory_is_granted_within_one_that_was_allowed_and_links_do_not_lead_out() {
        let root = tempfile::tempdir().unwrap();
        let (inner, outer) = (root.path().join("acme/inner"), root.path().join("acme-2"));
        fs::create_dir_all(&inner).unwrap();
        fs::create_dir_all(&outer).unwrap();
        std::os::unix::fs::symlink(&outer, root.path().join("acme/link")).unwrap();
        let allowed = [Allowed::Directory(root.path().join("acme"))];
        twins(&directory(&inner), &format!("directory:{}", inner.display()));
        let permitted =
            permit(&acme(), &allowed, &directory(&root.path().join("acme/../acme/inner"))).unwrap();
        let real = fs::canonicalize(&inner).unwrap().display().to_string();
        assert_eq!(permitted.parts["part"].grants.filesystem[0].directory, real);
        for out in ["acme-2", "acme/link", "acme/..", "acme/none"] {
            assert!(permit(&acme(), &allowed, &directory(&root.path().join(out))).is_err(), "{out}");
        }
    }

    #[test]
    fn what_cannot_be_allowed_is_said() {
        for word in ["directory:relative", "directory:", "everything", ""] {
            assert_eq!(read(&[word.to_owned()]).unwrap_err().code, "admin-request", "{word}");
        }
    }
}

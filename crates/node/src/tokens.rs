//! Tokens: who may use the admin API, and for what.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tenon_model::{Diagnostic, Location, TenantId};
use tenon_state::Desired;
use tenon_state::desired::{By, TokenRecord};

use crate::wire::Verb;

/// How a token begins, so that it is found where it should not be.
const PREFIX: &str = "tenon_";
/// Random bytes of a token's name, and of its secret.
const ID_BYTES: usize = 6;
const SECRET_BYTES: usize = 32;
/// The token of whoever runs the node.
const FILE: &str = "admin-token";
/// How often the node says that it has made a token whose file could not be written.
const ROOT_NOTE: &str = "made at the first start";

/// Whoever has shown a token that is valid.
#[derive(Clone, Debug)]
pub(crate) struct Bearer {
    /// The token's name.
    pub(crate) token: String,
    /// Its tenant; `None` for all.
    pub(crate) tenant: Option<TenantId>,
    /// What it allows.
    pub(crate) verb: Verb,
    /// What the secret that was shown hashes to.
    shown: blake3::Hash,
}

/// A token that was made: its name, what is shown once, and what is kept.
pub(crate) struct Fresh {
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) hash: String,
}

impl Fresh {
    /// A token of a new name, or a new secret for one that has a name.
    pub(crate) fn new(id: Option<&str>) -> Result<Self, getrandom::Error> {
        let mut random = [0; ID_BYTES + SECRET_BYTES];
        getrandom::fill(&mut random)?;
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let (name, secret) = random.split_at(ID_BYTES);
        let id = id.map_or_else(|| hex(name), str::to_owned);
        let secret = format!("{PREFIX}{id}_{}", hex(secret));
        let hash = hash(&secret).to_hex().to_string();
        Ok(Self { id, secret, hash })
    }
}

/// A secret has more randomness than anybody can try: one hash is enough.
fn hash(secret: &str) -> blake3::Hash {
    blake3::derive_key("tenon admin token v1", secret.as_bytes()).into()
}

/// Who has this secret, if it is valid at that time.
pub(crate) fn bearer(desired: &Desired, secret: &str, now: u64) -> Option<Bearer> {
    let (id, _) = secret.strip_prefix(PREFIX)?.split_once('_')?;
    let record = desired.token(id)?;
    let shown = hash(secret);
    if !is_valid(&record, &shown, now) {
        return None;
    }
    let verb = verb(&record.verb)?;
    Some(Bearer { token: record.id.clone(), tenant: record.tenant.clone(), verb, shown })
}

/// Whether this is a secret of the token, and of now.
fn is_valid(record: &TokenRecord, shown: &blake3::Hash, now: u64) -> bool {
    // `blake3::Hash` compares in constant time.
    let is = |kept: &str| blake3::Hash::from_hex(kept).is_ok_and(|kept| kept == *shown);
    let before = record.before.as_ref().is_some_and(|(kept, until)| now < *until && is(kept));
    (is(&record.hash) || before) && record.expires.is_none_or(|expires| now < expires)
}

impl Bearer {
    /// Whether what was shown is valid still: the token may have been made invalid since, or have another secret.
    pub(crate) fn is_valid(&self, desired: &Desired, now: u64) -> bool {
        desired.token(&self.token).is_some_and(|record| is_valid(&record, &self.shown, now))
    }
}

/// What a token allows, as it is kept.
pub(crate) fn verb(text: &str) -> Option<Verb> {
    match text {
        "read" => Some(Verb::Read),
        "deploy" => Some(Verb::Deploy),
        "admin" => Some(Verb::Admin),
        _ => None,
    }
}

/// The same, to be kept.
pub(crate) fn verb_text(verb: Verb) -> &'static str {
    match verb {
        Verb::Read => "read",
        Verb::Deploy => "deploy",
        Verb::Admin => "admin",
    }
}

/// At the first start: makes a token for everything and writes it into a file that only this user can read. `None` when
/// there is an admin's token already, and where nothing can be written: what is deployed is served without it.
pub(crate) fn first(desired: &Desired, folder: &Path, now: u64) -> Result<Option<PathBuf>, Diagnostic> {
    let is_root = |token: &Arc<TokenRecord>| token.tenant.is_none() && token.verb == "admin";
    let file = folder.join(FILE);
    if desired.tokens().iter().any(is_root) || desired.unwritable().is_some() {
        return Ok(None);
    }
    let unwritable = |error: std::io::Error| {
        Diagnostic::new("data-directory", format!("the first token cannot be written: {error}"))
            .at(Location::file(file.display().to_string()))
            .mend("see that the disk has room; the node makes another at its next start")
    };
    let Fresh { id, secret, hash } = Fresh::new(None).map_err(|error| unwritable(error.into()))?;
    let token = TokenRecord {
        id,
        tenant: None,
        verb: verb_text(Verb::Admin).into(),
        hash,
        before: None,
        created: now,
        expires: None,
        note: ROOT_NOTE.into(),
    };
    // The file first: a token that nobody has is of no use, and a file of no token is written over.
    let partial = folder.join(format!(".{FILE}.partial"));
    let written = || -> std::io::Result<()> {
        let mut out =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        writeln!(out, "{secret}")?;
        out.sync_all()?;
        fs::rename(&partial, &file)?;
        fs::File::open(folder)?.sync_all()
    };
    written().map_err(unwritable)?;
    desired.create_token(By { who: "node", at: now }, token).map_err(|error| {
        Diagnostic::new("state-failed", "the first token cannot be kept").note("cause", error.to_string())
    })?;
    Ok(Some(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_what_was_made_until_its_time_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let desired = Desired::open(folder.path()).unwrap();
        let file = first(&desired, folder.path(), 1_000).unwrap().unwrap();
        assert!(first(&desired, folder.path(), 1_000).unwrap().is_none());
        let secret = fs::read_to_string(&file).unwrap().trim().to_owned();
        let found = bearer(&desired, &secret, 1_000).unwrap();
        assert_eq!((found.tenant, found.verb), (None, Verb::Admin));
        // At rest there is only a hash.
        let kept = fs::read(folder.path().join("state.redb")).unwrap();
        let hidden = secret.rsplit('_').next().unwrap();
        assert!(!kept.windows(hidden.len()).any(|window| window == hidden.as_bytes()));
        for wrong in ["", "tenon_", &secret[..secret.len() - 1], &secret.replace("tenon_", "tenon_0"), hidden]
        {
            assert!(bearer(&desired, wrong, 1_000).is_none(), "{wrong}");
        }

        // Rotated: the old secret for as long as was said, the new one from now on.
        let record = TokenRecord::clone(&desired.token(&found.token).unwrap());
        let by = By { who: "test", at: 0 };
        desired.create_token(by, TokenRecord { expires: Some(3_000), ..record }).unwrap();
        let new = Fresh::new(Some(&found.token)).unwrap();
        desired.rotate_token(by, &found.token, &new.hash, 2_000).unwrap();
        let valid = |secret: &str, now| bearer(&desired, secret, now).is_some();
        assert_eq!([valid(&secret, 1_999), valid(&secret, 2_000)], [true, false]);
        assert_eq!([valid(&new.secret, 2_999), valid(&new.secret, 3_000)], [true, false]);

        // Without such a time the old one is not valid at any: a clock that is set back does not bring it back.
        let newest = Fresh::new(Some(&found.token)).unwrap();
        desired.rotate_token(By { who: "test", at: 2_500 }, &found.token, &newest.hash, 2_500).unwrap();
        for now in [0, 1_999, 2_499, 2_500] {
            assert_eq!([valid(&secret, now), valid(&new.secret, now)], [false, false], "at {now}");
            assert!(valid(&newest.secret, now));
        }

        // Who has shown one is known by it no longer than it is valid.
        let old = bearer(&desired, &newest.secret, 0).unwrap();
        let last = Fresh::new(Some(&found.token)).unwrap();
        desired.rotate_token(By { who: "test", at: 2_600 }, &found.token, &last.hash, 2_800).unwrap();
        assert_eq!([old.is_valid(&desired, 2_799), old.is_valid(&desired, 2_800)], [true, false]);
        let new = bearer(&desired, &last.secret, 0).unwrap();
        desired.delete_token(by, &found.token).unwrap();
        assert!(!new.is_valid(&desired, 2_000));
    }
}

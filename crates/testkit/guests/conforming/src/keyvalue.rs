//! `wasi:keyvalue`, in an empty bucket `default`.

wit_bindgen::generate!({ path: "../../../engine/wit/keyvalue", world: "wasi:keyvalue/imports" });

use wasi::keyvalue::store::{self, Error};
use wasi::keyvalue::{atomics, batch};

use faults::Checks;

pub fn check(checks: &mut Checks) {
    checks.holds(
        "a bucket that was not granted",
        matches!(store::open("none"), Err(Error::AccessDenied)),
        "another error",
    );
    let Ok(bucket) = store::open("default") else {
        return checks.holds("a bucket is opened", false, "it is not");
    };
    let shown = |result: Result<Option<Vec<u8>>, Error>| result.map_err(|error| format!("{error:?}"));
    checks.same("no value", shown(bucket.get("none")), Ok(None));
    checks.holds("a value is set", bucket.set("k", b"v").is_ok(), "it is not");
    checks.same("and read", shown(bucket.get("k")), Ok(Some(b"v".to_vec())));
    checks.holds(
        "an empty value is a value",
        bucket.set("k", b"").is_ok() && shown(bucket.get("k")) == Ok(Some(vec![])),
        "it is not",
    );
    checks.same("it is there", bucket.exists("k").ok(), Some(true));
    checks.holds(
        "and deleted",
        bucket.delete("k").is_ok() && bucket.exists("k").ok() == Some(false),
        "it is not",
    );
    checks.holds("what is not there can be deleted", bucket.delete("k").is_ok(), "it cannot");

    for number in 0..2_500_u32 {
        if number % 500 == 0 {
            let pairs: Vec<_> =
                (number..number + 500).map(|number| (format!("page-{number:04}"), vec![1])).collect();
            checks.holds("many are set at once", batch::set_many(&bucket, &pairs).is_ok(), "they are not");
        }
    }
    let (mut seen, mut cursor, mut pages) = (Vec::new(), None, 0);
    while pages < 10 {
        let Ok(page) = bucket.list_keys(cursor.as_deref()) else { break };
        pages += 1;
        seen.extend(page.keys);
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    seen.sort();
    let expected: Vec<_> = (0..2_500).map(|number| format!("page-{number:04}")).collect();
    checks.holds(
        "all keys are listed once, page by page",
        seen == expected && pages > 1,
        &format!("{} in {pages}", seen.len()),
    );
    let wanted = ["page-0001".to_owned(), "none".into(), "page-0000".into()];
    let found = batch::get_many(&bucket, &wanted)
        .map(|found| found.into_iter().map(|it| it.map(|it| it.0)).collect::<Vec<_>>());
    checks.same(
        "many are read in the order asked for",
        found.ok(),
        Some(vec![Some("page-0001".into()), None, Some("page-0000".into())]),
    );
    for first in (0..2_500).step_by(500) {
        let keys: Vec<_> = (first..first + 500).map(|number| format!("page-{number:04}")).collect();
        let _ = batch::delete_many(&bucket, &keys);
    }
    checks.same("many are deleted at once", bucket.list_keys(None).map(|it| it.keys.len()).ok(), Some(0));

    checks.same("a number begins at nothing", atomics::increment(&bucket, "n", 5).ok(), Some(5));
    checks.same("goes up and down", atomics::increment(&bucket, "n", -7).ok(), Some(-2));
    let _ = bucket.set("text", b"seven");
    checks.holds("text is no number", atomics::increment(&bucket, "text", 1).is_err(), "it is");
    checks.same("no number is added beyond 64 bits", atomics::increment(&bucket, "n", i64::MIN).ok(), None);
    checks.same("and the value stays", shown(bucket.get("n")), Ok(Some(b"-2".to_vec())));

    let Ok(cas) = atomics::Cas::new(&bucket, "text") else {
        return checks.holds("a handle to swap", false, "none");
    };
    checks.same("it has the value", shown(cas.current()), Ok(Some(b"seven".to_vec())));
    checks.holds("an unchanged value is swapped", atomics::swap(cas, b"eight").is_ok(), "it is not");
    if let Ok(cas) = atomics::Cas::new(&bucket, "text") {
        let _ = bucket.set("text", b"changed");
        match atomics::swap(cas, b"nine") {
            Err(atomics::CasError::CasFailed(again)) => {
                checks.same(
                    "a changed one is not, and is told",
                    shown(again.current()),
                    Ok(Some(b"changed".to_vec())),
                );
                checks.holds("and then it is", atomics::swap(again, b"nine").is_ok(), "it is not");
            }
            other => checks.holds("a changed value is not swapped", false, &format!("{other:?}")),
        }
    }
    if let Ok(cas) = atomics::Cas::new(&bucket, "absent") {
        checks.holds("nothing is swapped for a value", atomics::swap(cas, b"there").is_ok(), "it is not");
    }
    checks.same("which is there", shown(bucket.get("absent")), Ok(Some(b"there".to_vec())));
    let _ = batch::delete_many(&bucket, &["absent".into(), "text".into(), "n".into()]);
}

//! "Did you mean": the candidate a person most likely meant.

/// The candidate nearest to `given` by edit distance, when it is near enough to be worth suggesting: at most a
/// third of the letters differ, or one is the other without a prefix.
pub fn most_similar<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (distance(given, candidate), candidate))
        .filter(|(distance, candidate)| {
            *distance <= given.chars().count().max(candidate.chars().count()).div_ceil(3)
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// The `count` candidates nearest to `given`, the nearest first, however far they are.
pub fn nearest<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>, count: usize) -> Vec<&'a str> {
    let mut ranked: Vec<_> =
        candidates.into_iter().map(|candidate| (distance(given, candidate), candidate)).collect();
    ranked.sort_unstable();
    ranked.into_iter().take(count).map(|(_, candidate)| candidate).collect()
}

/// Levenshtein distance over characters, one row at a time.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, letter) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for column in 0..right.len() {
            let replaced = diagonal + usize::from(letter != right[column]);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_only_what_is_near() {
        assert_eq!(most_similar("import", ["imports", "path", "export"]), Some("imports"));
        assert_eq!(most_similar("exprot", ["imports", "path", "export"]), Some("export"));
        assert_eq!(most_similar("zzzz", ["imports", "path", "export"]), None);
        assert_eq!(most_similar("x", []), None);
    }

    #[test]
    fn the_nearest_come_first() {
        assert_eq!(nearest("/a/bc", ["/x/y", "/a/b", "/a/bcd"], 2), ["/a/b", "/a/bcd"]);
    }

    #[test]
    fn distances() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }
}

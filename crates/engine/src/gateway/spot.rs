//! Looking at JSON text without making values of it.

/// Whether the text has at most `max` values, counted by what separates and opens them; text that is not JSON has some
/// number, too.
pub(super) fn values_at_most(text: &[u8], max: usize) -> bool {
    let (mut count, mut in_string, mut escaped) = (1_usize, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b',' | b'[' | b'{' if !in_string => count += 1,
            _ => {}
        }
    }
    count <= max
}

/// One array or object that the spot is in.
enum Around {
    Array(usize),
    /// The member that was named last.
    Object(Option<String>),
}

/// The JSON Pointer (RFC 6901) of the value at a line and column of a text that is JSON up to there. Both count from
/// one, columns in bytes, as the parser does.
pub(super) fn pointer(text: &[u8], line: usize, column: usize) -> String {
    let before: usize =
        text.split_inclusive(|byte| *byte == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    let end = (before + column.saturating_sub(1)).min(text.len());
    let mut around: Vec<Around> = Vec::new();
    let mut at = 0;
    while at < end {
        match text[at] {
            b'[' => around.push(Around::Array(0)),
            b'{' => around.push(Around::Object(None)),
            b']' | b'}' => {
                around.pop();
            }
            b',' => match around.last_mut() {
                Some(Around::Array(index)) => *index += 1,
                Some(Around::Object(name)) => *name = None,
                None => {}
            },
            b'"' => {
                let start = at;
                at += 1;
                while at < end && text[at] != b'"' {
                    at += if text[at] == b'\\' { 2 } else { 1 };
                }
                if let Some(Around::Object(name @ None)) = around.last_mut()
                    && let Some(Ok(found)) = text.get(start..=at).map(serde_json::from_slice::<String>)
                {
                    *name = Some(found);
                }
            }
            _ => {}
        }
        at += 1;
    }
    let mut pointer = String::new();
    for step in around {
        match step {
            Around::Array(index) => pointer.push_str(&format!("/{index}")),
            Around::Object(Some(name)) => {
                pointer.push('/');
                pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
            }
            // Between members.
            Around::Object(None) => {}
        }
    }
    pointer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spot(text: &str) -> String {
        let error = serde_json::from_str::<serde_json::Value>(text).unwrap_err();
        pointer(text.as_bytes(), error.line(), error.column())
    }

    #[test]
    fn a_syntax_error_is_pointed_at() {
        for (text, expected) in [
            ("nope", ""),
            ("{\"a\": nope}", "/a"),
            ("{\"a\": 1, \"b\": [1, 2, x]}", "/b/2"),
            ("{\"a\": {\"b/c~\": tru}}", "/a/b~1c~0"),
            ("{\n  \"a\": [\n    {\"deep\": 01}\n  ]\n}", "/a/0/deep"),
            ("{\"quote\\\"d\": ?}", "/quote\"d"),
            ("{\"a\": [1, [2, 3], ]}", "/a/2"),
            ("{\"a\": 1, b}", ""),
            ("{\"a\": ", "/a"),
        ] {
            assert_eq!(spot(text), expected, "{text}");
        }
    }

    #[test]
    fn nothing_is_read_past_the_end() {
        for text in [&b"{\"a\\"[..], b"\"", b"\"\\", b"", b"[[[[", b"]]}}", b"{\"\xff\": "] {
            for column in 0..20 {
                let _ = pointer(text, 1, column);
                let _ = pointer(text, 9, column);
            }
        }
    }

    #[test]
    fn values_are_counted_outside_of_strings() {
        assert!(values_at_most(b"[1, 2, \",,,[[[\\\",\"]", 4));
        assert!(!values_at_most(b"[1, 2, 3]", 3));
        assert!(!values_at_most(&b"[".repeat(100), 50));
    }
}

//! A message as a line.

/// `LEVEL message`. Line breaks and other control characters are escaped: a message is one line, and cannot pretend to
/// be two.
pub fn line(level: &str, message: &str) -> String {
    let mut line = String::with_capacity(level.len() + message.len() + 1);
    line.push_str(level);
    line.push(' ');
    for character in message.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line() {
        assert_eq!(line("info", "7 Stück"), "info 7 Stück");
        assert_eq!(line("warn", "a\nerror b\u{1b}[2J"), "warn a\\nerror b\\u{1b}[2J");
    }
}

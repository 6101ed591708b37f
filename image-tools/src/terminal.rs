//! What strangers wrote, on its way to a person: an image's names and a registry's words may hold what a terminal obeys.

/// One line, whatever is in it: every control character is a space.
pub fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The same as a part of a sentence: trimmed, and not long.
pub fn printable(text: &str) -> String {
    let line = line(text);
    let mut short: String = line.trim().chars().take(200).collect();
    if short.len() < line.trim().len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_that_a_terminal_obeys() {
        assert_eq!(line("a\n\u{1b}]0;b\u{7}\u{9b}2J\u{7f}ä"), "a  ]0;b  2J ä");
        assert_eq!(printable(" a\tb\r\n"), "a b");
        assert_eq!(printable(&"ä".repeat(201)), format!("{}…", "ä".repeat(200)));
    }
}

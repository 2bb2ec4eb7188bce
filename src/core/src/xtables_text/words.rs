//! Words of a rule line, quoted as the iptables programs do it.

/// Far more than any rule of ours or of a sane administrator has.
const MAX_WORDS: usize = 1024;

/// Splits a line at blanks; a word may be in double quotes with backslash escapes. `None` for an
/// open quote or too many words.
pub(crate) fn split(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = line.chars().peekable();
    loop {
        while rest.next_if(|c| is_blank(*c)).is_some() {}
        let Some(first) = rest.peek() else { return Some(words) };
        if words.len() == MAX_WORDS {
            return None;
        }
        let quoted = *first == '"';
        let mut word = String::new();
        if quoted {
            rest.next();
            loop {
                match rest.next()? {
                    '"' => break,
                    '\\' => word.push(rest.next()?),
                    c => word.push(c),
                }
            }
        } else {
            while let Some(c) = rest.next_if(|c| !is_blank(*c)) {
                word.push(c);
            }
        }
        words.push(word);
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// Appends a word, in quotes where it needs them. What is not printable ASCII would end or corrupt
/// the line; it becomes `?`.
pub(super) fn push(line: &mut String, word: &str) {
    if !line.is_empty() {
        line.push(' ');
    }
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '\\' | '!' | '#');
    if !word.is_empty() && word.chars().all(plain) {
        line.push_str(word);
        return;
    }
    line.push('"');
    for c in word.chars() {
        match c {
            '"' | '\\' | '\'' => line.extend(['\\', c]),
            ' ' => line.push(' '),
            c if c.is_ascii_graphic() => line.push(c),
            _ => line.push('?'),
        }
    }
    line.push('"');
}

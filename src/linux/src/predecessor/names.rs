//! The names that the Go version gives to its objects.

/// Letters of a name: the first of base32(sha256("namespace/name")).
const NAME_LETTERS: usize = 24;

/// Whether this is a name of a Mapping's objects.
pub(super) fn is_mapping_name(name: &str) -> bool {
    name.len() == NAME_LETTERS && name.bytes().all(|b| matches!(b, b'A'..=b'Z' | b'2'..=b'7'))
}

/// Whether a chain of this name is the Go version's, wherever it is.
pub(super) fn is_chain(name: &str) -> bool {
    name.starts_with("SNM-") || name.strip_prefix("MAP-").is_some_and(is_mapping_name)
}

/// Whether a set of this name is the Go version's, whoever refers to it.
pub(super) fn is_target_set(name: &str) -> bool {
    name.strip_prefix("DNAT-").is_some_and(is_mapping_name)
}

/// The chain that a rule jumps or goes to.
pub(super) fn jump_target(rule: &str) -> Option<&str> {
    option_values(rule, &["-j", "-g"]).last()
}

/// The sets that a rule matches.
pub(super) fn matched_sets(rule: &str) -> impl Iterator<Item = &str> {
    option_values(rule, &["--match-set"])
}

/// The mark that a rule of the Go version sets, where value and mask are equal.
pub(super) fn mark_set(rule: &str) -> Option<u32> {
    let (value, mask) = option_values(rule, &["--set-xmark"]).last()?.split_once('/')?;
    let number = |text: &str| u32::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    number(value).filter(|mark| number(mask) == Some(*mark))
}

/// The word after each of these options. Words in quotes, which may hold anything, are skipped.
fn option_values<'a>(
    rule: &'a str,
    options: &'static [&'static str],
) -> impl Iterator<Item = &'a str> {
    let unquoted = rule.split('"').step_by(2);
    unquoted
        .flat_map(|part| {
            let words = part.split_ascii_whitespace();
            words.clone().zip(words.skip(1)).filter(|(option, _)| options.contains(option))
        })
        .map(|(_, value)| value)
}

//! A fuzzer's bytes as a sequence of choices, one byte each, so that little input goes far.

use arbitrary::Unstructured;

/// Characters that a text is at most long.
const MAX_TEXT: usize = 48;

/// Choices to come. Beyond the input's end every choice is the first one.
pub(super) struct Choices<'a>(Unstructured<'a>);

impl<'a> Choices<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self(Unstructured::new(data))
    }

    /// Whether the input has ended.
    pub(super) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// A number below `count`, which is at least 1.
    pub(super) fn below(&mut self, count: usize) -> usize {
        self.0.int_in_range(0..=count - 1).unwrap_or(0)
    }

    pub(super) fn flag(&mut self) -> bool {
        self.below(2) == 1
    }

    /// True once in `count` times.
    pub(super) fn rarely(&mut self, count: usize) -> bool {
        self.below(count) == count - 1
    }

    pub(super) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    /// Up to `most` of `from`, with repetitions.
    pub(super) fn some<T: Clone>(&mut self, from: &[T], most: usize) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| self.pick(from)).collect()
    }

    /// Nothing, or one of `from`.
    pub(super) fn maybe<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        self.below(from.len() + 1).checked_sub(1).map(|at| from[at].clone())
    }

    /// Any text.
    pub(super) fn text(&mut self) -> String {
        let length = self.below(MAX_TEXT + 1).min(self.0.len());
        self.0.bytes(length).map_or_else(|_| String::new(), |b| String::from_utf8_lossy(b).into())
    }

    /// Any number.
    pub(super) fn number(&mut self) -> i64 {
        self.0.arbitrary().unwrap_or_default()
    }
}

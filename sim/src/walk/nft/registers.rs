//! The registers of a traversal (`struct nft_regs`).

use smartnat_core::objects::nft::Register;

use crate::kernel::PartialKey;
use crate::walk::refusal::Refusal;

const SIZE: usize = 4 * Register::COUNT as usize;

/// Sixteen registers of four bytes. Bits of what is not modelled are unknown; whatever depends on them is
/// refused.
pub(super) struct Registers {
    bytes: [u8; SIZE],
    known: [u8; SIZE],
}

/// Bytes of which some bits may be unknown: those that are 0 in `known`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) bytes: Vec<u8>,
    pub(super) known: Vec<u8>,
}

impl Value {
    /// All of it is known.
    pub(super) fn known(bytes: &[u8]) -> Self {
        let mut value = Self::default();
        value.add(bytes);
        value
    }

    /// Known bytes follow.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.known.resize(self.bytes.len(), u8::MAX);
    }

    /// Bytes follow that are not modelled.
    pub(super) fn add_unknown(&mut self, count: usize) {
        self.bytes.resize(self.bytes.len() + count, 0);
        self.known.resize(self.bytes.len(), 0);
    }

    /// A byte follows of which the bits of `mask` are known.
    pub(super) fn add_bits(&mut self, byte: u8, mask: u8) {
        self.bytes.push(byte & mask);
        self.known.push(mask);
    }

    /// Some of its bytes; `None` where it is shorter.
    pub(super) fn part(&self, from: usize, length: usize) -> Option<Self> {
        let to = from.checked_add(length)?;
        let (bytes, known) = (self.bytes.get(from..to)?, self.known.get(from..to)?);
        Some(Self { bytes: bytes.to_vec(), known: known.to_vec() })
    }
}

impl Registers {
    pub(super) fn new() -> Self {
        Self { bytes: [0; SIZE], known: [0; SIZE] }
    }

    /// The rule was checked: its values fit.
    fn range(register: Register, length: usize) -> std::ops::Range<usize> {
        let from = (usize::from(register.0) * 4).min(SIZE);
        from..(from + length).min(SIZE)
    }

    /// Stores a value, padded with zeros to whole registers.
    pub(super) fn store(&mut self, register: Register, value: &Value) {
        let whole = Self::range(register, value.bytes.len().next_multiple_of(4));
        self.bytes[whole.clone()].fill(0);
        self.known[whole].fill(u8::MAX);
        let range = Self::range(register, value.bytes.len());
        self.bytes[range.clone()].copy_from_slice(&value.bytes[..range.len()]);
        self.known[range.clone()].copy_from_slice(&value.known[..range.len()]);
    }

    /// What is there, as far as it is known.
    pub(super) fn load(&self, register: Register, length: usize) -> PartialKey<'_> {
        let range = Self::range(register, length);
        PartialKey { bytes: &self.bytes[range.clone()], known: &self.known[range] }
    }

    /// What is there, if all of it is known.
    pub(super) fn exact(&self, register: Register, length: usize) -> Result<&[u8], Refusal> {
        let range = Self::range(register, length);
        if self.known[range.clone()].iter().all(|byte| *byte == u8::MAX) {
            return Ok(&self.bytes[range]);
        }
        Refusal::not_modelled("a rule that depends on bits which packets do not have here")
    }

    /// Four bytes in the host's order.
    pub(super) fn number(&self, register: Register) -> Result<u32, Refusal> {
        let bytes = self.exact(register, 4)?;
        Ok(bytes.try_into().map(u32::from_ne_bytes).unwrap_or_default())
    }
}

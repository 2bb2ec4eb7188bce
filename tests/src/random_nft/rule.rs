//! Rules.

use smartnat_core::model::Family;
use smartnat_core::objects::nft::{
    CtKey, LookupResult, MetaKey, NatKind, NftBase, NftChainKind, NftData, NftExpr, NftName,
    NftRule, NftSetSpec, NftType, NftVerdict, PayloadBase, Register, SetUpdate,
};
use smartnat_core::objects::{BuiltinHook, RejectWith};

use super::RandomNft;

/// Expressions of a rule under way, with the first register that is free.
#[derive(Default)]
struct Draft {
    expressions: Vec<NftExpr>,
    free: u8,
}

impl Draft {
    fn push(&mut self, expression: NftExpr) {
        self.expressions.push(expression);
    }

    /// Registers for so many bytes; the first ones again where none are left.
    fn take(&mut self, bytes: usize) -> Register {
        let count = u8::try_from(bytes.div_ceil(4)).unwrap_or(Register::COUNT);
        if self.free + count > Register::COUNT {
            self.free = 0;
        }
        self.free += count;
        Register(self.free - count)
    }

    /// Goes on for packets of a family alone.
    fn of(&mut self, family: Family) {
        let to = self.take(1);
        let number = if family == Family::V4 { 2 } else { 10 };
        self.push(NftExpr::Meta { key: MetaKey::NfProto, to });
        self.push(NftExpr::Compare { from: to, negated: false, value: [number].into() });
    }
}

impl RandomNft {
    /// A rule for a base chain, or for one that leads to chains of `below` alone.
    pub(super) fn rule(&mut self, below: &[&str], base: Option<NftBase>) -> NftRule {
        let mut draft = Draft::default();
        for _ in 0..self.rng.u8(0..3) {
            match self.rng.u8(0..5) {
                0 | 1 => self.compared(&mut draft),
                2 => self.marked(&mut draft),
                _ => self.looked_up(&mut draft),
            }
        }
        self.ending(&mut draft, below, base);
        if !self.tame && self.one_in(12) {
            self.spoil(&mut draft);
        }
        let comment = self.one_in(8).then(|| "a comment".into());
        NftRule { expressions: draft.expressions, comment }
    }

    /// Something of the packet is, or is not, so.
    fn compared(&mut self, draft: &mut Draft) {
        let kinds = [
            NftType::Mark,
            NftType::Protocol,
            NftType::Port,
            NftType::Ipv4,
            NftType::Ipv6,
            NftType::InterfaceName,
        ];
        let negated = self.rng.bool();
        if self.one_in(3) {
            return self.state(draft, negated);
        }
        let kind = self.pick(&kinds);
        let from = self.read(draft, kind);
        let mut value = self.field(kind);
        if kind == NftType::Ipv4 && self.rng.bool() {
            let mask = [255, 255, 255, 0];
            value.iter_mut().zip(mask).for_each(|(byte, mask)| *byte &= mask);
            let (mask, xor) = (mask.into(), [0; 4].into());
            draft.push(NftExpr::Bitwise { from, to: from, mask, xor });
        }
        draft.push(NftExpr::Compare { from, negated, value: value.into() });
    }

    /// Something of its connection.
    fn state(&mut self, draft: &mut Draft, negated: bool) {
        let from = draft.take(4);
        match self.rng.u8(0..4) {
            0 => {
                draft.push(NftExpr::Ct { key: CtKey::Direction, to: from });
                draft.push(NftExpr::Compare { from, negated, value: [0].into() });
            }
            1 => {
                draft.push(NftExpr::DestinationType { to: from });
                let value = 2_u32.to_ne_bytes().into();
                draft.push(NftExpr::Compare { from, negated, value });
            }
            number => {
                let (key, bit) = if number == 2 {
                    (CtKey::State, self.pick(&[1, 2, 4, 8, 6]))
                } else {
                    (CtKey::Status, self.pick(&[2, 8, 16, 32]))
                };
                draft.push(NftExpr::Ct { key, to: from });
                let mask = u32::to_ne_bytes(bit).into();
                draft.push(NftExpr::Bitwise { from, to: from, mask, xor: [0; 4].into() });
                draft.push(NftExpr::Compare { from, negated, value: [0; 4].into() });
            }
        }
    }

    /// A mark changes.
    fn marked(&mut self, draft: &mut Draft) {
        let from = self.read(draft, NftType::Mark);
        if self.rng.bool() {
            let (mask, xor) = (self.field(NftType::Mark), self.field(NftType::Mark));
            draft.push(NftExpr::Bitwise { from, to: from, mask: mask.into(), xor: xor.into() });
        }
        let of_packet = self.rng.bool();
        draft.push(if of_packet { NftExpr::SetMark { from } } else { NftExpr::SetCtMark { from } });
    }

    /// Something is looked up, or remembered.
    fn looked_up(&mut self, draft: &mut Draft) {
        let (set, spec) = self.set();
        let families = [NftType::Ipv4, NftType::Ipv6].into_iter().zip(Family::ALL);
        for (kind, family) in families {
            if spec.key.contains(&kind) {
                draft.of(family);
            }
        }
        draft.free = 0;
        let key = Register(0);
        for kind in &spec.key {
            self.read_bare(draft, *kind);
        }
        if spec.dynamic && self.rng.bool() {
            return self.remembered(draft, set, &spec, key);
        }
        let result = match &spec.data {
            NftData::Nothing => LookupResult::Membership { negated: self.rng.bool() },
            NftData::Verdict => LookupResult::Verdict,
            NftData::Values(types) => {
                let bytes = types.iter().map(|kind| kind.size().next_multiple_of(4)).sum();
                LookupResult::Value(draft.take(bytes))
            }
        };
        let result = if !self.tame && self.one_in(16) { LookupResult::Verdict } else { result };
        draft.push(NftExpr::Lookup { set, key, result });
        let LookupResult::Value(from) = result else { return };
        if spec.data == NftData::Values(vec![NftType::Mark]) {
            draft.push(NftExpr::SetMark { from });
        }
    }

    fn remembered(&mut self, draft: &mut Draft, set: NftName, spec: &NftSetSpec, key: Register) {
        let value = match &spec.data {
            NftData::Values(_) => Some(self.read_bare(draft, NftType::Mark)),
            _ => None,
        };
        let update = if self.one_in(4) { SetUpdate::Delete } else { SetUpdate::Update };
        let timeout_millis = spec.timeout.filter(|_| self.rng.bool()).map(|_| 600_000);
        draft.push(NftExpr::Dynset { set, update, key, value, timeout_millis });
    }

    /// What becomes of the packet; perhaps nothing.
    fn ending(&mut self, draft: &mut Draft, below: &[&str], base: Option<NftBase>) {
        use NftVerdict::{Accept, Continue, Drop, Goto, Jump, Return};
        let translates = base.is_some_and(|base| base.kind == NftChainKind::Nat);
        if translates && self.rng.bool() || (!self.tame && self.one_in(16)) {
            return self.translated(draft, base);
        }
        let verdict = match self.rng.u8(0..14) {
            0 => Accept,
            1 => Drop,
            2 => Return,
            3 => Continue,
            4..7 if !below.is_empty() => Jump(self.pick(below).into()),
            7..9 if !below.is_empty() => Goto(self.pick(below).into()),
            9 => return draft.push(NftExpr::Counter),
            10 if base.is_some_and(|base| may_reject(base.hook)) || !self.tame => {
                return self.rejected(draft);
            }
            _ => return,
        };
        draft.push(NftExpr::Verdict(verdict));
    }

    fn rejected(&mut self, draft: &mut Draft) {
        if self.rng.bool() {
            return draft.push(NftExpr::Reject(RejectWith::PortUnreachable));
        }
        let from = self.read(draft, NftType::Protocol);
        draft.push(NftExpr::Compare { from, negated: false, value: [6].into() });
        draft.push(NftExpr::Reject(RejectWith::TcpReset));
    }

    fn translated(&mut self, draft: &mut Draft, base: Option<NftBase>) {
        let at_the_end = base.is_some_and(|base| base.hook == BuiltinHook::Postrouting);
        let at_the_end = if !self.tame && self.one_in(6) { !at_the_end } else { at_the_end };
        if at_the_end && self.rng.bool() {
            return draft.push(NftExpr::Masquerade);
        }
        let family = self.pick(&Family::ALL);
        let (set, address) = match family {
            Family::V4 => ("endpoints", Register(4)),
            Family::V6 => ("endpoints6", Register(8)),
        };
        draft.of(family);
        draft.free = 0;
        self.read_bare(draft, NftType::address(family));
        let result = LookupResult::Value(address);
        draft.push(NftExpr::Lookup { set: set.into(), key: Register(0), result });
        let kind = if at_the_end { NatKind::Source } else { NatKind::Destination };
        let port = (family == Family::V4 && !at_the_end).then_some(Register(address.0 + 1));
        draft.push(NftExpr::Nat { kind, family, address, port });
    }

    /// Reads a field where packets that have none go on to the next rule.
    fn read(&mut self, draft: &mut Draft, kind: NftType) -> Register {
        match kind {
            NftType::Ipv4 => draft.of(Family::V4),
            NftType::Ipv6 => draft.of(Family::V6),
            _ => {}
        }
        self.read_bare(draft, kind)
    }

    fn read_bare(&mut self, draft: &mut Draft, kind: NftType) -> Register {
        let to = draft.take(kind.size());
        let payload = |base, offset, length| NftExpr::Payload { base, offset, length, to };
        let source = self.rng.bool();
        draft.push(match kind {
            NftType::Ipv4 => payload(PayloadBase::Network, if source { 12 } else { 16 }, 4),
            NftType::Ipv6 => payload(PayloadBase::Network, if source { 8 } else { 24 }, 16),
            NftType::Port => payload(PayloadBase::Transport, 2, 2),
            NftType::Protocol => NftExpr::Meta { key: MetaKey::L4Proto, to },
            NftType::InterfaceName if source => NftExpr::Meta { key: MetaKey::InputName, to },
            NftType::InterfaceName => NftExpr::Meta { key: MetaKey::OutputName, to },
            NftType::Mark if !self.tame && self.one_in(4) => {
                NftExpr::Random { modulus: self.rng.u32(0..3), to }
            }
            NftType::Mark if source => NftExpr::Ct { key: CtKey::Mark, to },
            NftType::Mark | NftType::Unknown(_) => NftExpr::Meta { key: MetaKey::Mark, to },
        });
        to
    }

    /// Something in a rule is as no rule should be.
    fn spoil(&mut self, draft: &mut Draft) {
        if draft.expressions.is_empty() {
            return;
        }
        let at = self.rng.usize(0..draft.expressions.len());
        match self.rng.u8(0..3) {
            0 => {
                draft.expressions.remove(at);
            }
            1 => draft
                .expressions
                .insert(at, NftExpr::SetMark { from: Register(self.rng.u8(0..16)) }),
            _ => {
                let other = self.rng.usize(0..draft.expressions.len());
                draft.expressions.swap(at, other);
            }
        }
    }
}

fn may_reject(hook: BuiltinHook) -> bool {
    matches!(hook, BuiltinHook::Input | BuiltinHook::Forward | BuiltinHook::Output)
}

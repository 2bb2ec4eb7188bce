//! A rule, by symbolic evaluation of its registers.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::comparison::comparison;
use super::operand::{Operand, concatenation};
use super::payload::{self, Context, ICMP, ICMPV6};
use super::value::{self, Kind};
use super::{NftSets, quoted};
use crate::model::Family;
use crate::objects::RejectWith;
use crate::objects::nft::{
    LookupResult, MetaKey, NatKind, NftData, NftExpr, NftName, NftRule, NftSetSpec, NftType,
    PayloadBase, Register, SetUpdate,
};

/// A rule on one line, with its comment. Of a set that is not in `sets` the first register of the
/// key alone is shown.
pub fn render_rule(sets: &NftSets, rule: &NftRule) -> String {
    let mut evaluation = Evaluation::new(sets);
    for expression in &rule.expressions {
        evaluation.step(expression);
    }
    let mut words: Vec<String> = evaluation.statements.into_iter().flatten().collect();
    if let Some(comment) = &rule.comment {
        words.push(format!("comment {}", quoted(comment)));
    }
    words.join(" ")
}

/// What one register holds: a word of a value.
#[derive(Clone, Debug)]
struct Word {
    value: Operand,
    /// Which load it came with: two loads of the same operand are two values.
    load: usize,
    /// Four bytes each, from 0.
    index: usize,
}

struct Evaluation<'a> {
    sets: &'a NftSets,
    registers: BTreeMap<u8, Word>,
    loads: usize,
    context: Context,
    /// One that says no more than a later one was taken back.
    statements: Vec<Option<String>>,
    /// The statement that established the family, while nothing was read that implies it.
    family: Option<usize>,
    /// Likewise the protocol.
    protocol: Option<usize>,
}

impl<'a> Evaluation<'a> {
    fn new(sets: &'a NftSets) -> Self {
        Self {
            sets,
            registers: BTreeMap::new(),
            loads: 0,
            context: Context::default(),
            statements: Vec::new(),
            family: None,
            protocol: None,
        }
    }

    fn step(&mut self, expression: &NftExpr) {
        match expression {
            NftExpr::Payload { base, offset, length, to } => {
                let read = Operand::Payload { base: *base, offset: *offset, length: *length };
                self.load(*to, &read);
            }
            NftExpr::Meta { key, to } => self.load(*to, &Operand::Meta(*key)),
            NftExpr::Ct { key, to } => self.load(*to, &Operand::Ct(*key)),
            NftExpr::DestinationType { to } => self.load(*to, &Operand::DestinationType),
            NftExpr::Random { modulus, to } => self.load(*to, &Operand::Random(*modulus)),
            NftExpr::Bitwise { from, to, mask, xor } => {
                let of = Box::new(self.operand(*from));
                self.load(*to, &Operand::Bitwise { of, mask: mask.clone(), xor: xor.clone() });
            }
            NftExpr::Constant { value, to } => self.load(*to, &Operand::Constant(value.clone())),
            NftExpr::SetMark { from } => self.set_mark("meta mark", *from),
            NftExpr::SetCtMark { from } => self.set_mark("ct mark", *from),
            NftExpr::Compare { from, negated, value } => self.compare(*from, *negated, value),
            NftExpr::Lookup { set, key, result } => self.look_up(set, *key, *result),
            NftExpr::Dynset { set, update, key, value, timeout_millis } => {
                self.change_set(set, *update, *key, *value, *timeout_millis);
            }
            NftExpr::Nat { kind, family, address, port } => {
                self.translate(*kind, *family, *address, *port);
            }
            NftExpr::Masquerade => self.say("masquerade".to_owned()),
            NftExpr::Reject(with) => self.say(reject(*with).to_owned()),
            NftExpr::Counter => self.say("counter".to_owned()),
            NftExpr::Verdict(verdict) => self.say(verdict.to_string()),
            NftExpr::Unknown(name) => self.say(format!("[ {name} ]")),
        }
    }

    fn say(&mut self, text: String) {
        self.statements.push(Some(text));
    }

    fn load(&mut self, to: Register, value: &Operand) {
        self.load_words(to, value, value.size().div_ceil(4));
    }

    fn load_words(&mut self, to: Register, value: &Operand, words: usize) {
        self.loads += 1;
        for (index, register) in (to.0..Register::COUNT).take(words).enumerate() {
            let word = Word { value: value.clone(), load: self.loads, index };
            self.registers.insert(register, word);
        }
    }

    /// What a register holds the beginning of.
    fn operand(&self, register: Register) -> Operand {
        match self.registers.get(&register.0) {
            Some(word) if word.index == 0 || matches!(word.value, Operand::LookedUp { .. }) => {
                word.value.clone()
            }
            _ => Operand::Unknown(register.0),
        }
    }

    /// What so many bytes of registers hold, one after the other.
    fn operands(&self, from: Register, bytes: usize) -> Vec<Operand> {
        let mut found = Vec::new();
        let mut register = from.0;
        let end = usize::from(from.0) + bytes.div_ceil(4).max(1);
        while usize::from(register) < end && register < Register::COUNT {
            found.push(self.operand(Register(register)));
            register += self.extent(register);
        }
        if found.is_empty() {
            found.push(Operand::Unknown(from.0));
        }
        found
    }

    /// How many registers, from this one on, hold words of the same value.
    fn extent(&self, register: u8) -> u8 {
        let Some(first) = self.registers.get(&register) else { return 1 };
        let following = (register..Register::COUNT).zip(first.index..).take_while(|(r, index)| {
            self.registers.get(r).is_some_and(|w| w.load == first.load && w.index == *index)
        });
        u8::try_from(following.count()).unwrap_or(1)
    }

    fn spec(&self, set: &NftName) -> Option<&'a NftSetSpec> {
        self.sets.get(set).map(|set| &set.spec)
    }

    fn key(&mut self, set: &NftName, from: Register) -> Vec<Operand> {
        let bytes = self.spec(set).map_or(4, |spec| padded_size(&spec.key));
        let operands = self.operands(from, bytes);
        self.mention(&operands);
        operands
    }

    /// Takes back what reading these implies.
    fn mention(&mut self, operands: &[Operand]) {
        let mut reads = Vec::new();
        for operand in operands {
            operand.payloads(&mut reads, self.context);
        }
        for (base, named) in reads {
            if named {
                self.imply(base);
            }
        }
    }

    fn imply(&mut self, base: PayloadBase) {
        let implied = match base {
            PayloadBase::Network => self.family.take(),
            PayloadBase::Transport => self.protocol.take(),
        };
        if let Some(statement) = implied {
            self.statements[statement] = None;
        }
    }

    fn set_mark(&mut self, what: &str, from: Register) {
        let value = self.operand(from);
        self.mention(std::slice::from_ref(&value));
        self.say(format!("{what} set {}", value.text(self.context)));
    }

    fn compare(&mut self, from: Register, negated: bool, bytes: &[u8]) {
        let operands = self.operands(from, bytes.len());
        match self.fields(&operands, negated, bytes) {
            None => self.compare_operands(&operands, negated, bytes),
            Some(fields) => {
                for (field, value) in fields {
                    self.compare_operands(&[field], negated, value);
                }
            }
        }
    }

    /// The fields of a header that were read together, each with what it is compared with.
    fn fields<'b>(
        &self,
        operands: &[Operand],
        negated: bool,
        bytes: &'b [u8],
    ) -> Option<Vec<(Operand, &'b [u8])>> {
        let [Operand::Payload { base, offset, length }] = operands else { return None };
        if negated || bytes.len() != *length as usize {
            return None;
        }
        let parts = payload::split(self.context, *base, *offset, *length)?;
        let field = |(start, size): (u32, u32)| {
            let first = (start - offset) as usize;
            let read = Operand::Payload { base: *base, offset: start, length: size };
            Some((read, bytes.get(first..first + size as usize)?))
        };
        parts.into_iter().map(field).collect()
    }

    fn compare_operands(&mut self, operands: &[Operand], negated: bool, bytes: &[u8]) {
        self.mention(operands);
        let text = comparison(operands, negated, bytes, self.context);
        if !negated {
            self.establish(operands, bytes);
        }
        self.say(text);
    }

    /// Learns what the packet is, just before the statement that says so is added.
    fn establish(&mut self, operands: &[Operand], bytes: &[u8]) {
        let statement = self.statements.len();
        match (operands, bytes) {
            ([Operand::Meta(MetaKey::NfProto)], [number]) => {
                self.context.family = match number {
                    2 => Some(Family::V4),
                    10 => Some(Family::V6),
                    _ => None,
                };
                self.family = Some(statement);
            }
            ([Operand::Meta(MetaKey::L4Proto)], [number]) => {
                // ICMP is of one family alone.
                let implies = matches!(
                    (self.context.family, *number),
                    (Some(Family::V4), ICMP) | (Some(Family::V6), ICMPV6)
                );
                if implies {
                    self.imply(PayloadBase::Network);
                }
                self.context.protocol = Some(*number);
                self.protocol = Some(statement);
            }
            ([one @ Operand::Payload { base: PayloadBase::Network, .. }], [number])
                if one.kind(self.context) == Kind::Protocol =>
            {
                self.context.protocol = Some(*number);
            }
            _ => {}
        }
    }

    fn look_up(&mut self, set: &NftName, key: Register, result: LookupResult) {
        match result {
            LookupResult::Membership { negated } => {
                let key = self.key(set, key);
                let operator = match (negated, key.as_slice()) {
                    (true, _) => "!= ",
                    (false, [Operand::Bitwise { .. }]) => "== ",
                    _ => "",
                };
                self.say(format!("{} {operator}@{set}", concatenation(&key, self.context)));
            }
            LookupResult::Verdict => {
                let key = self.key(set, key);
                self.say(format!("{} vmap @{set}", concatenation(&key, self.context)));
            }
            LookupResult::Value(to) => {
                let spec = self.spec(set);
                let bytes = spec.map_or(4, |spec| padded_size(&spec.key));
                let words = match spec.map(|spec| &spec.data) {
                    Some(NftData::Values(types)) => padded_size(types).div_ceil(4),
                    _ => 1,
                };
                let value = Operand::LookedUp { key: self.operands(key, bytes), set: set.clone() };
                self.load_words(to, &value, words);
            }
        }
    }

    fn change_set(
        &mut self,
        set: &NftName,
        update: SetUpdate,
        key: Register,
        value: Option<Register>,
        timeout_millis: Option<u64>,
    ) {
        let key = self.key(set, key);
        let mut element = concatenation(&key, self.context);
        if let Some(millis) = timeout_millis {
            let _ = write!(element, " timeout {}", value::duration(millis));
        }
        if let Some(register) = value {
            let bytes = match self.spec(set).map(|spec| &spec.data) {
                Some(NftData::Values(types)) => padded_size(types),
                _ => 4,
            };
            let values = self.operands(register, bytes);
            self.mention(&values);
            let _ = write!(element, " : {}", concatenation_or_one(&values, self.context));
        }
        let verb = match update {
            SetUpdate::Update => "update",
            SetUpdate::Delete => "delete",
        };
        self.say(format!("{verb} @{set} {{ {element} }}"));
    }

    fn translate(
        &mut self,
        kind: NatKind,
        family: Family,
        address: Register,
        port: Option<Register>,
    ) {
        let verb = match kind {
            NatKind::Source => "snat",
            NatKind::Destination => "dnat",
        };
        let (family, size) = match family {
            Family::V4 => ("ip", 4),
            Family::V6 => ("ip6", 16),
        };
        let to = self.operand(address);
        self.mention(std::slice::from_ref(&to));
        let mut text = format!("{verb} {family} to {}", to.text(self.context));
        if let Some(port) = port.filter(|port| !self.continues(address, size, *port)) {
            let port = self.operand(port);
            self.mention(std::slice::from_ref(&port));
            let _ = write!(text, ":{}", port.text(self.context));
        }
        self.say(text);
    }

    /// Whether the port was looked up together with the address, right behind it.
    fn continues(&self, address: Register, size: usize, port: Register) -> bool {
        match (self.registers.get(&address.0), self.registers.get(&port.0)) {
            (Some(first), Some(second)) => {
                first.load == second.load && second.index == first.index + size / 4
            }
            _ => false,
        }
    }
}

fn reject(with: RejectWith) -> &'static str {
    match with {
        RejectWith::TcpReset => "reject with tcp reset",
        // nft has no more to say of what its own `reject` does.
        RejectWith::PortUnreachable => "reject",
    }
}

fn padded_size(types: &[NftType]) -> usize {
    types.iter().map(|t| t.size().next_multiple_of(4)).sum()
}

fn concatenation_or_one(operands: &[Operand], context: Context) -> String {
    match operands {
        [one] => one.text(context),
        several => concatenation(several, context),
    }
}
